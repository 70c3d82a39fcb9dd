"""Interpreter of the few pickle opcodes that a PyTorch file needs. Imports, calls and executes nothing that the file names.

A pickle is a program for a stack machine. Python's own machine runs it with every function that can be imported. This one has the
names of `trainer.weights.stored` alone, and refuses every other name and opcode. `pickletools.genops`, which splits the bytes into
opcodes and their arguments, executes nothing either.
"""

import pickletools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast

from trainer.weights.stored import Global, Storage, fill, find, find_storage

MAX_BYTES, MAX_OPCODES = 16 << 20, 500_000  # 200 tensors with optimizer state: 100 KB, 25,000 opcodes
_MAX_LINE = 1000


class Stream(Protocol):
    """What a pickle is read from."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...


class Unpickler:
    """Reads the pickles of one file. All together may have at most MAX_BYTES bytes and MAX_OPCODES opcodes."""

    def __init__(self, stream: Stream) -> None:
        self.storages: dict[str, Storage] = {}
        """All storages that the pickles name, by key."""
        self._stream, self._bytes_left, self._steps_left = stream, MAX_BYTES, MAX_OPCODES
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # what was on the stack before each open mark
        self._memo: dict[int, Any] = {}

    def read(self, size: int) -> bytes:
        """Read for pickletools, which otherwise reserves as much memory as the file states."""
        if size > self._bytes_left:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes, or states that")
        self._bytes_left -= size
        return self._stream.read(size)

    def readline(self) -> bytes:
        """Read a line for pickletools, as `read` does."""
        line = self._stream.readline(min(self._bytes_left, _MAX_LINE))
        self._bytes_left -= len(line)
        return line

    def load(self) -> Any:
        """Return the next object: dict, list, tuple, str, int, float, bool, None, StoredTensor. Raises ValueError."""
        self._stack, self._outer, self._memo = [], [], {}
        for name, argument in self._opcodes():
            self._spend(1)
            if name == "STOP":
                break
            self._step(name, argument)
        return self._pop()

    def _opcodes(self) -> Iterator[tuple[str, Any]]:
        try:
            for opcode, argument, _ in pickletools.genops(cast(Any, self)):
                yield opcode.name, argument
        except ValueError as error:
            raise ValueError(f"damaged: the pickle does not consist of opcodes ({error})") from error

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            raise ValueError(f"the pickle takes more than {MAX_OPCODES:,} steps; a file of tensors needs far fewer")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _ARGUMENTS:
            self._stack.append(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self)
        elif name in _ACTIONS_WITH_ARGUMENT:
            _ACTIONS_WITH_ARGUMENT[name](self, argument)
        elif name not in _IGNORED:
            raise ValueError(f"the pickle has the opcode {name}, which files of tensors do not need")

    def _pop(self) -> Any:
        if not self._stack:
            raise ValueError("damaged: the pickle takes a value from an empty stack")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        if not self._outer:
            raise ValueError("damaged: the pickle has no mark")
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise ValueError(f"damaged: the pickle expects a {kind.__name__} on the stack")
        return self._stack[-1]

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _push_dict(self) -> None:
        self._stack.append({})

    def _push_list(self) -> None:
        self._stack.append([])

    def _tuple(self) -> None:
        values = tuple(self._pop_to_mark())
        self._stack.append(values)

    def _tuple1(self) -> None:
        self._stack.append((self._pop(),))

    def _tuple2(self) -> None:
        second, first = self._pop(), self._pop()
        self._stack.append((first, second))

    def _tuple3(self) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self._stack.append((first, second, third))

    def _append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _extend(self) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        fill(self._top(dict), [(key, value)])

    def _set_items(self) -> None:
        values = self._pop_to_mark()
        if len(values) % 2:
            raise ValueError("damaged: a dictionary has a key without a value")
        fill(self._top(dict), zip(values[::2], values[1::2], strict=True))

    def _put(self, place: int) -> None:
        value = self._pop()
        self._memo[place] = value
        self._stack.append(value)

    def _memoize(self) -> None:
        self._put(len(self._memo))

    def _get(self, place: int) -> None:
        if place not in self._memo:
            raise ValueError("damaged: the pickle refers to an object that it does not have")
        self._stack.append(self._memo[place])

    def _global(self, names: str) -> None:
        module, _, name = names.partition(" ")
        self._stack.append(find(module, name))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("damaged: the name of a function is not a string")
        self._stack.append(find(module, name))

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not Global or isinstance(function.value, str) or type(arguments) is not tuple:
            raise ValueError("damaged: the pickle calls something that is not a function")
        # What is copied counts, so that copies of one large list do not go on for ever.
        self._spend(len(arguments) + sum(len(argument) for argument in arguments if type(argument) in (dict, list, tuple)))
        try:
            self._stack.append(function.value(*arguments))
        except TypeError as error:
            raise ValueError(f"damaged: {function.name} has {len(arguments)} arguments") from error

    def _build(self) -> None:
        self._pop()  # the attributes of a dictionary: `_metadata`, the versions of the modules
        self._top(dict)

    def _persistent_id(self) -> None:
        storage = find_storage(self._pop())
        same = self.storages.setdefault(storage.key, storage)
        if (same.dtype, same.num_elements) != (storage.dtype, storage.num_elements):
            raise ValueError(f"damaged: storage {storage.key[:40]!r} has two types or sizes")
        self._stack.append(storage)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ARGUMENTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_ARGUMENTS |= {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"}
_IGNORED = {"PROTO", "FRAME"}
_ACTIONS: dict[str, Callable[[Unpickler], None]] = {
    "MARK": Unpickler._mark,
    "EMPTY_DICT": Unpickler._push_dict,
    "EMPTY_LIST": Unpickler._push_list,
    "TUPLE": Unpickler._tuple,
    "TUPLE1": Unpickler._tuple1,
    "TUPLE2": Unpickler._tuple2,
    "TUPLE3": Unpickler._tuple3,
    "APPEND": Unpickler._append,
    "APPENDS": Unpickler._extend,
    "SETITEM": Unpickler._set_item,
    "SETITEMS": Unpickler._set_items,
    "MEMOIZE": Unpickler._memoize,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent_id,
}
_ACTIONS_WITH_ARGUMENT: dict[str, Callable[[Unpickler, Any], None]] = {
    "BINPUT": Unpickler._put,
    "LONG_BINPUT": Unpickler._put,
    "BINGET": Unpickler._get,
    "LONG_BINGET": Unpickler._get,
    "GLOBAL": Unpickler._global,
}
