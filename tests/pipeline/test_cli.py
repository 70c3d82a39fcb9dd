"""Options from dataclasses: the command line wins over the file, the file over the preset; mistakes have messages and codes."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from pipeline.cli import flatten, guarded, parse, save_config
from pipeline.errors import Terminated, UserError


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
    """Outer."""

    PRESETS: ClassVar = {"plain": {}, "fast": {"rate": 2.0, "width": 9}}
    preset: Literal["plain", "fast"] = "plain"
    """Preset."""
    rate: float = 1.0
    """Rate."""
    sizes: tuple[int, ...] = (1,)
    """Sizes."""
    flag: bool = True
    """Flag."""
    inner: Inner = field(default_factory=Inner)


def parsed(*words):
    return parse(Outer, words, prog="test")


def test_order_of_strength(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("preset: fast\nwidth: 5\nsizes: [1, 2]\nflag: false\n")
    assert parsed() == Outer()
    assert parsed("--preset", "fast") == Outer(preset="fast", rate=2.0, inner=Inner(width=9))
    assert parsed("--config", str(file)) == Outer(preset="fast", rate=2.0, sizes=(1, 2), flag=False, inner=Inner(width=5))
    assert parsed("--config", str(file), "--width", "7", "--flag", "--sizes", "4").inner.width == 7
    assert parsed(f"--config={file}", "--flag", "--sizes", "4") == parsed("--preset", "fast", "--width", "5", "--sizes", "4")


def test_a_saved_configuration_reads_back(tmp_path):
    config = Outer(rate=0.1, sizes=(3, 4), flag=False, inner=Inner(width=2))
    save_config(config, tmp_path / "c.yaml")
    assert parsed("--config", str(tmp_path / "c.yaml")) == config
    assert flatten(config)["width"] == 2


@pytest.mark.parametrize("words", [["--width", "0"], ["--width", "x"], ["--unknown", "1"], ["--preset", "slow"]])
def test_wrong_options_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(*words)
    assert stopped.value.code == 2 and capsys.readouterr().err


@pytest.mark.parametrize("text", ["[1]", "a: [", "1: 2"])
def test_a_bad_configuration_file_is_named(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=r"c\.yaml"):
        parsed("--config", str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("said"), 1), (KeyboardInterrupt(), 130), (Terminated(), 143), (OSError(28, "No space left"), 1)],
)
def test_exit_codes(error, code, capsys):
    def work():
        raise error

    assert guarded("prog", work) == code
    assert capsys.readouterr().err.startswith("prog: ")


def test_our_own_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        guarded("prog", lambda: 1 // 0)
