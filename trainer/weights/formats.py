"""Reader of weight files of every supported format, which it recognizes by their content, whatever their name."""

import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import deserialize, safe_open

from pipeline.errors import UserError
from trainer.weights.bounded import (
    MAX_TENSORS,
    BoundedFile,
    Tensors,
    check_shape,
    check_total,
    open_zip,
    read_entry,
    reading,
    widen_bfloat16,
)
from trainer.weights.caffe import read_caffemodel
from trainer.weights.pytorch import read_pytorch

_LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # opcode LONG1 with PyTorch's magic number
# Tags of protobuf that may begin a NetParameter, or follow its name: layers (V1), input, input_dim (packed or not), force_backward,
# state, debug_info, input_shape, layer.
_CAFFE_FIELDS = (b"\x12", b"\x1a", b"\x20", b"\x22", b"\x28", b"\x32", b"\x38", b"\x42", b"\xa2\x06")
_PARAMETER = b"\x0a"  # field 1: a parameter in MindSpore, and its name inside
_CHECKSUM = b"c"  # after the last parameter, there may be "crc_num" and 10 bytes
_SAFETENSORS_TYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
# Beginnings of files that people give by mistake.
_FOREIGN = {
    b"<": "a web page or XML: the download failed, or the link leads to a page",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run `git lfs pull`",
    b"\x89HDF": "an HDF5 file (Keras, or .caffemodel.h5)",
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"7z\xbc\xaf": "a 7z file: unpack it first",
    b"Rar!": "a RAR file: unpack it first",
}


class WeightFile(NamedTuple):
    """The tensors of a file by name, and the format that was recognized."""

    format: str
    tensors: Tensors


def read_weights(path: Path) -> WeightFile:
    """Read PyTorch (.pth, zip and legacy), MindSpore (.ckpt), Caffe (.caffemodel), safetensors and .npz files.

    What wraps a state dict is removed: "state_dict" and its like around it, and the prefix "module." if all names have it. bfloat16
    becomes float32; other types stay. Raises UserError that names the file and what was found.
    """
    path = Path(path)
    kind = recognize(path)
    tensors = READERS[kind](path)
    if not tensors:
        raise UserError(f"{path}: this {kind} file contains no tensors")
    return WeightFile(kind, _without_prefix(tensors))


def recognize(path: Path) -> str:
    """Return the format of a file, a key of READERS. Raises UserError, saying what the file seems to be, if it is none of them."""
    with reading(path, "weight file"), BoundedFile(path) as file:
        start = file.read(64)
        if start.startswith(b"PK\x03\x04"):
            with open_zip(file) as archive:
                names = archive.namelist()
            if any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in names):
                return "PyTorch"
            if all(name.endswith(".npy") for name in names):
                return "npz"
            found = f"a zip file with {names[0][:80]!r}; expected PyTorch's data.pkl, or .npy arrays"
        elif start[:1] == b"\x80" and _LEGACY_MAGIC in start:
            return "PyTorch"
        elif start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= file.num_bytes - 8:
            return "safetensors"
        elif kind := _protobuf_kind(file, start):
            return kind
        else:
            found = _describe(start)
    raise UserError(f"{path}: not a file of weights that can be read: {found}. Supported: {', '.join(READERS)}")


def _protobuf_kind(file: BoundedFile, start: bytes) -> str | None:
    """Tell a MindSpore checkpoint from a Caffe network by the fields that begin the file.

    MindSpore has field 1 for every parameter, which begins with its name, again field 1. In Caffe, field 1 is the name of the network,
    and one of _CAFFE_FIELDS follows; a network without a name begins with those.
    """
    if start.startswith(_CAFFE_FIELDS):
        return "Caffe"
    file.seek(0)
    content = _skip_parameter(file)
    following = file.read(2)
    if content is not None and following.startswith(_CAFFE_FIELDS):
        return "Caffe"
    return "MindSpore" if content == _PARAMETER and following[:1] in (_PARAMETER, _CHECKSUM, b"") else None


def _skip_parameter(file: BoundedFile) -> bytes | None:
    """Pass over a field 1 of protobuf that has a length. Return the first byte of its content; None if it is something else."""
    position, start = file.tell(), file.read(7)
    length_bytes = next((start[1 : i + 1] for i in range(1, 6) if start[i : i + 1] < b"\x80"), b"")
    if start[:1] != _PARAMETER or not length_bytes:
        return None
    first = 1 + len(length_bytes)
    # A varint: 7 bits a byte, the lowest first.
    file.seek(position + first + sum((byte & 0x7F) << 7 * i for i, byte in enumerate(length_bytes)))
    return start[first : first + 1]


def _check_parameters(file: BoundedFile) -> None:
    """Raise ValueError if a MindSpore checkpoint is truncated or has too many parameters, before MindSpore reads all of it."""
    for _ in range(MAX_TENSORS):
        if file.tell() == file.num_bytes or file.peek(1)[:1] == _CHECKSUM:
            return
        position = file.tell()
        if _skip_parameter(file) is None or file.tell() > file.num_bytes:
            raise ValueError(f"truncated or damaged: the parameter at byte {position:,} is incomplete")
    raise ValueError(f"damaged: more than {MAX_TENSORS:,} parameters")


def _describe(start: bytes) -> str:
    for beginning, what in _FOREIGN.items():
        if start.lstrip().startswith(beginning):
            return what
    if not start:
        return "the file is empty"
    if start[:1] == b"\x80":
        return "a pickle of another program than PyTorch"
    return f"it begins with the bytes {start[:16].hex(' ')}"


def _without_prefix(tensors: Tensors) -> Tensors:
    """Remove the prefixes that torch.nn.DataParallel and torch.compile put before every name."""
    for prefix in ("module.", "_orig_mod.", "module."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _read_npz(path: Path) -> Tensors:
    with reading(path, ".npz file"), BoundedFile(path) as file, open_zip(file) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_TENSORS:
            raise ValueError(f"it contains {len(entries):,} arrays, at most {MAX_TENSORS:,} are read")
        if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
            raise ValueError("it is compressed in a way that NumPy does not write")  # and that unpacks without a limit
        check_total(sum(entry.file_size for entry in entries), file.num_bytes)
        return {entry.filename.removesuffix(".npy"): _read_npy(archive, entry) for entry in entries}


def _read_npy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """Return one array. NumPy reserves the memory that the header states, so that the header is checked first."""
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"array {entry.filename[:80]!r} has the version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        position = stream.tell()
    if dtype.hasobject or dtype.kind not in "fiubc":
        raise ValueError(f"array {entry.filename[:80]!r} contains {dtype}, not numbers")
    if check_shape(shape) * dtype.itemsize != entry.file_size - position:
        raise ValueError(
            f"damaged: array {entry.filename[:80]!r} has {entry.file_size - position:,} bytes, not the shape {shape}"
        )
    data = read_entry(archive, entry)[position:].view(dtype)
    return np.ascontiguousarray(data.reshape(shape, order="F" if fortran else "C"), dtype.newbyteorder("="))


def _read_safetensors(path: Path) -> Tensors:
    with reading(path, "safetensors file"), safe_open(path, framework="numpy") as file:
        types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # the file is no dictionary, and cannot be iterated
        if len(types) > MAX_TENSORS:
            raise ValueError(f"it contains {len(types):,} tensors, at most {MAX_TENSORS:,} are read")
        if unknown := {name: dtype for name, dtype in types.items() if dtype not in _SAFETENSORS_TYPES}:
            name, dtype = next(iter(unknown.items()))
            raise ValueError(f"tensor {name[:80]!r} has the type {dtype}, which NumPy lacks")
        if "BF16" not in types.values():
            return {name: file.get_tensor(name) for name in types}
    with reading(path, "safetensors file"):  # safe_open has checked the header; it gives no bfloat16 to NumPy
        parts = dict(deserialize(path.read_bytes()))
        return {name: _from_bytes(types[name], part["data"]).reshape(part["shape"]) for name, part in parts.items()}


def _from_bytes(dtype: str, data: bytearray) -> np.ndarray:
    if dtype == "BF16":
        return widen_bfloat16(np.frombuffer(data, np.uint16))
    return np.frombuffer(data, _SAFETENSORS_TYPES[dtype])


def _read_mindspore(path: Path) -> Tensors:
    import mindspore as ms  # the only format that needs it

    with reading(path, "MindSpore checkpoint"), BoundedFile(path) as file, tempfile.TemporaryDirectory() as folder:
        _check_parameters(file)
        named = Path(folder, "weights.ckpt")  # MindSpore reads no other suffix
        named.symlink_to(path.absolute())
        parameters = ms.load_checkpoint(str(named))
        wide = {name: p.float() if p.dtype == ms.bfloat16 else p for name, p in parameters.items() if isinstance(p, ms.Tensor)}
        return {name: p.asnumpy() for name, p in wide.items()}


READERS: dict[str, Callable[[Path], Tensors]] = {
    "PyTorch": read_pytorch,
    "MindSpore": _read_mindspore,
    "Caffe": read_caffemodel,
    "safetensors": _read_safetensors,
    "npz": _read_npz,
}
