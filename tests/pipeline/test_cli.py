"""Options from dataclasses: the command line overrides the file, the file the preset; errors have one style and exit codes."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import tyro
import yaml

from pipeline.cli import as_options, flatten, guarded, main, parse, save_config
from pipeline.errors import Terminated, UserError

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner."""

    width: int = 3
    """Width."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Outer.

    Example: test --rate 2
    """

    PRESETS: ClassVar = {"plain": {}, "fast": {"rate": 2.0, "width": 9}}
    preset: Literal["plain", "fast"] = "plain"
    """Preset."""
    rate: float = 1.0
    """Rate."""
    sizes: tuple[int, ...] = (1,)
    """Sizes."""
    size_3d: tuple[int, int, int] = (4, 5, 6)
    """Three sizes."""
    folder: Path | None = Path("there")
    """Folder."""
    level: Literal[1, 2] | None = None
    """Level."""
    name: str = "x"
    """Name."""
    flag: bool = True
    """Flag."""
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.rate == 0:
            raise ValueError("rate must not be 0")


@dataclass(frozen=True, kw_only=True)
class Rest:
    """Takes another command after `--`."""

    workers: int = 1
    """Workers."""
    command: tyro.conf.Positional[tuple[str, ...]]
    """Command."""


@dataclass(frozen=True, kw_only=True)
class Required:
    """Has required options."""

    input_file: Path
    """Input."""
    out: Path
    """Output."""
    width: Annotated[int, tyro.conf.arg(metavar="PX")] = 1
    """Width."""


def parsed(*args: str) -> Outer:
    return parse(Outer, args, prog="test")


@pytest.fixture
def parsed_file(tmp_path):
    """Return a function that parses a configuration file with this text."""

    def parse_text(text: str, *args: str) -> Outer:
        (tmp_path / "c.yaml").write_text(text)
        return parsed("--config", str(tmp_path / "c.yaml"), *args)

    return parse_text


def error_of(capsys, work) -> str:
    """Return the one-line message of `work`, which exits with 2, without the program's name."""
    with pytest.raises(SystemExit) as stopped:
        work()
    text = capsys.readouterr().err
    assert stopped.value.code == 2 and text.count("\n") == 1 and text.startswith("test: error: ")
    return text.removeprefix("test: error: ").rstrip()


def test_command_line_over_file_over_preset_over_default(parsed_file, tmp_path):
    file = "preset: fast\nwidth: 5\nsizes: [1, 2]\nflag: false\n"
    assert parsed() == Outer()
    assert parsed("--preset", "fast") == Outer(preset="fast", rate=2.0, inner=Inner(width=9))
    assert parsed_file(file) == Outer(preset="fast", rate=2.0, sizes=(1, 2), flag=False, inner=Inner(width=5))
    assert parsed_file(file, "--width", "7", "--flag", "--sizes", "4").inner.width == 7
    with_equals = parsed(f"--config={tmp_path / 'c.yaml'}", "--flag", "--sizes", "4")
    assert with_equals == parsed("--preset", "fast", "--width", "5", "--sizes", "4")
    assert parsed_file(file, "--preset", "plain").rate == 1.0


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("rate: 1e-4", "rate", 1e-4),  # a string to YAML 1.1
        ("rate: -2", "rate", -2.0),
        ("sizes: []", "sizes", ()),
        ("sizes: 7", "sizes", (7,)),
        ("sizes: [-1, 2]", "sizes", (-1, 2)),
        ("size-3d: [1, 2, 3]", "size_3d", (1, 2, 3)),
        ("folder: null", "folder", None),
        ("folder: a b/c", "folder", Path("a b/c")),
        ("level: 2", "level", 2),
        ("level: null", "level", None),
        ("name: --rate", "name", "--rate"),
        ("name: ''", "name", ""),
        ("name: 'null'", "name", "null"),
        ("flag: false", "flag", False),
        ("", "rate", 1.0),
        ("# only a comment", "rate", 1.0),
    ],
)
def test_values_of_a_file_have_the_type_of_their_option(parsed_file, text, name, value):
    assert getattr(parsed_file(text), name) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected a mapping"),
        ("1: 2", "expected a mapping"),
        ("a: [", "not YAML"),
        ("rates: 3", "unknown option rates; did you mean rate?"),
        ("widht: 3", "unknown option widht; did you mean width?"),
        ("zzzzzz: 3", "unknown option zzzzzz;"),
        ("inner: {width: 3}", "unknown option inner"),
        ("rate: fast", "rate: cannot use 'fast'"),
        ("width: 1.5", "width: cannot use 1.5"),
        ("width: null", "width: null is not allowed"),
        ("name: true", "name: true is not allowed; quote the value"),
        ("name: yes", "line 1: 'yes' is a truth value in YAML; write true or false, or quote it"),
        ("name: 2020-01-01", "line 1: '2020-01-01' is a date in YAML; quote it"),
        ("width: 010", "line 1: '010' is an octal number in YAML; remove the leading zero, or quote it"),
        ("width: 1\nwidth: 2", "line 2: duplicate key 'width'"),
        ("name: &a x\nlevel: *a", "line 1: anchors and aliases"),
        ("help: true", "unknown option help"),
        ("preset: [slow]", "preset: cannot use ['slow']"),
        ("preset: {a: 1}", "preset: expected a value or a list of values, got dict"),
        ("size_3d: [1, [2], 3]", "size_3d: expected a list of values, got [2] in it"),
        ("size_3d: [1, true, 3]", "size_3d: expected a list of values, got True in it"),
        ("size_3d: [1, null, 3]", "size_3d: expected a list of values, got None in it"),
        ("size_3d: [" + 20_000 * "1, " + "1]", "size_3d: 20,001 values, at most 10,000 are allowed"),
        ('folder: "a\\0b"', "folder: null characters are not allowed"),
        ('"\\e[31m": 1', "unknown option \\x1b[31m"),
        ('width: "\\e[31m"', "width: cannot use '\\x1b[31m'"),
        ("width: " + "[" * 1_000, "line 1: nested more than 10 levels deep"),
        ("width: " + 100_000 * "9", "line 1:"),
        ("a: 1\n" * 100_000, "500,000 bytes, at most 262,144 are read"),
        ("size_3d: [1, 2]", "size_3d: cannot use [1, 2] (Missing value for argument 'size-3d'. Expected 3 values)"),
        ("level: 3", "level: cannot use 3"),
        ("flag: 3", "flag: cannot use 3"),
        ("preset: slow", "preset: cannot use 'slow'"),
    ],
)
def test_an_error_in_a_file_names_file_and_key(parsed_file, capsys, tmp_path, text, message):
    error = error_of(capsys, lambda: parsed_file(text))
    assert error.startswith(f"--config {tmp_path / 'c.yaml'}: {message}"), error


def test_help_wraps_field_docstrings_to_the_terminal():
    """The lines of a docstring in the source are not lines of the help."""
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "train", "--help"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "78"}
    )
    lines = [line.strip("│ ") for line in done.stdout.splitlines() if line.startswith("│  ")]
    assert "Set of defaults: openpose (network and schedule of Cao et al. 2017)," in lines, lines
    assert "openpose-8p (the same network with the schedule of the MindSpore" in lines, lines


def test_arguments_that_are_not_utf8_are_refused(capsys):
    """Libraries in C++ cannot open such files."""
    error = error_of(capsys, lambda: parsed("--folder", "r\udcff"))
    assert "argument 'r\\udcff' is not UTF-8; rename the file;" in error, "PYTHONUTF8 would change nothing"


def test_a_library_that_does_not_fit_into_memory_is_an_error(capsys):
    def work() -> None:
        raise ImportError("libx.so: failed to map segment from shared object")

    assert guarded("prog", work) == 1
    assert "not enough memory to load a library (libx.so" in capsys.readouterr().err


def test_a_missing_file_is_named(tmp_path, capsys):
    assert "absent.yaml: No such file" in error_of(capsys, lambda: parsed("--config", str(tmp_path / "absent.yaml")))


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])  # tyro draws its messages differently
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--width 0", "width must be at least 1, got 0;"),  # raised in a group of options
        ("--rate 0", "rate must not be 0;"),  # raised by the class itself
        ("--width x", "invalid literal for int"),
        ("--width 99999999999999999999", "width must be at most 2 to the power of 53"),
        ("--sizes 1 -99999999999999999999", "sizes must be at most 2 to the power of 53"),
        ("--rate nan", "rate must be a finite number, got nan"),
        ("--rate=-inf", "rate must be a finite number, got -inf"),
        ("--widht 4", "unknown option --widht; did you mean --width?;"),
        ("--zzzzzzzz 4", "unknown option --zzzzzzzz;"),
        ("more", "unexpected argument 'more';"),
        ("--preset slow", "invalid choice 'slow'"),
        ("--preset", "missing value for --preset;"),
        ("--config", "missing value for --config;"),
        ("--rate", "Missing value for argument '--rate'. Expected 1 value;"),
        ("--size-3d 1 2", "Missing value for argument '--size-3d'. Expected 3 values;"),
    ],
)
def test_a_wrong_option_is_one_line_and_exits_with_2(args, message, encoding, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    error = error_of(capsys, lambda: parsed(*args.split()))
    assert message in error and error.endswith("; see 'test --help'"), error


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_missing_options_are_named(encoding, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert error_of(capsys, lambda: parse(Required, [], prog="test")).startswith("missing --input-file and --out;")
    assert error_of(capsys, lambda: parse(Required, ["--out", "x"], prog="test")).startswith("missing --input-file;")


@pytest.mark.parametrize("option", ["--config", "--preset"])
def test_options_after_two_dashes_belong_to_the_inner_command(option):
    args = ["--workers", "2", "--", "train", "--out", "x", option, "absent", f"{option}=absent"]
    assert parse(Rest, args, prog="test") == Rest(workers=2, command=tuple(args[3:]))


def test_launch_leaves_the_config_of_train_alone(tmp_path):
    """`launch --workers 2 -- train … --config t.yaml`: the file holds options of `train`, not of `launch`."""
    from trainer.distributed.config import LaunchConfig

    (tmp_path / "t.yaml").write_text("batch_size: 3\n")
    inner = ["train", "--records", "r", "--out", "o", "--config", str(tmp_path / "t.yaml")]
    assert list(parse(LaunchConfig, ["--workers", "2", "--", *inner], prog="test").command) == inner


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("--workers 2 train --records r", "unknown option --records; write -- before the command to start: --workers 2 -- train"),
        ("--workers 2 train --records r -- --out o", "unknown option --records; write -- before the command to start"),
        ("--worker 2 -- train --records r", "unknown option --worker; did you mean --workers?"),
    ],
)
def test_options_of_the_inner_command_without_two_dashes(args, message, capsys):
    from trainer.distributed.config import LaunchConfig

    with pytest.raises(SystemExit):
        parse(LaunchConfig, args.split(), prog="test")
    assert message in capsys.readouterr().err


def test_help_shows_the_defaults_of_the_preset_and_the_file(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "c.yaml").write_text("name: filed\n")
    with pytest.raises(SystemExit) as stopped:
        parsed("--preset", "fast", "--config", str(tmp_path / "c.yaml"), "--help")
    text = capsys.readouterr().out
    assert stopped.value.code == 0
    for default in ("fast", "2.0", "9", "filed"):
        assert f"(default: {default})" in text


def test_small_preset_of_train_shows_its_defaults(capsys):
    from trainer.config import TrainConfig

    with pytest.raises(SystemExit):
        parse(TrainConfig, ["--preset", "small", "--help"], prog="test")
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, value in TrainConfig.PRESETS["small"].items():
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert re.search(rf"--{name.replace('_', '-')}[ ,](?:(?!\(default).)*\(default: {re.escape(shown)}\)", text), name


@pytest.mark.parametrize(
    "config",
    [
        Outer(),
        Outer(preset="fast", rate=0.1, sizes=(), size_3d=(0, -1, 2), folder=None, level=1, flag=False, inner=Inner(width=2)),
        Outer(name="--odd: 'name'\nof two lines", folder=Path("-Zürich")),
    ],
)
def test_a_saved_configuration_is_read_back(tmp_path, config):
    save_config(config, tmp_path / "c.yaml")
    assert parsed("--config", str(tmp_path / "c.yaml")) == config
    assert yaml.safe_load((tmp_path / "c.yaml").read_text()) == flatten(config)


def test_options_are_parsed_back():
    config = Outer(rate=-0.1, sizes=(), size_3d=(0, -1, 2), folder=None, flag=False, inner=Inner(width=2))
    assert parsed(*as_options(flatten(config))) == config


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("said"), 1),
        (Terminated(number=signal.SIGHUP), 129),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
        (OSError(28, "No space left"), 1),
        (BrokenPipeError(32, "Broken pipe"), 1),
    ],
)
def test_exit_codes(error, code, capsys):
    def work() -> Any:
        raise error

    assert guarded("prog", work) == code
    assert capsys.readouterr().err.startswith("prog: ")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EISDIR, "a\\nb: Is a directory; a file is expected there; move the folder away, or choose another path"),
        (errno.EEXIST, "a\\nb: File exists; move it away, or choose another path"),
        (errno.EACCES, "a\\nb: Permission denied; change its permissions, or choose another path"),
        (errno.EBADF, "a\\nb: Bad file descriptor"),
    ],
)
def test_an_error_of_the_operating_system_names_the_path_and_what_to_do(number, message, capsys):
    def work() -> Any:
        raise OSError(number, os.strerror(number), "a\nb")

    assert guarded("prog", work) == 1
    assert capsys.readouterr().err == f"prog: error: {message}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", ""], "--out: the value is empty; check the variables in the command"),
        (["--out="], "--out: the value is empty"),
        (["", "--out", "o"], "argument 1: the value is empty"),
        (["--config", "CONFIG"], "out: the value is empty"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(args, message, tmp_path, capsys):
    from pipeline.synthetic.config import SynthesizeConfig

    (tmp_path / "c.yaml").write_text('out: ""')
    with pytest.raises(SystemExit):
        parse(SynthesizeConfig, [arg.replace("CONFIG", str(tmp_path / "c.yaml")) for arg in args], prog="test")
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["o\x1b[31m", "o\nnew", "o\u202e"])
def test_a_path_that_is_printed_has_no_control_characters(text, tmp_path, capsys):
    from pipeline.synthetic.config import SynthesizeConfig

    file = tmp_path / "c.yaml"
    file.write_text(json.dumps({"out": text}))
    for args in (["--out", text], ["--config", str(file)]):
        with pytest.raises(SystemExit) as stop:
            parse(SynthesizeConfig, args, prog="test")
        error = capsys.readouterr().err
        assert stop.value.code == 2 and "out must not have control characters" in error and error.rstrip().isprintable()
    assert parse(SynthesizeConfig, ["--out", "\u3000 é"], prog="test").out.name == "\u3000 é"


@pytest.mark.parametrize(("stop", "kind"), [(KeyboardInterrupt, "stopped by Ctrl-C"), (Terminated, "stopped by SIGTERM")])
def test_a_signal_says_how_to_continue(stop, kind, capsys):
    """A command can give its own advice: `train` continues only with --resume."""

    def work(error):
        raise error

    guarded("prog", lambda: work(stop()))
    guarded("prog", lambda: work(stop("use --resume")))
    assert capsys.readouterr().err == f"prog: {kind}; run the same command again to continue\nprog: {kind}; use --resume\n"


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        guarded("prog", lambda: 1 // 0)


def test_an_unknown_command_exits_with_2(capsys):
    assert main("prog", "About.", {}, ["no-such"]) == 2
    assert capsys.readouterr().err.startswith("prog: error: no command 'no-such'")


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "trainer", "--help"),
        ("-m", "trainer", "train", "--help"),
        ("-c", "from pipeline.cli import guarded, leave; leave(guarded('prog', lambda: print('buffered')))"),
        ("-c", "from pipeline.cli import guarded, leave; leave(guarded('prog', lambda: print('written', flush=True)))"),
    ],
)
def test_a_reader_that_has_gone_ends_a_command_quietly(words):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
