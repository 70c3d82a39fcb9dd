"""The house rules: imports follow the data, importing is light and does nothing, every --help teaches."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ["pipeline", "trainer", "evaluator"]
MODULES = sorted(path for stage in STAGES for path in (ROOT / stage).glob("*.py"))
COMMANDS = [
    *(("pipeline", name) for name in ("build", "verify", "preview", "synthesize")),
    ("trainer", "train"),
    *(("evaluator", name) for name in ("run", "oracle", "predict")),
]


def imported_by(path: Path) -> set[str]:
    """All modules that a file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_imports_follow_the_data(path):
    later = STAGES[STAGES.index(path.parent.name) + 1 :]
    assert not [name for name in imported_by(path) if name.split(".")[0] in later]


def test_one_module_knows_mindrecord():
    assert [path.name for path in MODULES if any("mindrecord" in name for name in imported_by(path))] == ["shards.py"]


@pytest.mark.parametrize(
    "module", ["pipeline.records", "pipeline.build", "trainer.config", "trainer.checkpoint", "evaluator.decode", "evaluator.run"]
)
def test_importing_is_light_and_silent(module):
    code = f"import sys, {module}; sys.exit('mindspore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_teaches(command):
    done = subprocess.run([sys.executable, "-m", *command, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and f"python -m {command[0]} {command[1]}" in done.stdout.split("Example", 1)[1]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_its_commands(stage):
    listed = subprocess.run([sys.executable, "-m", stage, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert listed.returncode == 0 and all(name in listed.stdout for s, name in COMMANDS if s == stage)
    unknown = subprocess.run([sys.executable, "-m", stage, "no-such"], capture_output=True, text=True, cwd=ROOT)
    assert unknown.returncode == 2 and "no-such" in unknown.stderr
