"""What the names in PyTorch's pickles stand for: dictionaries, and tensors as views of stored numbers, described and not yet read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trainer.weights.bounded import MAX_ELEMENTS, check_shape

# Bytes of a number, by NumPy's name of its type, which is PyTorch's too. NumPy has no bfloat16.
ITEM_BYTES = {"bfloat16": 2} | {
    name: np.dtype(name).itemsize
    for name in (
        *("float64", "float32", "float16", "int64", "int32", "int16", "int8"),
        *("uint64", "uint32", "uint16", "uint8", "bool", "complex64", "complex128"),
    )
}
_STORAGES = {
    "Float": "float32", "Double": "float64", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64", "Int": "int32",
    "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64", "ComplexDouble": "complex128",
}  # fmt: skip


@dataclass(frozen=True)
class Storage:
    """Numbers of one type in a row, which tensors are views of."""

    dtype: str
    """A key of ITEM_BYTES."""
    key: str
    num_elements: int
    """In the file."""
    start: int
    """Old files have storages that are a part of another: `length` elements from `start`."""
    length: int

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return self.num_elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies within its storage: shape `size`, steps `stride`, `offset`, all in elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    num_elements: int


class Global(NamedTuple):
    """A name in a pickle, and what it stands for here: a function of this module, or a key of ITEM_BYTES."""

    name: str
    value: Callable[..., Any] | str


def find(module: str, name: str) -> Global:
    """Return what a name stands for. Raises ValueError with the name if it is unknown."""
    full = f"{module}.{name}"
    if full not in _GLOBALS:
        raise ValueError(
            f"it contains {full[:100]!r}, which is refused: only tensors in dictionaries are read, and nothing is executed. If you "
            "trust the file, load it with PyTorch and save the tensors alone: torch.save(model.state_dict(), FILE)"
        )
    return Global(full, _GLOBALS[full])


def find_storage(persistent_id: Any) -> Storage:
    """Check ("storage", type, key, device, number of elements[, None or (key of the view, start, length)]). Raises ValueError."""
    if type(persistent_id) is not tuple or len(persistent_id) not in (5, 6) or persistent_id[0] != "storage":
        raise ValueError("the pickle refers to something outside itself that is not a storage of a tensor")
    _, kind, key, _, num_elements, view = (*persistent_id, None)[:6]
    if type(kind) is not Global or not isinstance(kind.value, str) or not kind.name.endswith("Storage"):
        raise ValueError("damaged: a storage has no type")
    if type(key) is not str or not _is_count(num_elements):
        raise ValueError("damaged: a storage has no key, or no size")
    if view is None:
        return Storage(kind.value, key, num_elements, 0, num_elements)
    if type(view) is not tuple or len(view) != 3 or not all(map(_is_count, view[1:])) or view[1] + view[2] > num_elements:
        raise ValueError(f"damaged: a view does not fit into storage {key[:40]!r}")
    return Storage(kind.value, key, num_elements, view[1], view[2])


def fill(target: dict[Any, Any], items: Iterable[tuple[Any, Any]]) -> None:
    """Set items of a dictionary. Raises ValueError for keys other than str and int: hashing them can recurse or collide without end."""
    for key, value in items:
        if type(key) is not str and (type(key) is not int or abs(key) >= 1 << 60):
            raise ValueError(
                f"a dictionary has a key of type {type(key).__name__}; only strings and integers of 60 bits are read"
            )
        target[key] = value


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_ELEMENTS


def _dictionary(items: Any = ()) -> dict[Any, Any]:
    """OrderedDict(items) and Counter(items). `items` is a dictionary, or (as Python 2 writes) a list of pairs."""
    pairs = items.items() if type(items) is dict else items
    if type(items) not in (dict, list, tuple) or any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
        raise ValueError("damaged: an ordered dictionary is not made of pairs")
    result: dict[Any, Any] = {}
    fill(result, ((key, value) for key, value in pairs))
    return result


def _size(values: Any) -> tuple[Any, ...]:
    if type(values) not in (tuple, list):
        raise ValueError("damaged: a size is not a tuple")
    return tuple(values)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> StoredTensor:
    if type(tensor) is not StoredTensor:
        raise ValueError("damaged: a parameter is not made of a tensor")
    return tensor


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any = None, hooks: Any = None, flags: Any = None
) -> StoredTensor:
    if type(storage) is not Storage:
        raise ValueError("damaged: a tensor has no storage")
    return _checked(storage, storage.dtype, storage.length, offset, size, stride, flags)


def _tensor_v3(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, flags: Any = None
) -> StoredTensor:
    """The type is that of the tensor; the storage has bytes."""
    if type(storage) is not Storage or storage.dtype != "uint8" or type(dtype) is not Global or not isinstance(dtype.value, str):
        raise ValueError("damaged: a tensor has no storage, or no type")
    return _checked(storage, dtype.value, storage.length // ITEM_BYTES[dtype.value], offset, size, stride, flags)


def _checked(storage: Storage, dtype: str, length: int, offset: Any, size: Any, stride: Any, flags: Any) -> StoredTensor:
    if flags:  # {"conj": True} or {"neg": True}
        raise ValueError("a tensor is stored as the conjugate or the negative of its numbers; save a copy of it, tensor.clone()")
    size, stride = _size(size), _size(stride)
    num_elements = check_shape(size)
    if len(stride) != len(size) or not all(map(_is_count, (offset, *stride))):
        raise ValueError(f"damaged: a tensor of shape {size} has impossible strides or an impossible offset")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if num_elements and last >= length:
        raise ValueError(f"damaged: a tensor of shape {size} reaches beyond storage {storage.key[:40]!r} of {length:,} elements")
    return StoredTensor(storage, dtype, offset, size, stride, num_elements)


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
