"""Commands from dataclasses: options, `--config`, presets, help, errors and exit codes, the same for every stage.

A command is a frozen dataclass (its fields are the options, their docstrings the help) and a function that takes an instance.
Exit codes: 0 success; 1 the work failed or found faults; 2 wrong options; 130 stopped by Ctrl-C; 143 stopped by SIGTERM.
"""

import contextlib
import dataclasses
import difflib
import importlib
import inspect
import io
import signal
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import tyro
import yaml

from pipeline.errors import Terminated, UserError
from pipeline.files import write_atomic

CONFIG_HELP = "--config FILE.yaml reads the same options from a file. Options on the command line win over the file."
PRESET_HELP = "--preset NAME --help shows the defaults of that preset."
_TYRO_SETTINGS = (tyro.conf.OmitArgPrefixes,)


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand. `config` and `run` are "module:name" strings, imported only when the command is chosen."""

    help: str
    config: str
    run: str


def main(prog: str, about: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Run `prog COMMAND options` and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: {prog} COMMAND [options]\n\n{about}\n")
        print("\n".join(f"  {name:<14}{command.help}" for name, command in commands.items()))
        print(f"\nRun '{prog} COMMAND --help' for the options of a command.")
        return 0 if words else 2
    if words[0] not in commands:
        print(f"{prog}: error: no command {words[0]!r}; choose from {', '.join(commands)}", file=sys.stderr)
        return 2
    command = commands[words[0]]

    def work() -> int:
        config = parse(_load(command.config), words[1:], prog=f"{prog} {words[0]}")
        return _load(command.run)(config)  # imported after the options: --help must not wait for it

    return guarded(prog, work)


def parse(config: type, words: Sequence[str], *, prog: str) -> Any:
    """Turn words into a validated instance of `config`. Strongest first: command line, `--config` file, preset, defaults.

    A class with a `PRESETS` attribute takes `--preset NAME`. Words after `--` are never read as `--config` or `--preset`.
    Raises UserError for a bad `--config` file. Prints one line and exits with 2 for wrong options.
    """
    words = list(words)
    file = _take_value(words, "--config")
    values = _read_config_file(Path(file), config) if file is not None else {}
    presets = getattr(config, "PRESETS", {})
    preset = _find_value(words, "--preset") or values.get("preset")
    # An unknown preset is reported by tyro, which knows the choices.
    values = {**presets.get(preset, {}), **values}
    description = [inspect.cleandoc(config.__doc__ or ""), CONFIG_HELP, *([PRESET_HELP] if presets else [])]
    return _run_tyro(config, words, prog=prog, default=_with_defaults(config, values), description="\n\n".join(description))


def _run_tyro(config: Any, words: Sequence[str], *, prog: str, **options: Any) -> Any:
    """`tyro.cli`, with its boxed error messages reduced to one line such as those of `guarded`."""
    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            return tyro.cli(config, args=list(words), prog=prog, config=_TYRO_SETTINGS, **options)
    except ValueError as error:  # raised by the outermost class
        problem = str(error)
    except SystemExit as stop:
        if not stop.code:
            raise
        problem = _first_paragraph(messages.getvalue())
    print(f"{prog}: error: {problem}; see '{prog} --help'", file=sys.stderr)
    sys.exit(2)


def _first_paragraph(box: str) -> str:
    """The message of a box that tyro drew: its lines up to the first horizontal rule."""
    lines: list[str] = []
    for line in box.splitlines():
        text = line.strip("│ ").strip()
        if lines and set(text) <= {"─"}:
            break
        if text and not text.startswith(("╭", "╰")):
            lines.append(text)
    return " ".join(lines).replace("Error parsing ", "")


def _with_defaults(config: type, values: Mapping[str, Any]) -> Any:
    """An instance of `config` that holds `values` as defaults, MISSING where there is none. It is not validated: tyro rebuilds it."""
    instance = object.__new__(config)
    for field in dataclasses.fields(config):
        if nested := _nested(field):
            value = _with_defaults(nested, values)
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


def _nested(field: dataclasses.Field) -> type | None:
    """The dataclass of a field that groups options; None for a field that is an option itself."""
    kind = typing.get_args(field.type)[0] if typing.get_origin(field.type) is typing.Annotated else field.type
    return kind if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None


def option_types(config: type) -> dict[str, Any]:
    """Type of every option by field name, those of nested groups included."""
    types: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        nested = _nested(field)
        types |= option_types(nested) if nested else {field.name: field.type}
    return types


def _read_config_file(path: Path, config: type) -> dict[str, Any]:
    """The options of a `--config` file, by field name, converted to their types. Raises UserError naming file and key."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}; give a YAML file of option names and values") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"--config {path}: expected a mapping of option names to values, such as 'batch_size: 10'")
    types, converted = option_types(config), {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in types:
            close = difflib.get_close_matches(name, types, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"the options are {', '.join(types)}"
            raise UserError(f"--config {path}: unknown option {key!r}; {hint}")
        converted[name] = _convert(value, types[name], f"--config {path}: {key}")
    return converted


def _convert(value: Any, kind: Any, where: str) -> Any:
    """A value from a YAML file in the type of its option, by the rules of the command line."""
    if value is None or isinstance(value, bool):
        words = [str(value)]
    elif isinstance(value, list):
        words = [str(item) for item in value]
    elif isinstance(value, (str, int, float)):
        words = [str(value)]
    else:
        raise UserError(f"{where}: expected a value or a list of values, got {type(value).__name__}")
    # As a positional, behind "--", a value may begin with a dash and a flag is spelled True or False.
    single = dataclasses.make_dataclass("Option", [("value", tyro.conf.Positional[kind])], kw_only=True)
    try:
        with contextlib.redirect_stderr(io.StringIO()) as messages:
            return tyro.cli(single, args=["--", *words], prog="").value
    except SystemExit as error:
        raise UserError(f"{where}: cannot use {value!r} ({_first_paragraph(messages.getvalue())})") from error


def _take_value(words: list[str], option: str) -> str | None:
    """Remove `--option V` or `--option=V`, if it comes before `--`, and return V (the last one, if given twice)."""
    value = None
    end = words.index("--") if "--" in words else len(words)
    head, tail = words[:end], words[end:]
    rest = []
    while head:
        word = head.pop(0)
        if word == option and head:
            value = head.pop(0)
        elif word.startswith(option + "="):
            value = word.split("=", 1)[1]
        else:
            rest.append(word)
    words[:] = rest + tail
    return value


def _find_value(words: Sequence[str], option: str) -> str | None:
    """As `_take_value`, leaving the words as they are."""
    return _take_value(list(words), option)


def flatten(config: Any) -> dict[str, Any]:
    """A configuration as one flat mapping of plain values by field name; `--config` reads it back."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            flat.update(flatten(value))
        elif isinstance(value, Path):
            flat[field.name] = str(value)
        elif isinstance(value, tuple):
            flat[field.name] = [str(item) if isinstance(item, Path) else item for item in value]
        else:
            flat[field.name] = value
    return flat


def save_config(config: Any, path: Path) -> None:
    """Write the resolved configuration as a YAML file that `--config` reads back."""
    write_atomic(path, yaml.safe_dump(flatten(config), sort_keys=False))


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Option values by field name as command-line words: {"lr": 0.1, "resume": False} -> --lr 0.1 --no-resume."""
    words: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, (list, tuple)):
            words += [f"--{option}", *map(str, value)]
        else:
            words += [f"--{option}", str(value)]
    return words


def guarded(prog: str, work: Callable[[], int | None]) -> int:
    """Run `work` with SIGTERM as an exception, and turn what stops it into a message and an exit code."""
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        return work() or 0
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: stopped; run the same command again to continue, if the command can be resumed", file=sys.stderr)
        return 130
    except Terminated:
        print(f"{prog}: terminated", file=sys.stderr)
        return 143
    except OSError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def leave(code: int) -> NoReturn:
    """Exit with this code. The work is over, so a signal that arrives now must not change it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _raise_terminated(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _load(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)
