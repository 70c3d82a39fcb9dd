"""The example in a published folder: the program find_people.py with the modules that it imports, which need no installation."""

from pathlib import Path

from pipeline.storage.files import place_file

FOLDER = "example"
PROGRAM = "evaluator/export/find_people.py"
# What the program imports, directly and indirectly. A test runs it with these alone.
MODULES = (
    "evaluator/decoding/__init__.py",
    "evaluator/decoding/decoder.py",
    "evaluator/decoding/grouping.py",
    "evaluator/decoding/scores.py",
    "pipeline/draw.py",
    "pipeline/errors.py",
    "pipeline/geometry.py",
    "pipeline/skeleton.py",
    "pipeline/wording.py",
)
NOTE = '"""A part of openpose-mindspore, Apache License 2.0: the modules that find_people.py imports."""\n'


def write_example(folder: Path) -> None:
    """Write the example into `folder`, which need not exist."""
    source = Path(__file__).parents[2]
    for name in MODULES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        place_file(source / name, target, "copy")
    for package in {Path(name).parts[0] for name in MODULES}:
        (folder / package / "__init__.py").write_text(NOTE)
    place_file(source / PROGRAM, folder / Path(PROGRAM).name, "copy")
