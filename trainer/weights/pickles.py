"""Interpreter of the few pickle opcodes that a PyTorch file needs. Imports, calls and executes nothing that the file names.

A pickle is a program for a stack machine. Python's own runs it with any function that can be imported. This one knows the names in
_GLOBALS alone, and builds dictionaries, lists, tuples, numbers, strings and descriptions of tensors from them. It refuses every
other name and opcode. `pickletools.genops`, which splits the bytes into opcodes and their arguments, executes nothing either.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

from trainer.weights.bounded import check_shape

MAX_BYTES, MAX_OPCODES = 16 << 20, 1_000_000  # 200 tensors with optimizer state: 100 KB, 25,000 opcodes


class Stream(Protocol):
    """What a pickle is read from."""

    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Storage:
    """Numbers of one type in a row, which tensors are views of."""

    dtype: str
    """A NumPy type, or "bfloat16"."""
    key: str
    num_elements: int
    start: int = 0
    """Where it starts in the stored numbers, and `length`, how many they are: old files have storages that are part of another."""
    length: int = 0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file describes it: shape `size`, steps `stride` and `offset` in elements of its storage. All is checked."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    num_elements: int


class _Global(NamedTuple):
    """What a name in the file stands for: a function of this module, or the name of a NumPy type."""

    name: str
    value: Callable[..., Any] | str


class Unpickler:
    """Reads the pickles of one file. All together may have at most MAX_BYTES bytes and MAX_OPCODES opcodes."""

    def __init__(self, stream: Stream) -> None:
        self.storages: dict[str, Storage] = {}
        self._stream, self._bytes_left, self._opcodes_left = stream, MAX_BYTES, MAX_OPCODES
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below the marks
        self._memo: dict[int, Any] = {}

    def read(self, size: int) -> bytes:
        """Read for pickletools, which otherwise reserves as much memory as the file states."""
        if size > self._bytes_left:
            raise ValueError(f"damaged: an argument or the whole pickle has more than {MAX_BYTES:,} bytes")
        self._bytes_left -= size
        return self._stream.read(size)

    def readline(self) -> bytes:
        """Read a line for pickletools, as `read` does."""
        line = self._stream.readline(self._bytes_left)
        self._bytes_left -= len(line)
        return line

    def load(self) -> Any:
        """Return the next object: dict, list, tuple, str, int, float, bool, None or StoredTensor. Raises ValueError."""
        self._stack, self._outer, self._memo = [], [], {}
        for opcode, argument, _ in pickletools.genops(self):
            self._opcodes_left -= 1
            if self._opcodes_left < 0:
                raise ValueError(f"the pickle has more than {MAX_OPCODES:,} opcodes")
            if opcode.name == "STOP":
                return self._pop()
            self._step(opcode.name, argument)
        raise ValueError("the pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _ARGUMENTS:
            self._stack.append(argument)
        elif name in _OPCODES:
            _OPCODES[name](self, argument)
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
            raise ValueError(f"damaged: the pickle expects a {kind.__name__}")
        return self._stack[-1]

    def _mark(self, _: Any) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _make_tuple(self, length: int, _: Any) -> None:
        values = [self._pop() for _ in range(length)]
        self._stack.append(tuple(reversed(values)))

    def _make_tuple_to_mark(self, _: Any) -> None:
        values = self._pop_to_mark()
        self._stack.append(tuple(values))

    def _append(self, _: Any) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _extend(self, _: Any) -> None:
        values = self._pop_to_mark()
        self._top(list).extend(values)

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        _fill(self._top(dict), [(key, value)])

    def _set_items(self, _: Any) -> None:
        values = self._pop_to_mark()
        _fill(self._top(dict), list(zip(values[::2], values[1::2], strict=True)))

    def _put(self, place: int) -> None:
        self._memo[place] = self._pop()
        self._stack.append(self._memo[place])

    def _memoize(self, _: Any) -> None:
        self._put(len(self._memo))

    def _get(self, place: int) -> None:
        if place not in self._memo:
            raise ValueError("damaged: the pickle refers to an object that it does not have")
        self._stack.append(self._memo[place])

    def _global(self, names: str) -> None:
        self._stack.append(_find(*names.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise ValueError("damaged: the name of a function is not a string")
        self._stack.append(_find(module, name))

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not _Global or isinstance(function.value, str) or type(arguments) is not tuple:
            raise ValueError("damaged: the pickle calls something that is not a function")
        try:
            self._stack.append(function.value(*arguments))
        except TypeError as error:
            raise ValueError(f"damaged: {function.name} has {len(arguments)} arguments") from error

    def _build(self, _: Any) -> None:
        self._pop()  # the attributes of a dictionary: `_metadata`, versions of the modules
        self._top(dict)

    def _persistent_id(self, _: Any) -> None:
        storage = _storage(self._pop())
        same = self.storages.setdefault(storage.key, storage)
        if (same.dtype, same.num_elements) != (storage.dtype, storage.num_elements):
            raise ValueError(f"damaged: storage {storage.key[:40]!r} has two types or sizes")
        self._stack.append(storage)


def _find(module: str, name: str) -> _Global:
    full = f"{module}.{name}"
    if full not in _GLOBALS:
        raise ValueError(
            f"it contains {full[:120]!r}, which is refused: only tensors in dictionaries are read, and nothing is executed. If you "
            "trust the file, load it with PyTorch and save the tensors alone: torch.save(model.state_dict(), FILE)"
        )
    return _Global(full, _GLOBALS[full])


def _fill(target: dict[Any, Any], items: list[tuple[Any, Any]]) -> None:
    for key, value in items:
        # Hashing other objects can recurse or collide without end.
        if type(key) not in (str, int) or (type(key) is int and abs(key) >= 1 << 60):
            raise ValueError(
                f"a dictionary has a key of type {type(key).__name__}; only strings and integers of 60 bits are read"
            )
        target[key] = value


def _dictionary(items: Any = ()) -> dict[Any, Any]:
    """OrderedDict(items) and Counter(items): items is a dictionary, or (as Python 2 writes) a list of pairs."""
    if type(items) not in (dict, list, tuple):
        raise ValueError(f"damaged: a dictionary is made of type {type(items).__name__}")
    pairs = list(items.items()) if isinstance(items, dict) else items
    if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise ValueError("damaged: a dictionary is not made of pairs")
    result: dict[Any, Any] = {}
    _fill(result, [(key, value) for key, value in pairs])
    return result


def _size(values: Any) -> tuple[Any, ...]:
    if type(values) not in (tuple, list):
        raise ValueError("damaged: a size is not a tuple")
    return tuple(values)


def _parameter(tensor: Any, requires_grad: Any = None, hooks: Any = None) -> StoredTensor:
    if type(tensor) is not StoredTensor:
        raise ValueError("damaged: a parameter is not made of a tensor")
    return tensor


def _storage(persistent_id: Any) -> Storage:
    """Check ("storage", type, key, device, number of elements[, None or (key of the view, start, length)])."""
    if type(persistent_id) is not tuple or len(persistent_id) not in (5, 6) or persistent_id[0] != "storage":
        raise ValueError("the pickle refers to something outside itself that is not a storage of a tensor")
    _, kind, key, _, num_elements, view = (*persistent_id, None)[:6]
    if type(kind) is not _Global or not isinstance(kind.value, str) or not kind.name.endswith("Storage"):
        raise ValueError("damaged: a storage has no type")
    if type(key) is not str or type(num_elements) is not int or not 0 <= num_elements < 1 << 48:
        raise ValueError("damaged: a storage has no key, or no size")
    if view is None:
        return Storage(kind.value, key, num_elements, 0, num_elements)
    if type(view) is not tuple or len(view) != 3 or any(type(number) is not int or number < 0 for number in view[1:]):
        raise ValueError(f"damaged: a view of storage {key[:40]!r}")
    if view[1] + view[2] > num_elements:
        raise ValueError(f"damaged: a view reaches beyond storage {key[:40]!r}")
    return Storage(kind.value, key, num_elements, view[1], view[2])


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    return _checked(storage, "", offset, size, stride)


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> StoredTensor:
    if type(dtype) is not _Global or not isinstance(dtype.value, str):
        raise ValueError("damaged: a tensor has no type")
    return _checked(storage, dtype.value, offset, size, stride)


def _checked(storage: Any, dtype: str, offset: Any, size: Any, stride: Any) -> StoredTensor:
    """Return a tensor of this type (of its storage's, if empty) that lies within its storage."""
    if type(storage) is not Storage:
        raise ValueError("damaged: a tensor has no storage")
    size, stride = _size(size), _size(stride)
    num_elements = check_shape(size)
    if len(stride) != len(size) or any(type(n) is not int or n < 0 for n in (offset, *stride)):
        raise ValueError(f"damaged: a tensor of shape {size} has an offset or strides that cannot be")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    length = storage.length
    if dtype and dtype != storage.dtype:
        if storage.dtype != "uint8":
            raise ValueError("damaged: a tensor and its storage differ in type")
        length //= ITEM_BYTES[dtype]
    if num_elements and last >= length:
        raise ValueError(f"damaged: a tensor of shape {size} reaches beyond storage {storage.key[:40]!r} of {length:,} elements")
    return StoredTensor(storage, dtype or storage.dtype, offset, size, stride, num_elements)


# Types by their names in PyTorch.
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint64": 8,
    "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
_GLOBALS: dict[str, Callable[..., Any] | str] = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,  # milestones of a learning rate
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.storage.UntypedStorage": "uint8",
    **{f"torch.{name}Storage": dtype for name, dtype in _STORAGES.items()},
    **{f"torch.{dtype}": dtype for dtype in ITEM_BYTES},
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_ARGUMENTS = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_IGNORED = {"PROTO", "FRAME"}
_OPCODES: dict[str, Callable[[Unpickler, Any], None]] = {
    "MARK": Unpickler._mark,
    "EMPTY_DICT": lambda machine, _: machine._stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine._stack.append([]),
    "TUPLE": Unpickler._make_tuple_to_mark,
    **{f"TUPLE{n}": partial(lambda n, machine, _: machine._make_tuple(n, _), n) for n in (1, 2, 3)},
    "APPEND": Unpickler._append,
    "APPENDS": Unpickler._extend,
    "SETITEM": Unpickler._set_item,
    "SETITEMS": Unpickler._set_items,
    "BINPUT": Unpickler._put,
    "LONG_BINPUT": Unpickler._put,
    "MEMOIZE": Unpickler._memoize,
    "BINGET": Unpickler._get,
    "LONG_BINGET": Unpickler._get,
    "GLOBAL": Unpickler._global,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent_id,
}
