"""What is wrong with a document, in words: the field that breaks a schema, and files that are not UTF-8 text.

Imports only `pipeline.wording`.
"""

import re
from typing import Any

import msgspec

from pipeline.wording import printable

MAX_SHOWN, MAX_REASON = 80, 1_500  # characters of a value and of a reason in a message

_TYPE_NAMES = {
    "int": "an integer",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
}


def encoding_problem(data: bytes) -> str:
    """Return what a file contains instead of UTF-8 text, and how to convert it; empty if its first bytes do not show that."""
    if not data.strip():
        return "not JSON: empty"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]:
        return "is UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW"
    if data.startswith(b"\xef\xbb\xbf"):
        return "begins with a byte order mark (BOM), which JSON does not allow; remove it: tail -c +4 FILE > NEW"
    compressed = {b"\x1f\x8b": "gunzip", b"PK": "unzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"(\xb5": "unzstd"}
    program = compressed.get(data[:2])
    return f"is compressed; decompress it with {program}" if program and not data.isascii() else ""


def explain(message: str, document: Any, schema: Any) -> str:
    """Return a message of msgspec in this project's words: path, what was expected, and the value that was found."""
    text, _, path = message.partition(" - at `$")
    keys = _with_keys(path.removesuffix("`"), document, schema)
    path = "".join(f"[{key}]" if isinstance(key, int) else f".{_cut(key)}" for key in keys).removeprefix(".")
    found, known = _value_at(document, keys)
    if text.startswith("Expected"):
        text = re.sub(r", got (`\w+`|\d+)$", "", text)
        text = re.sub(r"`([\w| ]+)`", lambda match: " or ".join(_TYPE_NAMES.get(n, n) for n in match[1].split(" | ")), text)
        text = f"e{text[1:]}, got {show(found)}" if known else f"e{text[1:]}"
    text = text.replace("Object missing required field", "missing required field").replace("Invalid enum", "invalid enum")
    text = printable(text[:MAX_REASON])
    return f"{printable(path)}: {text}" if path else text


def _with_keys(path: str, document: Any, schema: Any) -> list[str | int]:
    """Return the keys of a path such as `.images[3].width`. msgspec writes the key of a mapping's value as [...]: it is looked up."""
    steps, keys = _steps(path), list[str | int]()
    for number, step in enumerate(steps):
        if step == "[...]":
            mapping, known = _value_at(document, keys)
            if not (known and isinstance(mapping, dict) and mapping):
                return [*keys, "..."]
            key = _first_refused(mapping, keys, steps[: number + 1], document, schema)
            document = _with(document, keys, {key: mapping[key]})  # so that [...] means this key from now on
            keys.append(key)
        else:
            keys.append(int(step[1:-1]) if step[0] == "[" else step[1:])
    return keys


def _steps(path: str) -> list[str]:
    return re.findall(r"\.[^.\[\]]+|\[(?:\d+|\.\.\.)\]", path)


def _first_refused(mapping: dict[str, Any], place: list[str | int], steps: list[str], document: Any, schema: Any) -> str:
    """Return the key of the first value of a mapping that the schema refuses. place: of the mapping; steps: of its values."""
    keys = list(mapping)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        try:
            msgspec.convert(_with(document, place, {key: mapping[key] for key in half}), schema)
            refused = False
        except msgspec.ValidationError as error:
            refused = _steps(str(error).partition(" - at `$")[2])[: len(steps)] == steps
        keys = half if refused else keys[len(half) :]
    return keys[0]


def _with(document: Any, place: list[str | int], value: Any) -> Any:
    """Return a document, copied as far as needed, with another value at a place."""
    if not place:
        return value
    document = document.copy()
    document[place[0]] = _with(document[place[0]], place[1:], value)
    return document


def _value_at(document: Any, keys: list[str | int]) -> tuple[Any, bool]:
    """Return the value at a place, and whether there is one."""
    for key in keys:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return None, False
    return document, True


def show(value: Any) -> str:
    """Return a short, printable form of a value."""
    if value is None or isinstance(value, bool):
        return {None: "null", False: "false", True: "true"}[value]
    text = _cut(printable(value if isinstance(value, str) else repr(value)[: 4 * MAX_SHOWN]))
    return repr(text) if isinstance(value, str) else text


def _cut(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
