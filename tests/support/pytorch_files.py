"""Writes PyTorch's files without PyTorch: pickles put together from opcodes, in a zip file or in the legacy format.

Values: str, int, bool, None, dict, tuple, and bytes, which are opcodes that push one object.
"""

import struct
import zipfile

import numpy as np

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001
KINDS = {
    "float64": "Double", "float32": "Float", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long", "int32": "Int", "int16": "Short",
    "int8": "Char", "uint8": "Byte", "bool": "Bool", "complex64": "ComplexFloat", "complex128": "ComplexDouble",
}  # fmt: skip


def value(item) -> bytes:
    """Return the opcodes that push a value."""
    if isinstance(item, bytes):
        return item
    if item is None or isinstance(item, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[item]
    if isinstance(item, int):
        number = item.to_bytes(item.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(number)]) + number
    if isinstance(item, str):
        return b"X" + struct.pack("<I", len(item.encode())) + item.encode()
    if isinstance(item, tuple):
        return b"(" + b"".join(map(value, item)) + b"t"
    return b"}(" + b"".join(value(key) + value(inner) for key, inner in item.items()) + b"u"


def name(full: str) -> bytes:
    """Return the opcode that pushes what an importable name stands for."""
    module, _, attribute = full.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def call(function: str, *arguments) -> bytes:
    return name(function) + value(arguments) + b"R"


def storage(dtype, key, num_elements, *view) -> bytes:
    return value(("storage", name(f"torch.{KINDS[dtype]}Storage"), key, "cuda:0", num_elements, *view)) + b"Q"


def tensor(dtype="float32", key="0", num_elements=6, size=(2, 3), stride=(3, 1), offset=0) -> bytes:
    stored = storage(dtype, key, num_elements)
    return call("torch._utils._rebuild_tensor_v2", stored, offset, size, stride, False, call("collections.OrderedDict"))


def whole(array, key="0", dtype=None) -> bytes:
    """Return a tensor that is the whole of a storage."""
    stride = tuple(step // array.itemsize for step in np.empty(array.shape, array.dtype).strides)
    return tensor(dtype or array.dtype.name, key, array.size, array.shape, stride)


def pickled(body) -> bytes:
    return b"\x80\x02" + value(body) + b"."


def write_zip(path, body, storages, byteorder="little", folder="archive", compression=zipfile.ZIP_STORED):
    """`storages`: bytes or array by key."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", pickled(body))
        if byteorder:
            archive.writestr(f"{folder}/byteorder", byteorder)
        for key, stored in storages.items():
            archive.writestr(f"{folder}/data/{key}", bytes(stored))
        archive.writestr(f"{folder}/version", "3\n")
    return path


def write_legacy(path, body, storages, num_elements=None):
    """`num_elements`: by key, where it is not the length of the storage as an array."""
    facts = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {"int": 4}}
    keys = b"](" + b"".join(map(value, storages)) + b"e"
    parts = [pickled(part) for part in (MAGIC_NUMBER, PROTOCOL_VERSION, facts, body, keys)]
    for key, stored in storages.items():
        parts += [struct.pack("<q", (num_elements or {}).get(key, len(stored))), bytes(stored)]
    path.write_bytes(b"".join(parts))
    return path
