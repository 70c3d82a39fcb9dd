"""Files of weights are recognized by content: MindSpore, Caffe, safetensors, .npz; damaged, hostile and foreign ones are refused."""

import json
import os
import struct
import tracemalloc
import zipfile
from io import BytesIO

import mindspore as ms
import numpy as np
import pytest
from caffe_files import blob, field, layer, v1_layer, write_caffemodel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pipeline.errors import UserError
from trainer.weights.formats import read_weights

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(4, 3, 2, 2)).astype(np.float32), RNG.normal(size=4).astype(np.float32)


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


# Caffe


def test_the_layers_of_caffe_networks_are_read(tmp_path):
    slopes = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    path = write_caffemodel(
        tmp_path / "pose.bin",
        layer("data", kind="Input"),
        layer("conv1_1", blob(WEIGHT), blob(BIAS)),
        layer("prelu1", blob(slopes), kind="PReLU"),
        layer("bn", blob(BIAS), blob(slopes), blob(np.array([2], np.float32)), kind="BatchNorm"),
        layer("double", blob(WEIGHT.astype(np.float64))),
    )
    kind, found = read_weights(path)
    assert kind == "Caffe"
    expected = {"conv1_1.weight": WEIGHT, "conv1_1.bias": BIAS, "prelu1.weight": slopes, "bn.weight": BIAS, "bn.bias": slopes}
    equal(found, expected | {"bn.2": np.array([2], np.float32), "double.weight": WEIGHT.astype(np.float64)})


@pytest.mark.parametrize("make_layer", [layer, v1_layer])
@pytest.mark.parametrize("name", ["pose", ""])
def test_older_caffe_networks_are_read(tmp_path, make_layer, name):
    blobs = blob(WEIGHT, legacy_shape=WEIGHT.shape), blob(BIAS, legacy_shape=(1, 1, 1, 4))
    found = read_weights(write_caffemodel(tmp_path / "vgg", make_layer("conv", *blobs), name=name))
    assert found.format == "Caffe"
    equal(found.tensors, {"conv.weight": WEIGHT, "conv.bias": BIAS})


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([layer("a", blob(BIAS, shape=(5,)))], "a.weight' has 4 numbers, expected 5"),
        ([layer("a", blob(BIAS, shape=(1 << 40, 1 << 40)))], "impossible shape"),
        ([layer("a", blob(BIAS, shape=(-4,)))], "impossible shape"),
        ([layer("a", blob(BIAS, shape=(1,) * 5000))], "5,003 bytes of a shape"),
        ([layer("a", blob(BIAS, legacy_shape=(4, 1, 1, -1)))], "impossible shape"),
        ([layer("a", field(5, b"abc") + field(7, field(1, b"\x01")))], "3 bytes of numbers"),
        ([layer("a", b"\x2d\x00\x00\x80\x3f" + field(7, field(1, b"\x01")))], "has 0 numbers, expected 1"),  # not packed
        ([layer("a", blob(BIAS)), layer("a", blob(BIAS))], "have the name 'a', or no name"),
        ([layer("", blob(BIAS))], "or no name"),
        ([layer("n" * 600, blob(BIAS))], "600 bytes of a layer's name"),
        ([layer("a\x1b[2J", blob(BIAS)), layer("a\x1b[2J", blob(BIAS))], r"a\\x1b"),
        ([layer("a", kind="Input")], "contains no tensors"),
        ([layer("a", blob(BIAS))[:-9]], "truncated or damaged"),
        ([field(100, field(1, b"\xff\xfe") + field(7, blob(BIAS)))], "decode"),
        ([field(100, b"")] * 10_001, "10,001 layers"),
        ([layer("a", *[b""] * 17)], "17 blobs of a layer"),
        ([layer("a", field(5, b"") * 1001)], "1,001 parts of a blob"),
        ([field(100, b"\x9b\x06" * 5000)], "truncated or damaged"),  # groups in groups
    ],
)
def test_damaged_caffe_networks_are_refused(tmp_path, layers, expected):
    with pytest.raises(UserError, match=expected) as error:
        read_weights(write_caffemodel(tmp_path / "a.caffemodel", *layers))
    assert str(tmp_path / "a.caffemodel") in str(error.value) and str(error.value).isprintable()


# MindSpore


def test_checkpoints_of_mindspore_are_read_under_any_name(tmp_path):
    arrays = {"network.conv.weight": WEIGHT, "conv.bias": BIAS, "step": np.array(3, np.int32)}
    ms.save_checkpoint([{"name": n, "data": ms.Tensor(v)} for n, v in arrays.items()], str(tmp_path / "a.ckpt"))
    (tmp_path / "a.ckpt").rename(tmp_path / "a.pth")
    kind, found = read_weights(tmp_path / "a.pth")
    assert kind == "MindSpore"
    equal(found, arrays)
    ms.save_checkpoint([{"name": "w", "data": ms.Tensor([1.5, -2], ms.bfloat16)}], str(tmp_path / "b.ckpt"), crc_check=True)
    equal(read_weights(tmp_path / "b.ckpt").tensors, {"w": np.array([1.5, -2], np.float32)})
    data = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(
        UserError, match=r"cut.ckpt: cannot be read as a MindSpore checkpoint: truncated or damaged: the parameter at byte 0"
    ):
        read_weights(tmp_path / "cut.ckpt")
    (tmp_path / "empty.ckpt").write_bytes(field(1, field(1, b"")) * 100_001)
    with pytest.raises(UserError, match="more than 100,000 parameters"):
        read_weights(tmp_path / "empty.ckpt")


# safetensors


def write_safetensors(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors_are_read_with_every_type(tmp_path):
    types = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]
    arrays = {f"module.{dtype}": RNG.integers(0, 2, (2, 3)).astype(dtype) for dtype in types} | {"module.scalar": np.array(2.5)}
    save_file(arrays, tmp_path / "a.bin", {"format": "pt"})
    kind, found = read_weights(tmp_path / "a.bin")
    assert kind == "safetensors"
    equal(found, {name.removeprefix("module."): array for name, array in arrays.items()})


def test_bfloat16_in_safetensors_becomes_float32(tmp_path):
    header = {
        "a": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]},
        "b": {"dtype": "U8", "shape": [2], "data_offsets": [4, 6]},
    }
    found = read_weights(write_safetensors(tmp_path / "a", header, struct.pack("<HH", 0x3FC0, 0xC000) + b"\x01\x02")).tensors
    equal(found, {"a": np.array([[1.5], [-2]], np.float32), "b": np.array([1, 2], np.uint8)})


@pytest.mark.parametrize(
    ("header", "data", "expected"),
    [
        ({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}, b"ab", "'a' has the type F8_E4M3"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"abcd", "safetensors file"),
        ({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b"abcd", "safetensors file"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, b"abcd", "safetensors file"),
        (b'{"a": ' + b"[" * 5000 + b"}", b"", "safetensors file"),
        ({}, b"", "contains no tensors"),
    ],
)
def test_damaged_safetensors_are_refused(tmp_path, header, data, expected):
    with pytest.raises(UserError, match=expected):
        read_weights(write_safetensors(tmp_path / "a", header, data))


# .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files_are_read(tmp_path, save):
    arrays = {
        "conv.weight": WEIGHT,
        "fortran": np.asfortranarray(WEIGHT[0, 0]),
        "half": BIAS.astype(np.float16),
        "n": np.array(3),
    }
    save(tmp_path / "a.npz", big=BIAS.astype(">f4"), **arrays)
    kind, found = read_weights(tmp_path / "a.npz")
    assert kind == "npz" and found["big"].dtype == np.float32
    equal(found, arrays | {"big": BIAS})


def npy(shape=(4,), descr="<f4", data=bytes(16)):
    stream = BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue() + data


@pytest.mark.parametrize(
    ("content", "compression", "expected"),
    [
        (npy(shape=(1 << 40,)), zipfile.ZIP_STORED, "has 16 bytes, not the shape"),
        (npy(shape=(-4,)), zipfile.ZIP_STORED, "impossible shape"),
        (npy(descr="|O"), zipfile.ZIP_STORED, "contains object, not numbers"),
        (npy(descr="|S4"), zipfile.ZIP_STORED, "not numbers"),
        (npy(data=bytes(8)), zipfile.ZIP_STORED, "has 8 bytes, not the shape"),
        (npy(shape=(17 << 20,), data=bytes(68 << 20)), zipfile.ZIP_DEFLATED, "would unpack to 71,303,"),
        (npy(), zipfile.ZIP_BZIP2, "in a way that NumPy does not write"),
        (npy(), zipfile.ZIP_LZMA, "in a way that NumPy does not write"),
        (b"\x93NUMPY\x03\x00" + npy()[8:], zipfile.ZIP_STORED, r"version \(3, 0\)"),
        (b"not an array", zipfile.ZIP_STORED, "magic string"),
        (npy().replace(b"'<f4'", b"eval("), zipfile.ZIP_STORED, "cannot be read as a .npz file"),
    ],
)
def test_hostile_npz_files_are_refused(tmp_path, content, compression, expected):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("w.npy", content)
    tracemalloc.start()
    with pytest.raises(UserError, match=expected):
        read_weights(tmp_path / "a.npz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


# Other files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00}.", "a pickle of another program"),
        (b'name: "pose"\nlayer {', "begins with the bytes 6e 61"),
        (b"\x0a\xff\xff\xff\xff\x7f", "begins with the bytes 0a ff"),
        (b"\x0a" * 4, "MindSpore|begins with"),
        (b"PK\x03\x04" + bytes(100), "not a zip file"),
        (bytes(1000), "begins with the bytes 00"),
    ],
)
def test_other_files_are_named(tmp_path, content, expected):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UserError, match=expected) as error:
        read_weights(tmp_path / "a.pth")
    assert str(error.value).startswith(f"{tmp_path / 'a.pth'}: ")


def test_zip_files_of_something_else_and_what_is_no_file_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("images/1.jpg", b"")
    os.mkfifo(tmp_path / "pipe")
    for name, expected in {"a.zip": "'images/1.jpg'", "pipe": "is a pipe", "": "is a folder", "absent": "No such file"}.items():
        with pytest.raises(UserError, match=expected):
            read_weights(tmp_path / name)


def original(kind, folder):
    if kind == "caffemodel":
        return write_caffemodel(
            folder / kind, layer("conv", blob(WEIGHT), blob(BIAS)), v1_layer("old", blob(BIAS, legacy_shape=(1, 1, 1, 4)))
        )
    if kind == "safetensors":
        save_file({"w": WEIGHT, "b": BIAS}, folder / kind)
    else:
        np.savez_compressed(folder / "a.npz", w=WEIGHT, b=BIAS)
        (folder / "a.npz").rename(folder / kind)
    return folder / kind


@pytest.mark.parametrize("kind", ["caffemodel", "safetensors", "npz"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_and_cut_bytes_give_tensors_or_a_clear_error(tmp_path, kind, data):
    path = original(kind, tmp_path)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        tensors = read_weights(path).tensors
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert sum(array.nbytes for array in tensors.values()) < 1000
