"""Reader of Caffe's .caffemodel files: a protobuf message `NetParameter`, in its current form and in the older one ("V1").

The description below has only the fields that hold weights, with the names and numbers of BVLC/caffe, src/caffe/proto/caffe.proto;
the library skips all others.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from pipeline.files import read_regular
from trainer.weights.bounded import MAX_NAME_LENGTH, Tensors, check_shape, reading

MAX_BYTES = 1 << 30  # CMU's largest network has 209 MB; protobuf itself ends at 2 GB
_FIELDS: dict[str, list[tuple[str, int, str, bool]]] = {
    # Message: name, number, type (another message, or a scalar), repeated.
    "BlobShape": [("dim", 1, "int64", True)],
    "BlobProto": [
        ("num", 1, "int64", False),
        ("channels", 2, "int64", False),
        ("height", 3, "int64", False),
        ("width", 4, "int64", False),
        # Packed numbers are encoded as bytes are. Declared as bytes, they become an array without a Python object for each.
        ("data", 5, "bytes", True),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, "bytes", True),
    ],
    "LayerParameter": [("name", 1, "bytes", False), ("blobs", 7, "BlobProto", True)],
    "V1LayerParameter": [("name", 4, "bytes", False), ("blobs", 6, "BlobProto", True)],
    "NetParameter": [("layers", 2, "V1LayerParameter", True), ("layer", 100, "LayerParameter", True)],
}
_LEGACY_SHAPE = ("num", "channels", "height", "width")
_BLOBS = ("weight", "bias")


def read_caffemodel(path: Path) -> Tensors:
    """Return the blobs of all layers: `LAYER.weight` (also the slopes of a PReLU), `LAYER.bias`, and `LAYER.2` and so on.

    float32, or float64 if the file says so. Convolutions: (out, in, height, width). Raises UserError, naming the file, if it is damaged.
    """
    path = Path(path)
    with reading(path, ".caffemodel file"):
        net = _net_parameter()()
        try:
            net.ParseFromString(read_regular(path, MAX_BYTES))
        except DecodeError as error:
            raise ValueError(f"truncated or damaged ({error})") from error
        tensors: Tensors = {}
        for layer in (*net.layer, *net.layers):
            layer_name = layer.name.decode()[: MAX_NAME_LENGTH + 1]
            for index, blob in enumerate(layer.blobs):
                name = f"{layer_name}.{_BLOBS[index] if index < len(_BLOBS) else index}"
                if not layer_name or len(layer_name) > MAX_NAME_LENGTH or name in tensors:
                    raise ValueError(f"two layers have the name {layer_name[:80]!r}, or it is empty or too long")
                tensors[name] = _array(blob, name)
    return tensors


def _array(blob: Any, name: str) -> np.ndarray:
    data, dtype = (blob.double_data, np.dtype("<f8")) if blob.double_data else (blob.data, np.dtype("<f4"))
    joined = bytearray().join(data)  # as a rule one part; a bytearray, so that the array can be written to
    if len(joined) % dtype.itemsize:
        raise ValueError(f"damaged: {name[:80]!r} has {len(joined):,} bytes of numbers")
    values = np.frombuffer(joined, dtype)
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim[:100])
    else:
        shape = tuple(getattr(blob, name) for name in _LEGACY_SHAPE)
        if shape[:3] == (1, 1, 1):  # a vector, which had four dimensions too
            shape = shape[3:]
    if check_shape(shape) != len(values):
        raise ValueError(
            f"damaged: {name[:80]!r} has {len(values):,} numbers, expected {math.prod(shape):,} for the shape {shape}"
        )
    return values.reshape(shape)


@cache
def _net_parameter() -> Any:
    """Return the class of the message NetParameter."""
    scalar = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="trainer/weights/caffe.proto", package="trainer.weights.caffe", syntax="proto2"
    )
    for message, fields in _FIELDS.items():
        added = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = added.field.add(name=name, number=number, label=scalar.LABEL_REPEATED if repeated else scalar.LABEL_OPTIONAL)
            if kind in _FIELDS:
                field.type, field.type_name = scalar.TYPE_MESSAGE, f".{file.package}.{kind}"
            else:
                field.type = {"int64": scalar.TYPE_INT64, "bytes": scalar.TYPE_BYTES}[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.NetParameter"))
