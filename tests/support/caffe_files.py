"""Writes Caffe's .caffemodel files byte by byte, without protobuf: BVLC/caffe, src/caffe/proto/caffe.proto."""

import numpy as np


def varint(number: int) -> bytes:
    """Return 7 bits a byte, the lowest first; negative numbers as 64 bits."""
    number &= (1 << 64) - 1
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(data) + bytes([number])


def field(number: int, content: bytes | int) -> bytes:
    """Return a field: an integer (wire type 0), or bytes (wire type 2)."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(array: np.ndarray, *, legacy_shape=None, shape=None) -> bytes:
    """Return a BlobProto. `legacy_shape`: num, channels, height, width instead of a BlobShape."""
    if legacy_shape:
        sizes = b"".join(field(number, size) for number, size in enumerate(legacy_shape, 1))
    else:
        sizes = field(7, field(1, b"".join(map(varint, array.shape if shape is None else shape))))
    return field(8 if array.dtype == np.float64 else 5, array.tobytes()) + sizes


def layer(name: str, *blobs: bytes, kind="Convolution") -> bytes:
    body = field(1, name.encode()) + field(2, kind.encode()) + field(3, b"bottom") + field(4, name.encode())
    return field(100, body + b"".join(field(7, content) for content in blobs) + field(106, field(1, 4)))


def v1_layer(name: str, *blobs: bytes) -> bytes:
    return field(
        2, field(2, b"bottom") + field(4, name.encode()) + field(5, 4) + b"".join(field(6, content) for content in blobs)
    )


def write_caffemodel(path, *layers: bytes, name="pose"):
    path.write_bytes((field(1, name.encode()) if name else b"") + b"".join(layers))
    return path
