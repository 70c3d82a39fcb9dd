"""Reader of the files that `torch.save` writes, without PyTorch and without executing anything.

Two formats: a zip file (PyTorch 1.6 and later) with the pickle `NAME/data.pkl` and a file `NAME/data/KEY` per storage; and the
older one, five pickles in a row (magic number, version, facts of the machine, the object, the keys of the storages), followed by
each storage as its number of elements (int64) and its bytes. Numbers are little-endian, unless the zip file has the entry
`NAME/byteorder` that says "big"; the older format is always little-endian. See torch/serialization.py.
"""

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from trainer.weights.bounded import (
    MAX_NAME_LENGTH,
    MAX_TENSORS,
    BoundedFile,
    Tensors,
    check_total,
    open_zip,
    read_entry,
    reading,
    widen_bfloat16,
)
from trainer.weights.pickles import MAX_BYTES, Unpickler
from trainer.weights.stored import ITEM_BYTES, StoredTensor

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # of the older format
PROTOCOL_VERSION = 1001
# What a training loop puts around the weights. A dictionary of the second kind counts only if nothing but a training's state is
# beside it: otherwise it is a part of a network that has this name.
WRAPPERS = ("state_dict", "model_state_dict")
PERHAPS_WRAPPERS = ("model", "net", "network", "params", "weights")
_TRAINING_STATE = re.compile(r"optim|ema|sched|scaler|loss|best|epoch|iter|step|rng|prec|acc", re.IGNORECASE)
_DATA_PKL = re.compile(r"[^/]+/data\.pkl")
_MAX_BYTE_ORDER_BYTES = 16
_MAX_DEPTH = 16
_MAX_VISITS = 200_000

Names = tuple[str, ...]
"""Keys of the dictionaries around a tensor, from outside to inside."""


def read_pytorch(path: Path) -> Tensors:
    """Return the tensors of a .pth file by their dotted names, without what wraps a state dict ("state_dict", "model").

    bfloat16 becomes float32; other types stay. Raises UserError, naming the file, if it is damaged or contains anything else than
    tensors in dictionaries. Reserves memory for the returned tensors, and little more.
    """
    path = Path(path)
    with reading(path, "PyTorch file"), BoundedFile(path) as file:
        return _read_zip(file) if file.peek(4).startswith(b"PK\x03\x04") else _read_legacy(file)


def _read_zip(file: BoundedFile) -> Tensors:
    with open_zip(file) as archive:
        pickles = [name for name in archive.namelist() if _DATA_PKL.fullmatch(name)]
        if len(pickles) != 1:
            raise ValueError(f"the zip file has {len(pickles)} entries NAME/data.pkl, expected 1")
        folder = pickles[0].removesuffix("data.pkl")
        found = _tensors_in(Unpickler(io.BytesIO(_read_small(archive, pickles[0], MAX_BYTES))).load())
        big_endian = _byte_order(archive, f"{folder}byteorder") == b"big"
        used = {tensor.storage.key: tensor.storage for tensor in found.values()}
        entries = {key: _stored(archive, f"{folder}data/{key}", storage.num_bytes) for key, storage in used.items()}
        check_total(_total(found), file.num_bytes)
        if sum(entry.file_size for entry in entries.values()) > file.num_bytes:
            raise ValueError("the entries of the zip file overlap")
        storages = {key: read_entry(archive, entry) for key, entry in entries.items()}
    return {name: _array(tensor, storages[tensor.storage.key], big_endian) for name, tensor in found.items()}


def _stored(archive: zipfile.ZipFile, name: str, num_bytes: int | None) -> zipfile.ZipInfo:
    """Return an entry that is stored without compression, as PyTorch does, and has this size. Raises ValueError otherwise."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        raise ValueError(f"damaged: the zip file lacks {name[:80]!r}") from None
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise ValueError(f"entry {name[:80]!r} is compressed, which PyTorch never does; save the file again with torch.save")
    if num_bytes is not None and entry.file_size != num_bytes:
        raise ValueError(f"damaged: entry {name[:80]!r} has {entry.file_size:,} bytes, the pickle states {num_bytes:,}")
    return entry


def _read_small(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    entry = _stored(archive, name, None)
    if entry.file_size > max_bytes:
        raise ValueError(f"entry {name[:80]!r} has {entry.file_size:,} bytes, at most {max_bytes:,} are read")
    return read_entry(archive, entry).tobytes()


def _byte_order(archive: zipfile.ZipFile, name: str) -> bytes:
    if name not in archive.namelist():
        return b"little"  # files before PyTorch 2.1
    order = _read_small(archive, name, _MAX_BYTE_ORDER_BYTES).strip()
    if order not in (b"little", b"big"):
        raise ValueError(f"damaged: the byte order is {order!r}")
    return order


def _read_legacy(file: BoundedFile) -> Tensors:
    unpickler = Unpickler(file)
    if unpickler.load() != MAGIC_NUMBER:
        raise ValueError("it does not begin with PyTorch's magic number; it is another program's pickle")
    if unpickler.load() != PROTOCOL_VERSION:
        raise ValueError(f"the version of the format is not {PROTOCOL_VERSION}")
    unpickler.load()  # facts of the machine that wrote it
    found = _tensors_in(unpickler.load())
    keys = unpickler.load()
    if type(keys) is not list or any(type(key) is not str for key in keys) or set(keys) != unpickler.storages.keys():
        raise ValueError("damaged: the list of storages is not that of the tensors")
    check_total(_total(found), file.num_bytes)
    used = {tensor.storage.key for tensor in found.values()}
    storages = {}
    for storage in map(unpickler.storages.__getitem__, keys):
        stated = int.from_bytes(file.read_array(8).tobytes(), "little")
        if stated != storage.num_elements:
            raise ValueError(f"damaged: storage {storage.key[:40]!r} has {stated:,} elements, expected {storage.num_elements:,}")
        if storage.key in used:
            storages[storage.key] = file.read_array(storage.num_bytes)
        else:
            file.skip(storage.num_bytes)
    return {name: _array(tensor, storages[tensor.storage.key], False) for name, tensor in found.items()}


def _total(found: dict[str, StoredTensor]) -> int:
    return sum(tensor.num_elements * (4 if tensor.dtype == "bfloat16" else ITEM_BYTES[tensor.dtype]) for tensor in found.values())


def _array(tensor: StoredTensor, stored: np.ndarray, big_endian: bool) -> np.ndarray:
    """Return a tensor, contiguous, as a view of the stored bytes if possible. Its bounds have been checked."""
    dtype = np.dtype({"bfloat16": "uint16", "bool": "uint8"}.get(tensor.dtype, tensor.dtype))
    if not tensor.num_elements:
        array = np.empty(tensor.size, dtype)
    else:
        steps = [step * dtype.itemsize if n > 1 else 0 for n, step in zip(tensor.size, tensor.stride, strict=True)]
        first = tensor.storage.start * ITEM_BYTES[tensor.storage.dtype] + tensor.offset * dtype.itemsize
        order = dtype.newbyteorder(">" if big_endian else "<")
        array = np.ndarray(tensor.size, order, stored, first, steps)  # checks the bounds, too
        array = np.ascontiguousarray(array, dtype).reshape(tensor.size)
    if tensor.dtype == "bfloat16":
        return widen_bfloat16(array)
    return np.asarray(array != 0) if tensor.dtype == "bool" else array


def _tensors_in(tree: Any) -> dict[str, StoredTensor]:
    """Return the tensors in nested dictionaries by their dotted names. Lists and everything that is not a tensor are skipped."""
    if type(tree) is not dict:
        what = "tensor alone" if type(tree) is StoredTensor else type(tree).__name__
        raise ValueError(f"it contains a {what}, expected a dictionary of tensors")
    found = unwrap(_flatten(tree))
    if not found:
        raise ValueError("it contains no tensors in dictionaries")
    named: dict[str, StoredTensor] = {}
    for names, tensor in found.items():
        name = ".".join(names)
        if name in named:
            raise ValueError(f"the tensor {name[:80]!r} occurs twice")
        named[name] = tensor
    return named


def _flatten(tree: dict[Any, Any]) -> dict[Names, StoredTensor]:
    """Bounded in depth, number and length of names: dictionaries can contain themselves, or each other many times over."""
    found: dict[Names, StoredTensor] = {}
    waiting: list[tuple[Names, dict[Any, Any]]] = [((), tree)]
    visits = 0
    while waiting:
        names, branch = waiting.pop()
        for key, value in branch.items():
            visits += 1
            if visits > _MAX_VISITS or len(found) > MAX_TENSORS:
                raise ValueError("it contains too many dictionaries or tensors")
            if type(value) not in (dict, StoredTensor):
                continue
            inner = (*names, str(key))
            if len(inner) > _MAX_DEPTH or sum(map(len, inner)) > MAX_NAME_LENGTH:
                raise ValueError(f"its dictionaries are nested more than {_MAX_DEPTH} deep, or have names that are too long")
            if type(value) is dict:
                waiting.append((inner, value))
            else:
                found[inner] = value
    return found


def unwrap(tensors: dict[Names, StoredTensor]) -> dict[Names, StoredTensor]:
    """Return the tensors inside the dictionaries that a training loop puts around a state dict."""
    while True:
        first = {names[0] for names in tensors if len(names) > 1}
        beside = {names[0] for names in tensors if not _TRAINING_STATE.search(names[0])}
        wrapper = next((name for name in WRAPPERS if name in first), None)
        wrapper = wrapper or next((name for name in PERHAPS_WRAPPERS if name in first and beside == {name}), None)
        if wrapper is None:
            return tensors
        tensors = {names[1:]: tensor for names, tensor in tensors.items() if names[0] == wrapper and len(names) > 1}
