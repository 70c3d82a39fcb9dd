"""Options as dataclass fields: what tyro parses, with its messages reduced to one line. Used only by `pipeline.cli`."""

import contextlib
import dataclasses
import difflib
import inspect
import io
import math
import re
import textwrap
import types
import typing
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import tyro
from docstring_parser import attrdoc

MAX_INTEGER = 2**53  # above it, JSON readers that use floating-point numbers lose digits
MARKS = "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # end a line or reverse the direction of text
MAX_ITEMS = 10_000  # of a list in a file
MAX_SHOWN, MAX_REASON = 100, 400  # characters of a value and of a reason in a message
_TYRO_SETTINGS = (tyro.conf.OmitArgPrefixes,)


class OptionError(Exception):
    """A wrong option on the command line or in a `--config` file. The exit code is 2."""


def run_tyro(config: type, args: Sequence[str], *, prog: str, default: Any, description: str) -> Any:
    """Parse `args` into an instance of `config`. Raises OptionError with a one-line message; prints and exits for `--help`."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages), _joined_help_lines():
            return tyro.cli(config, args=list(args), prog=prog, default=default, description=description, config=_TYRO_SETTINGS)
    except ValueError as error:  # raised by `config` itself, not by one of its groups
        raise OptionError(str(error)) from error
    except SystemExit as stop:
        if not stop.code:
            raise
        names = option_types(config)
        follows_dashes = "--" in args and not [*args[args.index("--") + 1 :], "-"][0].startswith("-")
        lacks_dashes = "command" in names and not follows_dashes
        raise OptionError(_summarize(messages.getvalue(), names, lacks_dashes=lacks_dashes)) from stop


@contextlib.contextmanager
def _joined_help_lines() -> Iterator[None]:
    """Within a block, let `--help` wrap field docstrings to the terminal.

    tyro joins the lines of a docstring only if they are not indented, and docstring_parser does not remove the indentation of
    attribute docstrings.
    """
    value_of = attrdoc.ast_get_constant_value

    def cleaned(node: Any) -> Any:
        value = value_of(node)
        return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(value)) if isinstance(value, str) else value

    with mock.patch.object(attrdoc, "ast_get_constant_value", cleaned):
        yield


def convert(value: Any, kind: Any, name: str) -> Any:
    """Convert a value from a YAML file to the type of the option `name`, by the rules of the command line. Raises OptionError."""
    kind = _without_annotation(kind)
    kinds = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if value is None and type(None) not in kinds:
        raise OptionError("null is not allowed")
    if isinstance(value, bool) and bool not in kinds:
        raise OptionError(f"{str(value).lower()} is not allowed; quote the value if you mean a text")
    if value is not None and not isinstance(value, (bool, int, float, str, list)):
        raise OptionError(f"expected a value or a list of values, got {type(value).__name__}")
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_ITEMS:
        raise OptionError(f"{len(items):,} values, at most {MAX_ITEMS:,} are allowed")
    for item in items if isinstance(value, list) else ():
        if isinstance(item, bool) or not isinstance(item, (int, float, str)):
            raise OptionError(f"expected a list of values, got {_show(item)} in it; quote it if you mean a text")
    if any("\0" in item for item in items if isinstance(item, str)):
        raise OptionError("null characters are not allowed")
    if Path in kinds and "" in items:
        raise OptionError("the value is empty")
    args = [str(item) for item in items]
    # As a positional argument after "--", a value may begin with a dash, and a flag is spelled True or False.
    positional: Any = tyro.conf.Positional  # subscripted with a type that is known only now
    single = dataclasses.make_dataclass("Option", [(name, positional[kind])], kw_only=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as messages:
            return getattr(tyro.cli(single, args=["--", *args], prog=""), name)
    except SystemExit as error:
        raise OptionError(f"cannot use {_show(value)} ({_cut(_summarize(messages.getvalue()), MAX_REASON)})") from error


def _show(value: Any) -> str:
    return _cut(repr(value), MAX_SHOWN)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def require_plain(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raise OptionError for option values that outputs cannot hold: numbers that are not finite or lose digits in JSON, and paths,
    which commands print, with control characters. Lists of paths may contain any file."""
    for name, value in values.items():
        kind = _without_annotation(kinds[name])
        is_path = isinstance(value, str) and Path in (kind, *typing.get_args(kind))
        if is_path and any(unicodedata.category(c) == "Cc" or c in MARKS for c in value):
            raise OptionError(f"{name} must not have control characters, got {value!r}; rename it")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and abs(number) > MAX_INTEGER:
                raise OptionError(f"{name} must be at most 2 to the power of 53, got {number}")
            if isinstance(number, float) and not math.isfinite(number):
                raise OptionError(f"{name} must be a finite number, got {number}")


def _without_annotation(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def with_defaults(config: type, values: Mapping[str, Any]) -> Any:
    """Return an instance of `config` with `values` as defaults and MISSING for required fields, not validated: tyro rebuilds it."""
    instance: Any = object.__new__(config)
    for field in dataclasses.fields(config):
        if group := _group_type(field):
            value = with_defaults(group, values)
        elif field.name in values:
            value = values[field.name]
        elif field.default is not dataclasses.MISSING:
            value = field.default
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            value = tyro.MISSING
        object.__setattr__(instance, field.name, value)
    return instance


def option_types(config: type) -> dict[str, Any]:
    """Return the type of every option by field name, including the options of nested groups."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        group = _group_type(field)
        found |= option_types(group) if group else {field.name: field.type}
    return found


def _group_type(field: dataclasses.Field) -> type | None:
    """Return the dataclass of a field that groups options, or None for a field that is an option itself."""
    kind = _without_annotation(field.type)
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def unknown_option(name: str, names: Iterable[str]) -> str:
    """Return the message for an unknown option, with the most similar one of `names` if there is one."""
    close = difflib.get_close_matches(name, names, n=1)
    return f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else "")


def _summarize(box: str, names: Iterable[str] = (), *, lacks_dashes: bool = False) -> str:
    """Return the message in a box that tyro drew as one line. `names` are the field names of the options.

    lacks_dashes: whether the command starts another one, and no -- precedes that one and its options.
    """
    # A box has a title and sections, separated by horizontal rules, drawn in ASCII if stdout is not UTF-8.
    lines = [line.strip("│").rstrip() for line in box.splitlines() if not line.startswith(("╭", "╰"))]
    sections = re.split(r"^ *[─-]+\n", "\n".join(lines), flags=re.MULTILINE)
    if not box.startswith("╭"):
        del sections[0]  # the title
    section = next((section for section in sections if "Unrecognized options:" in section), sections[0])
    text = " ".join(section.split())
    if text.startswith("Unrecognized options:"):
        unknown = re.split(r"[,\s]+", text.removeprefix("Unrecognized options:").strip())
        option = next((word for word in unknown if word.startswith("-")), None)
        if option is None:
            return f"unexpected argument {unknown[0]!r}"
        if lacks_dashes:
            return f"unknown option {option}; write -- before the command to start: --workers 2 -- train {option} …"
        return unknown_option(option, ["--" + name.replace("_", "-") for name in names])
    if text.startswith("Missing from"):
        return "missing " + " and ".join(re.findall(r"^ {4}(\S+)", textwrap.dedent(section), re.MULTILINE))
    text = re.sub(r"^Error parsing (\w[\w.-]*: )?", "", text)
    return text.replace("Expected 1 values", "Expected 1 value").rstrip(".")
