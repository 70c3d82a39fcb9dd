"""Rules of the project: imports follow the data, importing is light and does nothing, every --help shows an example."""

import ast
import json
import re
import subprocess
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ["pipeline", "trainer", "evaluator", "data_cards"]
MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "trainer": {"pipeline", "trainer"},
    "evaluator": {"pipeline", "trainer", "evaluator"},
    "data_cards": {"pipeline", "trainer", "data_cards"},  # the lineage of a checkpoint
}
# An entry point composes stages, so that they need not know each other: `build` writes the data card of its record set.
COMPOSES = {"pipeline/__main__.py": {"data_cards"}}
MODULES = sorted(str(path.relative_to(ROOT)) for stage in STAGES for path in (ROOT / stage).rglob("*.py"))
PACKAGES = [module for module in MODULES if module.endswith("/__init__.py")]
# Two modules of one name do the same thing for different stages.
SAME_NAME = {
    "__init__": "",
    "__main__": "the commands of a stage",
    "claim": "who may write to an output folder, and what is resumed",
    "config": "option classes",
    "documents": "documents that are read and checked against types",
    "info": "the command `info` of record sets and of checkpoints",
}
HEAVY = ("mindspore", "pyarrow", "matplotlib", "pycocotools", "onnx", "onnxruntime", "distributed", "joblib", "selenium")


def imports_of(module: str) -> set[str]:
    """Return the dotted names that a file imports anywhere, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def stage_of(module: str) -> str:
    return module.split("/")[0]


def run_python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_data(module):
    imported = {name.split(".")[0] for name in imports_of(module)} & set(STAGES)
    assert imported <= MAY_IMPORT[stage_of(module)] | COMPOSES.get(module, set())


def test_no_later_stage_is_imported_by_a_string():
    """Text such as "data_cards.record_cards.card:write_card", imported when needed, would get around the import rule."""
    for module in MODULES:
        texts = {node.value for node in ast.walk(ast.parse((ROOT / module).read_text())) if isinstance(node, ast.Constant)}
        targets = [text for text in texts if isinstance(text, str) and re.fullmatch(rf"({'|'.join(STAGES)})\.[\w.]+:\w+", text)]
        assert {target.split(".")[0] for target in targets} <= MAY_IMPORT[stage_of(module)], module


def test_only_the_record_writer_imports_mindrecord():
    assert [m for m in MODULES if any("mindrecord" in name for name in imports_of(m))] == ["pipeline/records/writer.py"]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_lives_there_and_what_it_imports(package):
    text = ast.get_docstring(ast.parse((ROOT / package).read_text()))
    assert text and re.search(r"\bimports?\b", text, re.IGNORECASE), "docstring: what lives here, and what it may import"


def test_every_folder_with_code_is_a_package():
    assert {str(Path(module).parent) for module in MODULES} == {str(Path(package).parent) for package in PACKAGES}


def test_modules_of_one_name_do_the_same_thing():
    modules = defaultdict(list)
    for module in MODULES:
        modules[Path(module).stem].append(module)
    assert [found for name, found in modules.items() if len(found) > 1 and name not in SAME_NAME] == []


# What other code imports as a library must not load the framework, nor print. `decoding` runs on devices without MindSpore.
@pytest.mark.parametrize(
    "module",
    [
        "pipeline.build.build",
        "pipeline.records",
        "pipeline.records.codec",
        "pipeline.records.manifest",
        "trainer.config",
        "trainer.run.checkpoint",
        "evaluator",
        "evaluator.jobs.run",
        "evaluator.metrics.coco_eval",
        "evaluator.report.report",
        "data_cards.record_cards.card",
        *(f"{stage}.__main__" for stage in STAGES),
    ],
)
def test_importing_is_light_and_silent(module):
    done = run_python("-c", f"import sys, {module}; sys.exit('mindspore' in sys.modules)")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_decoding_loads_numpy_and_opencv_only():
    code = """
import sys, json
import evaluator.decoding
files = {name.split(".")[0]: module.__file__ for name, module in sys.modules.items() if getattr(module, "__file__", None)}
print(json.dumps([name for name, file in files.items() if "site-packages" in file]))
"""
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    # An editable installation adds a module that finds the project's packages.
    third_party = {name for name in json.loads(done.stdout) if not name.startswith("__editable__")}
    assert (
        {"numpy", "cv2"} <= third_party <= {"numpy", "cv2", "coverage", "_distutils_hack", "sitecustomize"}
    )  # coverage: if it is measured


HELP = """
import contextlib, importlib, io, json, sys
stage, heavy = sys.argv[1], set(sys.argv[2].split(","))
module = importlib.import_module(f"{stage}.__main__")
from pipeline.cli import main
found = {}
for name in module.COMMANDS:
    before = heavy & set(sys.modules)
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            code = main(f"python -m {stage}", "", module.COMMANDS, [name, "--help"])
        except SystemExit as stop:
            code = stop.code or 0
    found[name] = [code, text.getvalue(), sorted(heavy & set(sys.modules) - before)]
print(json.dumps(found))
"""


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_every_command_shows_an_example_and_is_light(stage):
    done = run_python("-c", HELP, stage, ",".join(HEAVY))
    assert done.returncode == 0, done.stderr
    for name, (code, text, loaded) in json.loads(done.stdout).items():
        example = text.partition("Example")[2]
        assert code == 0 and f"python -m {stage} {name}" in example, f"{name}: no example in --help"
        assert loaded == [], f"{stage} {name} --help imports {', '.join(loaded)}; move the option class to a lighter module"


def test_help_of_the_quickstart_is_light():
    done = run_python("-X", "importtime", "-m", "evaluator.quickstart", "--help")
    assert done.returncode == 0 and "openpose-quickstart" in done.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert loaded & set(HEAVY) == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_its_commands(stage):
    listed = run_python("-m", stage, "--help")
    commands = import_module(f"{stage}.__main__").COMMANDS
    assert listed.returncode == 0 and all(f"  {name} " in listed.stdout for name in commands)
    unknown = run_python("-m", stage, "no-such")
    # data_cards takes a word that is no command for the folder of a record set: the work fails, the options are right.
    assert unknown.returncode == (1 if stage == "data_cards" else 2) and "no-such" in unknown.stderr
