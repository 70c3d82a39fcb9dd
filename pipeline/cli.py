"""Commands from dataclasses: options, `--config`, presets, help, errors and exit codes, the same for every stage.

A command is a frozen dataclass (its fields are the options, their docstrings the help) and a function that takes an instance.
Exit codes: 0 success; 1 the work failed or found faults; 2 wrong options; 130 stopped by Ctrl-C; 141 the reader of stdout, such as
`head`, has closed it; 143 stopped by SIGTERM.
"""

import dataclasses
import importlib
import inspect
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import yaml

from pipeline.errors import Terminated, UserError
from pipeline.files import write_atomic
from pipeline.parsing import OptionError, convert, option_types, run_tyro, unknown_option, with_defaults

CONFIG_HELP = "--config FILE.yaml reads the same options from a file. Options on the command line override the file."
STDOUT_CLOSED = 128 + signal.SIGPIPE  # as the shell reports a program that ends because its reader has gone
PRESET_HELP = "--preset NAME --help shows the defaults of that preset."


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand. `config` and `run` are "module:name" strings, imported only when the command is chosen."""

    help: str
    config: str
    run: str


def main(prog: str, about: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Run `prog COMMAND options` and return the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return guarded(prog, lambda: _dispatch(prog, about, commands, args))


def _dispatch(prog: str, about: str, commands: Mapping[str, Command], args: list[str]) -> int | None:
    if not args or args[0] in ("-h", "--help"):
        print(f"usage: {prog} COMMAND [options]\n\n{about}\n")
        print("\n".join(f"  {name:<14}{command.help}" for name, command in commands.items()))
        print(f"\nRun '{prog} COMMAND --help' for the options of a command.")
        return 0 if args else 2
    if args[0] not in commands:
        print(f"{prog}: error: no command {args[0]!r}; choose from {', '.join(commands)}", file=sys.stderr)
        return 2
    command = commands[args[0]]
    config = parse(_load(command.config), args[1:], prog=f"{prog} {args[0]}")
    return _load(command.run)(config)  # imported only now, so that --help is fast


def parse(config: type, args: Sequence[str], *, prog: str) -> Any:
    """Parse command-line arguments into a validated instance of `config`.

    The command line overrides the `--config` file, which overrides the preset, which overrides the defaults. A class with a
    `PRESETS` attribute takes `--preset NAME`. Arguments after `--` are never read as `--config` or `--preset`.
    Wrong options, on the command line or in the file, print one line and exit with 2.
    """
    try:
        args, file = _split_option(args, "--config")
        values = _read_config_file(Path(file), config) if file is not None else {}
        presets = getattr(config, "PRESETS", {})
        preset = _split_option(args, "--preset")[1] or values.get("preset")
        if preset in presets:  # otherwise tyro reports it, with the choices
            values = {**presets[preset], **values, "preset": preset}
        description = [inspect.cleandoc(config.__doc__ or ""), CONFIG_HELP, *([PRESET_HELP] if presets else [])]
        default = with_defaults(config, values)
        return run_tyro(config, args, prog=prog, default=default, description="\n\n".join(description))
    except OptionError as error:
        print(f"{prog}: error: {error}; see '{prog} --help'", file=sys.stderr)
        sys.exit(2)


def _split_option(args: Sequence[str], option: str) -> tuple[list[str], str | None]:
    """Return `args` without `--option V` and `--option=V` before `--`, and V (the last one if it occurs twice, None if it is absent)."""
    end = args.index("--") if "--" in args else len(args)
    rest, value, pending = [], None, False
    for arg in args[:end]:
        if pending:
            value, pending = arg, False
        elif arg == option:
            pending = True
        elif arg.startswith(option + "="):
            value = arg.split("=", 1)[1]
        else:
            rest.append(arg)
    if pending:
        raise OptionError(f"missing value for {option}")
    return [*rest, *args[end:]], value


def _read_config_file(path: Path, config: type) -> dict[str, Any]:
    """Return the options of a `--config` file by field name, converted to their types. Raises OptionError naming file and key."""
    where = f"--config {path}"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OptionError(f"{where}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    values = {} if values is None else values  # an empty file
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise OptionError(f"{where}: expected a mapping of option names to values, such as 'batch_size: 10'")
    types, converted = option_types(config), {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in types:
            raise OptionError(f"{where}: {unknown_option(name, types)}")
        try:
            converted[name] = convert(value, types[name], name)
        except OptionError as error:
            raise OptionError(f"{where}: {key}: {error}") from error
    return converted


def flatten(config: Any) -> dict[str, Any]:
    """Return a configuration as one flat mapping of plain values by field name. `--config` reads it back."""
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
    write_atomic(path, yaml.safe_dump(flatten(config), sort_keys=False, allow_unicode=True))


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Return option values by field name as command-line arguments: {"lr": 0.1, "resume": False} -> --lr 0.1 --no-resume."""
    args: list[str] = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            args.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, (list, tuple)):
            args += [f"--{option}", *map(str, value)]
        else:
            args += [f"--{option}", str(value)]
    return args


def guarded(prog: str, work: Callable[[], int | None]) -> int:
    """Run `work` with SIGTERM raised as an exception. Print user errors as one line and return the exit code.

    If the reader of stdout has closed it, end quietly with STDOUT_CLOSED.
    """
    try:
        try:
            code = _reported(prog, work)
        except SystemExit:  # --help
            sys.stdout.flush()
            raise
        sys.stdout.flush()  # here and not when Python exits, which would print an error
        return code
    except BrokenPipeError:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # what is still buffered goes nowhere
        return STDOUT_CLOSED


def _reported(prog: str, work: Callable[[], int | None]) -> int:
    """Run `work`, print errors and return the exit code. Raises BrokenPipeError if stdout is closed."""
    previous = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        return work() or 0
    except UserError as error:
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Terminated) as stop:
        by, code = ("Ctrl-C", 130) if isinstance(stop, KeyboardInterrupt) else ("SIGTERM", 143)
        # A command that needs more to continue says so in its exception.
        print(f"{prog}: stopped by {by}; {str(stop) or 'run the same command again to continue'}", file=sys.stderr)
        return code
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _stdout_is_closed():  # otherwise, the pipe to another process broke
            raise
        print(f"{prog}: error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stdout_is_closed() -> bool:
    """Whether stdout is a pipe or socket without a reader."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)  # errors are always reported
    except (OSError, ValueError):  # no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def leave(code: int) -> NoReturn:
    """Exit with this code. The work is over, so a signal that arrives now must not change the code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _raise_terminated(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def _load(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)
