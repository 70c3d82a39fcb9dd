"""The house rules: imports follow the data, importing is light and does nothing, every --help teaches."""

import ast
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ["pipeline", "trainer", "evaluator", "data_cards"]
MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "trainer": {"pipeline", "trainer"},
    "evaluator": {"pipeline", "trainer", "evaluator"},
    "data_cards": {"pipeline", "data_cards"},
}
MODULES = sorted(path for stage in STAGES for path in (ROOT / stage).glob("*.py"))
COMMANDS = [(stage, name) for stage in STAGES for name in import_module(f"{stage}.__main__").COMMANDS]


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
    stages = {name.split(".")[0] for name in imported_by(path)} & set(STAGES)
    assert stages <= MAY_IMPORT[path.parent.name]


def test_one_later_stage_is_called_by_name():
    """Text such as "data_cards.card:write_card" is loaded when it is needed: a build ends with its card, and with nothing else."""
    called = set()
    for path in MODULES:
        texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        named = {text for text in texts if isinstance(text, str) and re.fullmatch(rf"({'|'.join(STAGES)})\.[\w.]+:\w+", text)}
        called |= {(path.name, text) for text in named if text.split(".")[0] not in MAY_IMPORT[path.parent.name]}
    assert called == {("build.py", "data_cards.card:write_card")}


def test_one_module_knows_mindrecord():
    assert [path.name for path in MODULES if any("mindrecord" in name for name in imported_by(path))] == ["shards.py"]


@pytest.mark.parametrize(
    "module",
    [
        *(
            "pipeline.records.codec",
            "pipeline.build.build",
            "trainer.config",
            "trainer.run.checkpoint",
            "evaluator.decoding.decode",
            "evaluator.jobs.run",
            "evaluator.report.report",
        ),
        "data_cards.card",
    ],
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
    # To data_cards, what is no command is a record set's folder: wrong input, not a wrong option.
    assert unknown.returncode == (1 if stage == "data_cards" else 2) and "no-such" in unknown.stderr
