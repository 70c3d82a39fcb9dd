"""Reader of Caffe's .caffemodel files: a protobuf message `NetParameter`, in its current form and in the older one ("V1").

The descriptions below have only the fields that hold weights, with the names and numbers of BVLC/caffe, src/caffe/proto/caffe.proto;
the library skips all others. A message inside another is declared as bytes and parsed on its own, after its parts were counted:
empty messages, of which a small file can have millions, would take a hundred times their size. Packed numbers, which are encoded as
bytes are, become an array without a Python object for each.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pipeline.storage.files import read_regular
from trainer.weights.bounded import MAX_DIMENSIONS, MAX_NAME_LENGTH, Tensors, check_shape, reading

MAX_BYTES = 256 << 20  # CMU's largest network has 209 MB
_MAX_LAYERS, _MAX_BLOBS, _MAX_PARTS = 10_000, 16, 1000
_MAX_SHAPE_BYTES = MAX_DIMENSIONS * 10 + 8

_INT64, _BYTES = descriptor_pb2.FieldDescriptorProto.TYPE_INT64, descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
# By message: name, number, type, and whether the field is repeated.
_FIELDS = {
    "NetParameter": [("layers", 2, _BYTES, True), ("layer", 100, _BYTES, True)],
    "LayerParameter": [("name", 1, _BYTES, False), ("blobs", 7, _BYTES, True)],
    "V1LayerParameter": [("name", 4, _BYTES, False), ("blobs", 6, _BYTES, True)],
    "BlobProto": [
        *((name, number, _INT64, False) for number, name in enumerate(("num", "channels", "height", "width"), 1)),
        *(("data", 5, _BYTES, True), ("double_data", 8, _BYTES, True), ("shape", 7, _BYTES, False)),
    ],
    "BlobShape": [("dim", 1, _INT64, True)],
}
_BLOB_NAMES = ("weight", "bias")


def read_caffemodel(path: Path) -> Tensors:
    """Return the blobs of all layers: `LAYER.weight` (also the slopes of a PReLU), `LAYER.bias`, and `LAYER.2` and so on.

    float32, or float64 if the file says so. Convolutions: (out, in, height, width). Raises UserError, naming the file, if it is damaged.
    """
    path = Path(path)
    tensors: Tensors = {}
    with reading(path, ".caffemodel file"):
        net = _parse("NetParameter", read_regular(path, MAX_BYTES))
        _check_number(len(net.layer) + len(net.layers), _MAX_LAYERS, "layers")
        for message, layers in (("LayerParameter", net.layer), ("V1LayerParameter", net.layers)):
            for layer in layers:
                _add_layer(tensors, _parse(message, layer))
    return tensors


def _add_layer(tensors: Tensors, layer: Any) -> None:
    _check_number(len(layer.name), MAX_NAME_LENGTH, "bytes of a layer's name")
    _check_number(len(layer.blobs), _MAX_BLOBS, "blobs of a layer")
    layer_name = layer.name.decode()
    for index, blob in enumerate(layer.blobs):
        name = f"{layer_name}.{_BLOB_NAMES[index] if index < len(_BLOB_NAMES) else index}"
        if not layer_name or name in tensors:
            raise ValueError(f"two layers with weights have the name {layer_name[:80]!r}, or no name")
        tensors[name] = _array(_parse("BlobProto", blob), name[:80])


def _array(blob: Any, name: str) -> np.ndarray:
    parts, dtype = (blob.double_data, np.dtype("<f8")) if blob.double_data else (blob.data, np.dtype("<f4"))
    _check_number(len(parts), _MAX_PARTS, "parts of a blob")
    data = bytearray().join(parts)  # not bytes, which cannot be written to
    if len(data) % dtype.itemsize:
        raise ValueError(f"damaged: {name!r} has {len(data):,} bytes of numbers")
    if blob.HasField("shape"):
        _check_number(len(blob.shape), _MAX_SHAPE_BYTES, "bytes of a shape")
        shape = tuple(_parse("BlobShape", blob.shape).dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
        if shape[:3] == (1, 1, 1):  # a vector, which had four dimensions too
            shape = shape[3:]
    values = np.frombuffer(data, dtype)
    if check_shape(shape) != len(values):
        raise ValueError(f"damaged: {name!r} has {len(values):,} numbers, expected {math.prod(shape):,} for the shape {shape}")
    return values.reshape(shape)


def _check_number(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise ValueError(f"damaged: {number:,} {what}; at most {limit:,} are read")


def _parse(message: str, data: bytes) -> Any:
    parsed = _messages()[message]()
    try:
        parsed.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(f"truncated or damaged ({error})") from error
    return parsed


@cache
def _messages() -> dict[str, Any]:
    """Return the classes of the messages in _FIELDS by name."""
    scalar = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="trainer/weights/caffe.proto", package="trainer.weights.caffe", syntax="proto2"
    )
    for message, fields in _FIELDS.items():
        added = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            added.field.add(
                name=name, number=number, type=kind, label=scalar.LABEL_REPEATED if repeated else scalar.LABEL_OPTIONAL
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}")) for name in _FIELDS}
