"""A stand-in for the evaluator's process: a package `evaluator` in a folder, whose AP is read from a table.

Run the trainer in that folder; the processes that it starts find this package first.
"""

import json
from pathlib import Path

_PROGRAM = """
import json, os, re, shutil, sys, time
from pathlib import Path
here = Path(__file__).parents[1]
option = dict(zip(sys.argv[2::2], sys.argv[3::2]))
checkpoint = Path(option["--checkpoint"])
step = int(re.search(r"\\d+", checkpoint.stem)[0])
assert "MS_ROLE" not in os.environ, "the evaluation is no rank"
# What the run folder would be if everything were killed now.
shutil.copytree(checkpoint.parent, here / f"killed-{step}", dirs_exist_ok=True)
(here / "calls").open("a").write(f"{step}\\n")
if (here / "hangs").exists():
    (here / "pid").write_text(str(os.getpid()))
    time.sleep(100)
ap = json.loads((here / "aps.json").read_text())[str(step)]
if ap is None:
    sys.exit("python -m evaluator run: error: the disk is gone")
out = Path(option["--out"])
out.mkdir(parents=True)
(out / "metrics.json").write_text(json.dumps({"figures": {"AP": ap, "AP .5": ap, "AP (L)": -1.0}}))
"""


def write_stand_in(folder: Path, aps: dict[int, float | None]) -> Path:
    """Write the package. aps: AP by step; None: the evaluation fails. While folder/hangs exists, it does not end. Returns the folder."""
    (folder / "evaluator").mkdir(parents=True)
    (folder / "evaluator" / "__main__.py").write_text(_PROGRAM)
    (folder / "evaluator" / "__init__.py").write_text("")
    (folder / "aps.json").write_text(json.dumps(aps))
    return folder


def calls(folder: Path) -> list[int]:
    """Return the steps that were evaluated, in order."""
    return [int(line) for line in (folder / "calls").read_text().split()]
