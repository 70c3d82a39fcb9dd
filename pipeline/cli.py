"""Commands from dataclasses: options, `--config`, presets, help, errors and exit codes, the same for every stage.

A command is a frozen dataclass (its fields are the options, their docstrings the help) and a function that takes an instance.
Exit codes: 0 success; 1 the work failed or found faults; 2 wrong options; 129 stopped by SIGHUP, 130 by Ctrl-C, 143 by SIGTERM;
141 the reader of stdout, such as `head`, has closed it, and the command does nothing but print.
"""

import contextlib
import dataclasses
import importlib
import inspect
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from pipeline.errors import Terminated, UserError, explained
from pipeline.parsing import OptionError, convert, option_types, require_plain, run_tyro, unknown_option, with_defaults
from pipeline.runtime.interrupts import STOPPING, raised_signals
from pipeline.runtime.streams import LastingFile, lasting_streams
from pipeline.storage.files import write_atomic
from pipeline.wording import printable

CONFIG_HELP = "--config FILE.yaml reads the same options from a file. Options on the command line override the file."
STDOUT_CLOSED = 141  # as the shell reports a program that SIGPIPE ended, because its reader has gone
NO_MEMORY = ("failed to map segment", "cannot allocate memory")  # as the dynamic linker reports it
PRESET_HELP = "--preset NAME --help shows the defaults of that preset."


@dataclass(frozen=True, kw_only=True)
class Command:
    """One subcommand. `config` and `run` are "module:name" strings, imported only when the command is chosen."""

    help: str
    config: str
    run: str
    prints: bool = False
    """Whether its result is what it prints. It ends when nobody reads that; other commands continue in silence."""


def main(prog: str, about: str, commands: Mapping[str, Command], argv: Sequence[str] | None = None) -> int:
    """Run `prog COMMAND options` and return the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    prints = not args or args[0] not in commands or commands[args[0]].prints
    return guarded(prog, lambda: _dispatch(prog, about, commands, args), prints=prints)


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
        _require_text(args)
        args, file = _split_option(args, "--config")
        values = _read_config_file(Path(file), config) if file is not None else {}
        presets = getattr(config, "PRESETS", {})
        preset = _split_option(args, "--preset")[1] or values.get("preset")
        if preset in presets:  # otherwise tyro reports it, with the choices
            values = {**presets[preset], **values, "preset": preset}
        description = [inspect.cleandoc(config.__doc__ or ""), CONFIG_HELP, *([PRESET_HELP] if presets else [])]
        default = with_defaults(config, values)
        result = run_tyro(config, args, prog=prog, default=default, description="\n\n".join(description))
        require_plain(flatten(result), option_types(config))
        return result
    except OptionError as error:
        print(f"{prog}: error: {printable(str(error))}; see '{prog} --help'", file=sys.stderr)
        sys.exit(2)


def _require_text(args: Sequence[str]) -> None:
    """Raise OptionError for an argument, such as the name of a file, with bytes that the file system's encoding lacks, and for an
    empty one, which would mean the current folder."""
    for number, arg in enumerate(args):
        if not arg or (arg.startswith("--") and arg.endswith("=")):
            option = arg or next((word for word in args[:number][-1:] if word.startswith("--")), f"argument {number + 1}")
            raise OptionError(f"{option.removesuffix('=')}: the value is empty; check the variables in the command")
        try:
            arg.encode()
        except UnicodeEncodeError:
            is_utf8 = sys.getfilesystemencoding() == "utf-8"
            advice = "" if is_utf8 else ", or set PYTHONUTF8=1 if the name is correct"
            raise OptionError(f"argument {arg!r} is not UTF-8; rename the file{advice}") from None


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
    from pipeline.storage.documents import read_yaml  # imports msgspec and YAML, which commands without a file do not need

    where = f"--config {path}"
    try:
        values = read_yaml(path, "--config")
    except UserError as error:
        raise OptionError(str(error)) from error
    values = {} if values is None else values  # an empty file
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise OptionError(f"{where}: expected a mapping of option names to values, such as 'batch_size: 10'")
    types, converted = option_types(config), {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in types:
            raise OptionError(f"{where}: {printable(unknown_option(name[:100], types))}")
        try:
            converted[name] = convert(value, types[name], name)
        except OptionError as error:
            raise OptionError(f"{where}: {key}: {printable(str(error))}") from error
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


def guarded(prog: str, work: Callable[[], int | None], *, prints: bool = True) -> int:
    """Run `work` with signals raised as exceptions. Print errors of the user as one line, and return the exit code.

    prints: whether the result is what `work` prints: it ends when stdout is closed or full. Other work continues in silence.
    """
    with lasting_streams(raises=prints) as stdout:
        try:
            code = _reported(prog, work, stdout)
            sys.stdout.flush()
        except SystemExit as stop:  # --help, wrong options
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            if stdout.failure is None:
                raise
            code, prints = int(stop.code or 0), True
        except OSError as error:
            if error is not stdout.failure:
                raise
            code = 1
    if stdout.failure is None or not prints:
        return code
    if isinstance(stdout.failure, BrokenPipeError):
        return STDOUT_CLOSED
    print(f"{prog}: error: stdout: {stdout.failure.strerror}", file=sys.stderr)
    return code or 1


def _reported(prog: str, work: Callable[[], int | None], stdout: LastingFile) -> int:
    """Run `work`, print errors and return the exit code. Raises the error of a stdout that is closed or full."""
    try:
        with raised_signals():
            return work() or 0
    except UserError as error:
        print(f"{prog}: error: {printable(str(error))}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Terminated, ImportError) as error:
        if isinstance(error, ImportError) and any(cause in str(error).lower() for cause in NO_MEMORY):
            print(
                f"{prog}: error: not enough memory to load a library ({printable(str(error))}); raise `ulimit -v`",
                file=sys.stderr,
            )
            return 1
        stop = error.__cause__ if isinstance(error, ImportError) else error  # raised while a C library was imported
        if not isinstance(stop, KeyboardInterrupt | Terminated):
            raise
        number = stop.number if isinstance(stop, Terminated) else signal.SIGINT
        by = "Ctrl-C" if number == signal.SIGINT else number.name
        # A command that needs more to continue says so in its exception.
        print(f"{prog}: stopped by {by}; {str(stop) or 'run the same command again to continue'}", file=sys.stderr)
        return 128 + number
    except OSError as error:
        if error is stdout.failure:
            raise
        print(f"{prog}: error: {printable(explained(error))}", file=sys.stderr)
        return 1


def leave(code: int) -> NoReturn:
    """Exit with this code. The work is over, so a signal that arrives now must not change the code."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    if "mindspore" not in sys.modules and any(name.startswith("mindspore.") for name in sys.modules):
        # A signal has interrupted its import. What it does at the exit of the interpreter would crash.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _load(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)
