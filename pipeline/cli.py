"""Commands from dataclasses: options, `--config`, presets, help, errors and exit codes, for every stage.

A command is a frozen dataclass (its fields are the options, its docstrings the help) and a function that takes it.
Exit codes: 0 done, 1 the work failed or found faults, 2 wrong options, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

import dataclasses
import importlib
import inspect
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import tyro
import yaml

Presets = Mapping[str, Mapping[str, Any]]


class UserError(Exception):
    """A mistake that the user can mend: printed without a traceback, exit code 1. Says what, where, and the cure."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand. `config` and `run` are "module:name", loaded only when the command is chosen."""

    help: str
    config: str
    run: str


def _load(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Option values by field name -> the same as command-line words: {"lr": 0.1, "resume": False} -> --lr 0.1 --no-resume."""
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


def flatten(config: Any) -> dict[str, Any]:
    """A configuration as one flat mapping of plain values, by option name; what `--config` reads back."""
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
    """Write the resolved configuration as YAML that `--config` reads back."""
    path.write_text(yaml.safe_dump(flatten(config), sort_keys=False))


def _read_config_file(path: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}; give a YAML file of option names and values") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"--config {path}: expected a mapping of option names to values, such as 'batch_size: 10'")
    return values


def _take_option(words: Sequence[str], option: str) -> tuple[str | None, list[str]]:
    """The value of `--option V` or `--option=V`, and the words without it."""
    value, rest, words = None, [], list(words)
    while words:
        word = words.pop(0)
        if word == option and words:
            value = words.pop(0)
        elif word.startswith(option + "="):
            value = word.split("=", 1)[1]
        else:
            rest.append(word)
    return value, rest


def parse(config: type, words: Sequence[str], *, prog: str) -> Any:
    """Words -> a validated instance of `config`. Strongest first: command line, `--config` file, preset, defaults.

    A class with a `PRESETS` attribute takes `--preset NAME`. Exits with 2 and a message for wrong options.
    """
    presets: Presets = getattr(config, "PRESETS", {})
    file, words = _take_option(words, "--config")
    values = _read_config_file(file) if file else {}
    if presets:
        preset = _take_option(words, "--preset")[0] or values.get("preset")
        values = {**presets.get(preset, {}), **values}
    # Of an option that is given twice the last counts. Leading positional words stay in front of every option.
    options = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    try:
        return tyro.cli(
            config,
            args=[*words[:options], *as_options(values), *words[options:]],
            prog=prog,
            config=(tyro.conf.OmitArgPrefixes,),
            description=inspect.cleandoc(config.__doc__ or "")
            + "\n\n--config F.yaml gives the same options in a file; the command line wins.",
        )
    except ValueError as error:  # tyro reports those of the outermost class itself
        print(f"{prog}: error: {error}", file=sys.stderr)
        sys.exit(2)


def main(prog: str, about: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Run `prog COMMAND options`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: {prog} COMMAND [options]\n\n{about}\n")
        print("\n".join(f"  {name:<14}{command.help}" for name, command in commands.items()))
        print(f"\n{prog} COMMAND --help explains one.")
        return 0 if words else 2
    if words[0] not in commands:
        print(f"{prog}: no command {words[0]!r}; there are: {', '.join(commands)}", file=sys.stderr)
        return 2
    command = commands[words[0]]
    return guarded(prog, lambda: _load(command.run)(parse(_load(command.config), words[1:], prog=f"{prog} {words[0]}")))


def leave(code: int) -> NoReturn:
    """End the process with this exit code: the work is over, so a signal that comes now no longer changes it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def guarded(prog: str, work) -> int:
    """Run `work` with SIGTERM as an exception, and turn what stops it into a message and an exit code."""
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        return work() or 0
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{prog}: stopped; the same command continues where a command can be resumed", file=sys.stderr)
        return 130
    except Terminated:
        print(f"{prog}: terminated", file=sys.stderr)
        return 143
    except OSError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler on the way swallows it."""


def _raise_terminated(signum, frame):
    raise Terminated


def read_json(path: Path, what: str) -> Any:
    """A JSON file, or a UserError that names it. `what` says what was expected there."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{what} {path}: not JSON: {error}") from error
