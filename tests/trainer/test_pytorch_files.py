"""Files of PyTorch: every type and view in both formats; hostile and damaged files end in a clear error, at little cost."""

import os
import struct
import sys
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytorch_files import KINDS, call, name, pickled, storage, tensor, value, whole, write_legacy, write_zip

from pipeline.errors import UserError
from trainer.weights.formats import read_weights
from trainer.weights.pytorch import read_pytorch

WRITERS = {"zip": write_zip, "legacy": write_legacy}
SIX = np.arange(6, dtype=np.float32)
MAX_SECONDS, MAX_BYTES = 8, 160 << 20


def read(path):
    return read_weights(path).tensors


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("format", WRITERS)
def test_every_type_is_read_in_both_formats(tmp_path, dtype, format):
    numbers = np.random.default_rng(0).integers(-100, 100, 6)
    if dtype == "bfloat16":  # the upper half of a float32
        expected = numbers.astype(np.float32)
        stored = (expected.view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = expected = numbers.astype(dtype)
    found = read(WRITERS[format](tmp_path / "a.bin", {"w": tensor(dtype)}, {"0": stored}))
    assert found["w"].dtype == expected.dtype and found["w"].flags.writeable
    np.testing.assert_array_equal(found["w"], expected.reshape(2, 3))


def test_bfloat16_is_exact_for_every_bit_pattern(tmp_path):
    bits = np.arange(1 << 16, dtype=np.uint16)
    found = read(write_zip(tmp_path / "a.pth", {"w": whole(bits, dtype="bfloat16")}, {"0": bits}))["w"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), bits.astype(np.uint32) << 16)


def test_unsigned_types_are_read_from_untyped_storages(tmp_path):
    stored = np.arange(6, dtype=np.uint16)
    untyped = value(("storage", name("torch.storage.UntypedStorage"), "0", "cpu", 12)) + b"Q"
    arguments = (untyped, 1, (2, 2), (2, 1), False, call("collections.OrderedDict"), name("torch.uint16"))
    found = read(write_zip(tmp_path / "a.pth", {"w": call("torch._utils._rebuild_tensor_v3", *arguments)}, {"0": stored}))["w"]
    assert found.dtype == np.uint16 and found.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("format", WRITERS)
@pytest.mark.parametrize(
    ("size", "stride", "offset", "expected"),
    [
        ((3, 2), (1, 3), 0, [[0, 3], [1, 4], [2, 5]]),
        ((2, 2), (3, 2), 1, [[1, 3], [4, 6]]),
        ((3,), (0,), 4, [4, 4, 4]),
        ((), (), 5, 5),
        ((0, 3), (3, 1), 0, np.empty((0, 3))),
        ((1, 2), (1 << 40, 1), 5, [[5, 6]]),  # the step of a dimension of size 1 is never taken
        ((7,), (1,), 0, range(7)),
    ],
    ids=["transposed", "every second", "expanded", "scalar", "empty", "size 1", "whole"],
)
def test_views_of_one_storage(tmp_path, format, size, stride, offset, expected):
    stored = np.arange(7, dtype=np.float32)
    body = {"w": tensor(num_elements=7, size=size, stride=stride, offset=offset), "all": tensor("float32", "0", 7, (7,), (1,))}
    found = read(WRITERS[format](tmp_path / "a.pth", body, {"0": stored}))
    np.testing.assert_array_equal(found["w"], np.array(expected, np.float32))
    assert found["w"].shape == size and found["w"].flags.c_contiguous
    np.testing.assert_array_equal(found["all"], stored)


def test_old_files_have_storages_that_are_parts_of_another(tmp_path):
    part = storage("float32", "0", 6, ("1", 2, 4))
    body = {"w": call("torch._utils._rebuild_tensor", part, 1, (2,), (1,))}
    assert read(write_legacy(tmp_path / "a.pth", body, {"0": SIX}))["w"].tolist() == [3, 4]
    body = {"w": call("torch._utils._rebuild_tensor", part, 3, (2,), (1,))}
    with pytest.raises(UserError, match="beyond storage '0' of 4 elements"):
        read(write_legacy(tmp_path / "b.pth", body, {"0": SIX}))


@pytest.mark.parametrize(("order", "mark"), [("big", ">"), ("little", "<"), ("", "<")])
@pytest.mark.parametrize("dtype", ["float32", "int16", "complex64", "bool", "bfloat16"])
def test_the_order_of_bytes_is_followed(tmp_path, order, mark, dtype):
    stored = np.arange(6).astype("uint16" if dtype == "bfloat16" else dtype)
    path = write_zip(
        tmp_path / "a.pth", {"w": tensor(dtype)}, {"0": stored.astype(stored.dtype.newbyteorder(mark))}, byteorder=order
    )
    found = read(path)["w"].ravel()
    expected = (stored.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else stored
    np.testing.assert_array_equal(found, expected)


def test_an_unknown_order_of_bytes_is_refused(tmp_path):
    with pytest.raises(UserError, match="byte order is b'middle'"):
        read(write_zip(tmp_path / "a.pth", {"w": tensor()}, {"0": SIX}, byteorder="middle"))


T = tensor()


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"conv.weight": T, "bn": T}, "conv.weight bn"),
        ({"state_dict": {"a": T}, "optimizer": {"state": {0: {"exp_avg": T}}}, "epoch": 3}, "a"),
        ({"state_dict": {"module.a": T, "module.b.c": T}}, "a b.c"),
        ({"module.a": T, "b": T}, "module.a b"),
        ({"_orig_mod.module.a": T}, "a"),
        ({"model": {"a": T}, "optimizer": {"state": {0: T}}, "best_acc": T}, "a"),
        ({"model": {"state_dict": {"a": T}}}, "a"),
        ({"model": {"a": T}, "head": {"b": T}}, "model.a head.b"),
        ({"model.0.0.weight": T, "cpm.align": T}, "model.0.0.weight cpm.align"),
        ({"net": {"conv": {"weight": T, "bias": T}}, "head": {"weight": T}}, "net.conv.weight net.conv.bias head.weight"),
        ({"a": call("torch._utils._rebuild_parameter", T, True, call("collections.OrderedDict"))}, "a"),
        (call("collections.OrderedDict", b"](" + b"](" + value("a") + T + b"ee"), "a"),  # as Python 2 writes it
        (call("collections.OrderedDict") + value("a") + T + b"s" + value({"_metadata": {"": {"version": 1}}}) + b"b", "a"),
        ({"a": T, "milestones": call("collections.Counter", {100: 1}), "size": call("torch.Size", (1, 2)), "list": b"]"}, "a"),
    ],
)
@pytest.mark.parametrize("format", WRITERS)
def test_what_wraps_a_state_dict_is_removed(tmp_path, body, names, format):
    found = read(WRITERS[format](tmp_path / "a.pth", body, {"0": SIX}))
    assert sorted(found) == sorted(names.split())


def test_only_what_is_returned_is_read(tmp_path):
    """Adam's moments have twice the size of the weights."""
    big = np.zeros(4 << 20, np.uint8)
    body = {"state_dict": {"w": T}, "optimizer": {"m": whole(big, "1")}}
    for format, write in WRITERS.items():
        path = write(tmp_path / format, body, {"1": big, "0": SIX})
        tracemalloc.start()
        assert read(path)["w"].sum() == 15
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
        tracemalloc.stop()


def test_reading_takes_no_more_memory_than_the_tensors(tmp_path):
    big = np.zeros(4 << 20, np.float32)
    for format, write in WRITERS.items():
        path = write(tmp_path / format, {"w": whole(big)}, {"0": big})
        tracemalloc.start()
        read_pytorch(path)
        assert tracemalloc.get_traced_memory()[1] < 1.2 * big.nbytes
        tracemalloc.stop()


def refused(full):
    return rf"'{full}', which is refused: only tensors"


def laughing_dictionaries(levels, width=50, leaf=T):
    """Push a dictionary of dictionaries, of which there are width ** levels if every reference is followed."""
    body = value({"w": leaf})
    for _ in range(levels):
        body = b"}(" + value("0") + body + b"q\x00" + b"".join(value(str(n)) + b"h\x00" for n in range(1, width)) + b"u"
    return body


BIG = 1 << 62
COMMAND = value(("touch executed",))
HOSTILE = {
    # Code.
    "os.system": (name("os.system") + COMMAND + b"R", refused("os.system")),
    "posix.system": (name("posix.system") + COMMAND + b"R", refused("posix.system")),
    "builtins.eval": (call("builtins.eval", "1"), refused("builtins.eval")),
    "builtins.getattr": (call("builtins.getattr", {}, "x"), refused("builtins.getattr")),
    "subprocess.Popen": (call("subprocess.Popen", "x"), refused("subprocess.Popen")),
    "a name inside a known module": (call("torch.hub.load", "x"), refused("torch.hub.load")),
    "a pickle inside": (call("torch.storage._load_from_bytes", "x"), refused("torch.storage._load_from_bytes")),
    "in an unused place": ({"w": T, "optimizer": name("os.system")}, refused("os.system")),
    "by opcode STACK_GLOBAL": (value("os") + value("system") + b"\x93" + COMMAND + b"R", refused("os.system")),
    "STACK_GLOBAL of numbers": (value(1) + value(2) + b"\x93", "name of a function is not a string"),
    "a path of attributes": (
        value("collections") + value("OrderedDict.__init__") + b"\x93",
        refused("collections.OrderedDict.__init__"),
    ),
    "by opcode INST": (b"(" + value("x") + b"ios\nsystem\n", "opcode INST"),
    "by opcode OBJ": (b"(" + name("collections.OrderedDict") + b"o", "opcode OBJ"),
    "by opcode NEWOBJ": (name("collections.OrderedDict") + b")\x81", "opcode NEWOBJ"),
    "by opcode EXT1": (b"\x82\x01", "opcode EXT1"),
    "PERSID": (b"Pos\n", "opcode PERSID"),
    "a name with a terminal's escape": (name("a\x1b[2J.b"), r"a\\x1b\[2J"),
    "a whole network": (name("__main__.Net") + b")\x81", refused("__main__.Net")),
    "an object of NumPy": (
        {"best": name("numpy.core.multiarray.scalar")},
        "numpy.core.multiarray.scalar.*save the tensors alone",
    ),
    # Calls of what is known, with what is wrong.
    "calling a type": (name("torch.FloatStorage") + b")R", "calls something that is not a function"),
    "calling a string": (value("os.system") + b")R", "calls something that is not a function"),
    "arguments that are no tuple": (name("collections.OrderedDict") + b"}R", "calls something"),
    "too many arguments": (call("torch.Size", 1, 2, 3), "torch.Size has 3 arguments"),
    "pairs that are none": (call("collections.OrderedDict", (1, 2)), "not made of pairs"),
    "a number as pairs": (call("collections.OrderedDict", 5), "not made of pairs"),
    "a parameter of nothing": ({"a": call("torch._utils._rebuild_parameter", None, True, None)}, "not made of a tensor"),
    "attributes for a tensor": (T + value({"__class__": 1}) + b"b", "expects a dict"),
    # Storages and tensors.
    "no storage": (call("torch._utils._rebuild_tensor_v2", 1, 0, (1,), (1,), False, None), "has no storage"),
    "an unknown reference": (value(("module", name("torch.FloatStorage"), "0", "cpu", 1)) + b"Q", "not a storage"),
    "a reference to a string": (value("x") + b"Q", "not a storage"),
    "a storage of 2^62 elements": ({"w": tensor(num_elements=BIG)}, "no size"),
    "a storage of -1 elements": ({"w": tensor(num_elements=-1)}, "no size"),
    "a storage of 10^12 elements": (
        {"w": tensor(num_elements=10**12, size=(10**12,), stride=(1,))},
        "states 4,000,000,000,000|would unpack to 4,000,000,000,000",
    ),
    "a storage of two types": ({"w": T, "v": tensor("int32")}, "two types"),
    "a tensor outside": ({"w": tensor(size=(3, 3))}, "beyond storage '0' of 6 elements"),
    "an offset outside": ({"w": tensor(offset=1)}, "beyond storage"),
    "a negative offset": ({"w": tensor(offset=-1)}, "impossible strides or an impossible offset"),
    "a huge offset": ({"w": tensor(offset=BIG)}, "impossible"),
    "a negative stride": ({"w": tensor(stride=(-3, 1))}, "impossible strides"),
    "a huge stride": ({"w": tensor(stride=(BIG, 1))}, "impossible strides"),
    "a negative size": ({"w": tensor(size=(-2, 3))}, "impossible shape"),
    "a huge size": ({"w": tensor(size=(BIG, BIG), stride=(0, 0))}, "impossible shape"),
    "a huge and empty size": ({"w": tensor(size=(0, BIG, BIG), stride=(0, 0, 0))}, "impossible shape"),
    "1,000 dimensions": ({"w": tensor(size=(1,) * 1000, stride=(1,) * 1000)}, "1,000 dimensions, at most 16"),
    "a size that is a string": ({"w": tensor(size=("a", 3))}, "not an integer"),
    "a size that is true": ({"w": tensor(size=(True, 3))}, "not an integer"),
    "a size of laughing dictionaries": ({"w": tensor(size=laughing_dictionaries(40) + b"\x85")}, "not an integer"),
    "more strides than dimensions": ({"w": tensor(stride=(1, 1, 1))}, "impossible strides"),
    "expanded to 4 GB": ({"w": tensor(size=(1 << 30,), stride=(0,))}, "would unpack to 4,294,967,296"),
    "1,000 names for 1 MB": (
        {str(n): tensor(size=(1 << 18,), stride=(0,)) for n in range(1000)},
        "would unpack to 1,048,576,000",
    ),
    "a conjugate": (
        {"w": call("torch._utils._rebuild_tensor_v2", storage("complex64", "0", 6), 0, (6,), (1,), False, None, {"conj": True})},
        "conjugate",
    ),
    # Bombs.
    "a memo of 4 billion places": (b"}r\xff\xff\xff\xff" + value("w") + T + b"s", None),
    "a place that is empty": (b"h\x07", "refers to an object that it does not have"),
    "bytes without end": (b"\x8e" + struct.pack("<Q", 1 << 60), "more than 16,777,216 bytes, or states that"),
    "a string without end": (b"\x8d" + struct.pack("<Q", 1 << 60), "more than 16,777,216 bytes"),
    "a string longer than the pickle": (b"X\x00\x00\xff\x00", "expected 16711680 bytes"),
    "a number of 2 GB": (b"\x8b\xff\xff\xff\x7f", "more than 16,777,216 bytes"),
    "a frame of 2^60 bytes": (b"\x95" + struct.pack("<Q", 1 << 60) + value({"w": T}), None),
    "a buffer of protocol 5": (b"\x97", "opcode NEXT_BUFFER"),
    "a bytearray of protocol 5": (b"\x96" + struct.pack("<Q", 4) + b"abcd", "opcode BYTEARRAY8"),
    "a line without end": (b"c" + b"a" * 100_000, "no newline"),
    "laughing dictionaries": (laughing_dictionaries(12, 50), "too many dictionaries or tensors"),
    "laughing dictionaries without tensors": (laughing_dictionaries(12, 50, 1), "too many dictionaries or tensors"),
    "a dictionary in itself": (b"}q\x00" + value("a") + b"h\x00s", "nested more than 16 deep"),
    "lists nested 100,000 deep": (b"]" * 100_000 + b"a" * 99_999, "contains a list"),
    "tuples nested 100,000 deep": (b")" + b"\x85" * 100_000, "contains a tuple"),
    "a nested tuple as a key": (b"})" + b"\x85" * 100_000 + b"Ns", "key of type tuple"),
    "colliding keys": ({n * (2**61 - 1): None for n in range(1, 3)}, "key of type int"),
    "dictionaries nested 100,000 deep": (b"}" + (value("a") + b"}") * 99_999 + b"s" * 99_999, "nested more than 16 deep"),
    "a name of 1 MB": ({"a" * (1 << 20): T}, "names that are too long"),
    "copies of a large list": (
        b"](" + b"(K\x01K\x01t" * 50_000 + b"eq\x00" + (name("collections.OrderedDict") + b"h\x00\x85R") * 1000,
        "more than 500,000 steps",
    ),
    "a million opcodes": (b"(" + b"N" * 1_000_000 + b"t", "more than 500,000 steps"),
    # Damage.
    "an empty stack": (b"s", "empty stack"),
    "no mark": (b"t", "no mark"),
    "a key without a value": (b"}(" + value("a") + b"u", "key without a value"),
    "a set item on a list": (b"]" + value("a") + b"Ns", "expects a dict"),
    "an append to a dictionary": (b"}Na", "expects a list"),
    "an unknown opcode": (b"\xff", "does not consist of opcodes"),
    "a list": (b"](" + T + b"e", "contains a list, expected a dictionary of tensors"),
    "a tensor": (T, "contains a tensor alone"),
    "no tensors": ({"a": 1}, "no tensors"),
    "two tensors of one name": ({"a.b": T, "a": {"b": T}}, "'a.b' occurs twice"),
    "text that is not UTF-8": (b"X\x02\x00\x00\x00\xff\xfe", "decode"),
}


EXPENSIVE = {
    case
    for case in HOSTILE
    if any(word in case for word in ("laughing", "000 deep", "as a key", "million", "large list", "1,000 names"))
}


@pytest.mark.parametrize(("format", "case"), [(f, c) for f in WRITERS for c in HOSTILE if f == "zip" or c not in EXPENSIVE])
def test_hostile_pickles_are_refused_by_name_at_little_cost(tmp_path, monkeypatch, format, case):
    monkeypatch.chdir(tmp_path)
    body, expected = HOSTILE[case]
    path = WRITERS[format](tmp_path / "a.pth", body, {"0": SIX})
    modules = set(sys.modules)
    tracemalloc.start()
    start = time.process_time()
    try:
        if expected is None:
            assert read(path)["w"].sum() == 15
        else:
            with pytest.raises(UserError, match=expected) as caught:
                read(path)
            assert str(path) in str(caught.value) and len(str(caught.value)) < 600 and str(caught.value).isprintable()
            assert not isinstance(
                caught.value.__cause__, KeyError | IndexError | TypeError | OverflowError | RecursionError | MemoryError
            )
    finally:
        seconds, memory = time.process_time() - start, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert seconds < MAX_SECONDS and memory < MAX_BYTES
    assert not os.path.exists("executed")
    assert not {module for module in set(sys.modules) - modules if not module.startswith(("encodings", "mindspore"))}


def entries(path, *, names=("a/data.pkl", "a/data/0"), body=None, stored=bytes(24), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for entry in names:
            archive.writestr(entry, pickled(body or {"w": T}) if entry.endswith(".pkl") else stored)
    return path


def patched(path, old, new, count=-1):
    data = path.read_bytes()
    assert old in data and len(old) == len(new)
    path.write_bytes(data.replace(old, new, count))
    return path


ZIPS = {
    "a compressed entry": (
        lambda path: entries(path, compression=zipfile.ZIP_DEFLATED),
        "is compressed, which PyTorch never does",
    ),
    "a zip bomb": (lambda path: entries(path, stored=bytes(1 << 24), compression=zipfile.ZIP_DEFLATED), "is compressed"),
    "duplicate names": (lambda path: entries(path, names=("a/data.pkl", "a/data/0", "a/data/0")), "'a/data/0' occurs 2 times"),
    "two pickles": (lambda path: entries(path, names=("a/data.pkl", "b/data.pkl")), "2 entries NAME/data.pkl"),
    "a missing storage": (lambda path: entries(path, names=("a/data.pkl",)), "lacks 'a/data/0'"),
    "a storage elsewhere": (lambda path: entries(path, names=("a/data.pkl", "b/data/0")), "lacks 'a/data/0'"),
    "a path as a key": (
        lambda path: entries(path, names=("a/data.pkl", "../data/0"), body={"w": tensor(key="../../../data/0")}),
        "lacks 'a/data/../../../data/0'",
    ),
    "a storage too short": (lambda path: entries(path, stored=b"abc"), "has 3 bytes, the pickle states 24"),
    "a storage too long": (lambda path: entries(path, stored=bytes(25)), "has 25 bytes, the pickle states 24"),
    "a changed byte": (lambda path: patched(entries(path, stored=SIX.tobytes()), SIX.tobytes(), bytes(24)), "CRC"),
    "a stated size of 1 GB": (  # in the directory, for both entries' sizes
        lambda path: patched(entries(path), struct.pack("<II", 24, 24), struct.pack("<II", 1 << 30, 1 << 30)),
        "has 1,073,741,824 bytes, the pickle states 24",
    ),
    "a pickle of 1 GB": (
        lambda path: patched(
            entries(path), struct.pack("<II", *[len(pickled({"w": T}))] * 2), struct.pack("<II", 1 << 30, 1 << 30)
        ),
        "has 1,073,741,824 bytes, at most 16,777,216",
    ),
    "a directory of 1 GB": (
        lambda path: patched(entries(path), directory_size(path), struct.pack("<I", 1 << 30)),
        "zip|damaged",
    ),
    "an encrypted entry": (
        lambda path: patched(entries(path), b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
        "encrypted",
    ),
}


def directory_size(path):
    return path.read_bytes()[-10:-6]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", ZIPS)
def test_hostile_zip_files_are_refused(tmp_path, case):
    write, expected = ZIPS[case]
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=expected):
            read(write(tmp_path / "a.pth"))
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
    assert os.listdir(tmp_path) == ["a.pth"]


def test_a_directory_of_many_entries_is_refused_before_it_is_read(tmp_path):
    """A zip file of entries alone: each takes 46 bytes of the file and ten times that in memory."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    number = (17 << 20) // len(entry)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, number * len(entry), 4, 0)
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04" + entry * number + end)
    with pytest.raises(UserError, match="at most 16,777,216 are read at once"):
        read(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: data[:-1], "states 24 bytes of data, but 23 follow"),
        (lambda data: data[:-25], "states 8 bytes of data, but 7 follow"),
        (lambda data: data[: len(data) // 2], "does not consist of opcodes"),
        (lambda data: data[:20], "does not consist of opcodes"),
        (lambda data: data.replace(struct.pack("<q", 6), struct.pack("<q", 7)), "has 7 elements, expected 6"),
        (lambda data: data.replace(struct.pack("<q", 6), struct.pack("<q", -1)), "has 18,446,744,073,709,551,615 elements"),
        (lambda data: data.replace(b"](" + value("0"), b"](" + value("1")), "list of storages"),
        (lambda data: data.replace(pickled(1001), pickled(1002)), "version of the format is not 1001"),
    ],
)
def test_damaged_legacy_files_are_refused(tmp_path, change, expected):
    path = write_legacy(tmp_path / "a.pth", {"w": T}, {"0": SIX})
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=expected):
        read(path)


@pytest.mark.parametrize("format", WRITERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_and_cut_bytes_give_tensors_or_a_clear_error(tmp_path, format, data):
    body = {"state_dict": {"module.w": T, "module.half": tensor("bfloat16", "1", 4, (2, 2), (1, 2))}, "epoch": 3}
    path = WRITERS[format](tmp_path / format, body, {"0": SIX, "1": np.arange(4, dtype=np.uint16)})
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        tensors = read_pytorch(path)
    except UserError as error:
        assert str(path) in str(error)
        assert not isinstance(
            error.__cause__, IndexError | TypeError | OverflowError | RecursionError | MemoryError | AttributeError
        )
    else:
        assert all(isinstance(array, np.ndarray) and array.nbytes <= 64 for array in tensors.values())
