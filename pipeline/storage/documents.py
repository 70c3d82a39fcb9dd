"""The reader of every JSON, YAML and XML document: text in, checked values out, or a UserError that names file and field.

Bounded in size, depth and time, whatever the file contains. Refuses text that is not UTF-8, lone surrogates, and duplicate keys, of
which other readers silently take the last. A document's schema is a type: a dataclass, a TypedDict, or anything else that msgspec
(https://jcristharif.com/msgspec) converts to. `Annotated[int, Meta(ge=1)]` limits a value. Imports only
`pipeline.storage.document_errors`, `pipeline.errors`, `pipeline.storage.files` and `pipeline.wording`.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any
from xml.etree.ElementTree import Element, ParseError, fromstring

import jiter
import msgspec
import yaml
from msgspec import Meta

from pipeline.errors import UserError
from pipeline.storage.document_errors import encoding_problem, explain, show
from pipeline.storage.files import read_regular
from pipeline.wording import printable

MAX_JSON_BYTES = 4 << 30  # annotation files of large data sets; jiter refuses more than 200 levels
MAX_XML_BYTES = 1 << 28
MAX_YAML_BYTES = 1 << 18  # written by hand; PyYAML reads about 100 KB/s
MAX_YAML_DEPTH = 10

Count = Annotated[int, Meta(ge=0, le=2**53)]
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class _Refused(ValueError):
    """YAML that this project does not accept."""


# Plain words that YAML 1.1 reads as something else than they seem, and what to write instead.
_SURPRISES = (
    (r"(?i)(yes|no|on|off)", "a truth value in YAML; write true or false, or quote it"),
    (r"[-+]?0[0-7_]+", "an octal number in YAML; remove the leading zero, or quote it"),
    (r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?", "a number to base 60 in YAML; quote it"),
    (r"\d{4}-\d\d?-\d\d?([Tt\s].*)?", "a date in YAML; quote it"),
    (r"<<", "a merge key in YAML; write out the values, or quote it"),
    (r"[-+]?[0-9][0-9a-fA-FxX_]{99,}", "too long for a number; quote it"),
)


def read_json(path: Path, what: str, schema: Any = Any, *, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file as `schema`. Raises UserError with the path and `what`, the kind of file that was expected."""
    return parse_json(read_bytes(path, what, max_bytes), f"{what} {path}", schema)


def parse_json(data: bytes, where: str, schema: Any = Any, *, allow_nan: bool = False) -> Any:
    """Parse JSON as `schema`. Raises UserError, which begins with `where`. allow_nan: allow NaN and Infinity."""
    try:
        value = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=allow_nan, cache_mode="keys")
    except ValueError as error:
        if not allow_nan and (path := _place_of_nan(data)):
            raise UserError(f"{where}: {printable(path)}: NaN and Infinity are not JSON; write a finite number") from error
        raise UserError(f"{where}: {encoding_problem(data) or f'not JSON: {printable(str(error))}'}") from error
    return convert(value, schema, where)


def read_xml(path: Path, what: str) -> Element:
    """Read an XML file and return its root element. Raises UserError like `read_json`.

    Refuses document types, because only they can define entities, which can multiply without end or include other files.
    """
    data = read_bytes(path, what, MAX_XML_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path}: not UTF-8: {error.reason} at byte {error.start}") from error
    if "<!DOCTYPE" in text:  # text is parsed as UTF-8, whatever its declaration says, so that nothing hides in another encoding
        raise UserError(f"{what} {path}: document types (<!DOCTYPE>) are not allowed; remove it")
    try:
        return fromstring(text)
    except (ParseError, ValueError) as error:
        raise UserError(f"{what} {path}: not XML: {printable(str(error))}") from error


def read_yaml(path: Path, what: str, schema: Any = Any) -> Any:
    """Read a YAML file as `schema`. Raises UserError like `read_json`."""
    data = read_bytes(path, what, MAX_YAML_BYTES)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        problem = encoding_problem(data) or f"not UTF-8: {error.reason} at byte {error.start}"
        raise UserError(f"{what} {path}: {problem}") from error
    return parse_yaml(text, f"{what} {path}", schema)


def parse_yaml(text: str, where: str, schema: Any = Any) -> Any:
    """Parse YAML as `schema`. Raises UserError, which begins with `where`.

    Refuses anchors, aliases and tags, which documents of this project do not need, and the surprises of YAML 1.1.
    """
    try:
        value = _Loader(_checked_events(text)).get_single_data()
    except _Refused as error:
        raise UserError(f"{where}: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{where}: not YAML: {line}{printable(str(error.problem))}") from error
    except (yaml.YAMLError, ValueError) as error:  # such as a control character, or a number of 5,000 digits
        raise UserError(f"{where}: not YAML: {printable(' '.join(str(error).split()))}") from error
    return convert(value, schema, where)


def convert(value: Any, schema: Any, where: str) -> Any:
    """Convert plain values (what a document contains) to `schema`. Raises UserError, which begins with `where`, naming the field."""
    try:
        return msgspec.convert(value, schema)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: {explain(str(error), value, schema)}") from error


def read_bytes(path: Path, what: str, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`. Raises UserError with the path; never waits for a pipe or a device."""
    try:
        return read_regular(path, max_bytes)
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror or error}") from error


class _Loader(yaml.SafeLoader):
    """Makes values of events, so that the text is parsed only once. Refuses duplicate keys and keys that are not text."""

    def __init__(self, events: Iterable[yaml.Event]) -> None:
        super().__init__("")
        self._events = deque(events)

    def check_event(self, *choices: Any) -> bool:
        return bool(self._events) and isinstance(self._events[0], choices or yaml.Event)

    def peek_event(self) -> yaml.Event | None:
        return self._events[0] if self._events else None

    def get_event(self) -> yaml.Event | None:
        return self._events.popleft() if self._events else None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused(f"line {key.start_mark.line + 1}: a key must be text, not a list or mapping")
            if key.value in seen:
                raise _Refused(f"line {key.start_mark.line + 1}: duplicate key {show(key.value)}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _checked_events(text: str) -> Iterator[yaml.Event]:
    """Yield the events of a YAML text. Raises _Refused for what its author may not expect, or what takes unbounded time to read."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        place = f"line {event.start_mark.line + 1}:" if event.start_mark else ""
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _Refused(f"{place} anchors and aliases (& and *) are not allowed; write out the values, or quote them")
        if tag := getattr(event, "tag", None):
            raise _Refused(f"{place} tags (!) are not allowed; remove {show(tag)}, or quote the value")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_YAML_DEPTH:
                raise _Refused(f"{place} nested more than {MAX_YAML_DEPTH} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent):
            if any("\ud800" <= c <= "\udfff" for c in event.value):
                raise _Refused(f"{place} lone surrogates are not allowed")
            for pattern, reason in _SURPRISES if event.implicit[0] else ():
                if re.fullmatch(pattern, event.value):
                    raise _Refused(f"{place} {show(event.value)} is {reason}")
        yield event


def _place_of_nan(data: bytes) -> str:
    """Return the path, such as `annotations[3].area`, of the first number that is not finite; empty if that is not what is wrong."""
    try:
        value = jiter.from_json(data, catch_duplicate_keys=True, cache_mode="keys")
    except ValueError:
        return ""
    left = [("", value)]
    while left:
        path, value = left.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return path or "the document"
        if isinstance(value, dict):
            left += [(f"{path}.{key}" if path else key, inner) for key, inner in reversed(value.items())]
        elif isinstance(value, list):
            left += [(f"{path}[{number}]", value[number]) for number in reversed(range(len(value)))]
    return ""
