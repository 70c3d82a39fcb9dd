"""The reader of documents: bounded, strict, and messages that name the field."""

import gzip
import os
import socket
import time
from dataclasses import dataclass, field
from typing import Annotated

import pytest
from msgspec import Meta

from pipeline.errors import UserError
from pipeline.storage.documents import convert, parse_json, parse_yaml, read_json, read_yaml
from pipeline.wording import printable


@dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, Meta(ge=1, le=100)]
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Album:
    images: list[Size]
    scale: Annotated[float, Meta(ge=-1e300, le=1e300)] = 1.0
    counts: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    "text, problem",
    [
        (b"", "not JSON: empty"),
        (b'{"a": 1, "a": 2}', "duplicate key"),
        (b'{"images": [], "images": []}', "duplicate key"),
        (b"[" * 1_000 + b"]" * 1_000, "recursion limit"),
        (b"[" * 10_000_000, "recursion limit"),
        (b'{"images": ["\\ud800"]}', "hex escape"),
        (b'["\xff"]', "invalid unicode"),
        (b"NaN", "not JSON"),
        (b"1" * 100_000, "number out of range"),
        (b"[]", "expected an object, got []"),
        (b"{}", "missing required field `images`"),
        (b'{"images": [{"width": 3}, {"width": 0}]}', "images[1].width: expected an integer >= 1, got 0"),
        (b'{"images": [{"width": 101}]}', "images[0].width: expected an integer <= 100, got 101"),
        (b'{"images": [{"width": "3"}]}', "images[0].width: expected an integer, got '3'"),
        (b'{"images": [{"width": true}]}', "images[0].width: expected an integer, got true"),
        (b'{"images": [{"width": 3, "name": null}]}', "images[0].name: expected a text, got null"),
        (b'{"images": [], "scale": 1e999}', "scale: expected a number <= 1e+300, got inf"),
        (b'{"images": {"a": 1}}', "images: expected a list, got {'a': 1}"),
        (b'{"images": ["\\u001b[31m"]}', "images[0]: expected an object, got '\\\\x1b[31m'"),
        (b'{"images": [], "counts": {"a": "x"}}', "counts.a: expected an integer, got 'x'"),
    ],
)
def test_json_that_is_refused(text, problem):
    with pytest.raises(UserError) as error:
        parse_json(text, "file x.json", Album)
    assert str(error.value).startswith("file x.json: ")
    assert problem in str(error.value)
    assert str(error.value).isprintable() and len(str(error.value)) < 300


def test_json_that_is_accepted():
    album = parse_json('{"images": [{"width": 3, "name": "é😀"}], "scale": 2, "unknown": [1]}'.encode(), "file", Album)
    assert album == Album(images=[Size(width=3, name="é😀")], scale=2.0)
    assert parse_json(b'"\\ud83d\\ude00"', "file") == "😀"


@pytest.mark.parametrize(
    "text, problem",
    [
        ("a: 010", "line 1: '010' is an octal number in YAML; remove the leading zero"),
        ("a: 1\nb: on", "line 2: 'on' is a truth value in YAML; write true or false"),
        ("a: NO", "'NO' is a truth value"),
        ("profile: 10:20", "'10:20' is a number to base 60"),
        ("a: 2026-01-02", "'2026-01-02' is a date"),
        ("a: 2026-99-99", "'2026-99-99' is a date"),
        ("a: 1\na: 2", "line 2: duplicate key 'a'"),
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("<<: {a: 1}", "merge key"),
        ("a: !!python/object:os.system {}", "tags (!) are not allowed"),
        ("? [a]\n: 1", "a key must be text"),
        ("[" * 5_000, "nested more than"),
        ("- " * 5_000, "nested more than"),
        ('a: "\\ud800"', "lone surrogates"),
        ("a: " + "9" * 5_000, "too long for a number"),
        ("a: 0x" + "f" * 5_000, "too long for a number"),
        ("a: [1", "not YAML: line 1: expected ',' or ']'"),
        ("a: 1\n---\nb: 1", "but found another document"),
        ("\x1b[31m", "special characters are not allowed"),
        ("images: [{width: x}]", "images[0].width: expected an integer, got 'x'"),
    ],
)
def test_yaml_that_is_refused(text, problem):
    with pytest.raises(UserError) as error:
        parse_yaml(text, "file x.yaml", Album)
    assert str(error.value).startswith("file x.yaml: ")
    assert problem in str(error.value) or problem == "but found another document"
    assert str(error.value).isprintable() and len(str(error.value)) < 300


def test_quoted_surprises_are_text():
    text = "a: '010'\nb: \"on\"\nc: true\nd: '10:20'\ne: 1.5\nf: ~"
    assert parse_yaml(text, "file") == {"a": "010", "b": "on", "c": True, "d": "10:20", "e": 1.5, "f": None}


def test_an_alias_bomb_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start_s = time.monotonic()
    with pytest.raises(UserError, match="anchors and aliases"):
        parse_yaml("\n".join(lines), "file")
    assert time.monotonic() - start_s < 1


def test_files_that_are_not_read(tmp_path):
    fifo, unix = tmp_path / "fifo", tmp_path / "socket"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(unix))
        for path, problem in [
            (fifo, "is a pipe, socket or device, not a file"),
            (unix, "is a pipe, socket or device, not a file"),
            (tmp_path, "is a folder, not a file"),
            (tmp_path / "missing", "No such file or directory"),
            (tmp_path / "missing\0", "null"),
        ]:
            for read in (read_json, read_yaml):
                with pytest.raises(UserError, match=f"album .*: .*{problem}"):
                    read(path, "album")


@pytest.mark.parametrize("keys", [["wrong"], ["a", "wrong", "b"], ["a", "b", "c", "wrong"], ["wrong", "worse"], ["\x1b[31m"]])
def test_the_key_of_a_wrong_value_in_a_mapping_is_named(keys):
    """Also within mappings and lists, and if a later place of the document is wrong too."""
    first = next(key for key in keys if len(key) > 1)
    inner = {key: "x" if len(key) > 1 else 1 for key in keys}
    document = {"good": [{"z": {}}], "list": [{}, {"deep": inner}], "later": [{"deep": {"other": None}}]}
    with pytest.raises(UserError) as error:
        convert(document, dict[str, list[dict[str, dict[str, int]]]], "x.json")
    assert str(error.value) == f"x.json: list[1].deep.{printable(first)}: expected an integer, got 'x'"


@pytest.mark.parametrize(
    "encode, problem",
    [
        (lambda text: text.encode("utf-16"), "is UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
        (lambda text: text.encode("utf-16-be"), "is UTF-16"),
        (
            lambda text: text.encode("utf-8-sig"),
            r"begins with a byte order mark \(BOM\), which JSON does not allow; remove it: tail -c \+4 FILE > NEW",
        ),
        (lambda text: gzip.compress(text.encode()), "is compressed; decompress it with gunzip"),
        (lambda text: text.encode()[:0], "not JSON: empty"),
    ],
)
def test_a_file_that_is_not_plain_utf_8_says_how_to_convert_it(tmp_path, encode, problem):
    path = tmp_path / "a.json"
    path.write_bytes(encode('{"images": []}'))
    with pytest.raises(UserError, match=rf"annotation file .*a.json: {problem}"):
        read_json(path, "annotation file")


def test_the_size_of_a_file_is_bounded(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + b" " * 1_000 + b"]")
    assert read_json(path, "album", max_bytes=2_000) == []
    with pytest.raises(UserError, match=r"album .*x.json: 1,002 bytes, at most 1,000 are read"):
        read_json(path, "album", max_bytes=1_000)
    path.write_bytes(b"a: 1\n" * (1 << 17))
    with pytest.raises(UserError, match="at most 262,144 are read"):
        read_yaml(path, "album")


def test_errors_of_the_schema_itself_name_the_place():
    @dataclass(frozen=True, kw_only=True)
    class Pair:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError(f"low must be at most high, got {self.low}")

    with pytest.raises(UserError, match=r"^x: \[1\]: low must be at most high, got 3$"):
        convert([{"low": 1, "high": 2}, {"low": 3, "high": 2}], list[Pair], "x")


@pytest.mark.parametrize(
    "text, shown",
    [
        ("Übergröße 猫.jpg", "Übergröße 猫.jpg"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202egpj.exe", "a\\u202egpj.exe"),
        ("\u2028\ud800", "\\u2028\\ud800"),
    ],
)
def test_text_from_outside_becomes_printable(text, shown):
    assert printable(text) == shown
    assert shown.encode().decode().isprintable()
    assert printable("a\n\tb", keep="\n") == "a\n\\tb"


def test_messages_are_bounded_however_long_the_values_are():
    @dataclass(frozen=True, kw_only=True)
    class Named:
        name: str

        def __post_init__(self) -> None:
            raise ValueError(f"name must be short, got {self.name}")

    with pytest.raises(UserError, match=r"^x: name must be short, got aaa") as error:
        convert({"name": "a" * 100_000}, Named, "x")
    assert len(str(error.value)) < 2_000
