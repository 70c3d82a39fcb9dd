"""What does it help to start from a network of another skeleton? AP on unseen synthetic people after N steps.

    python tests/studies/transfer_study.py --out study

Trains a network on COCO's 18 joints, then networks on 5 joints (nose, wrists, ankles) of few other images: from random weights, from
the first network (--pretrained-model-path), and from it with a frozen backbone. About half an hour on two cores. An interrupted
study continues.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from evaluator.quickstart import build_command, evaluate_command, people_command, train_command

JOINTS = ("nose", "left_wrist", "right_wrist", "left_ankle", "right_ankle")
LIMBS = [["nose", joint] for joint in JOINTS[1:]]
MIRROR_PAIRS = [["left_wrist", "right_wrist"], ["left_ankle", "right_ankle"]]
SIGMAS = (0.026, 0.062, 0.062, 0.089, 0.089)  # COCO's
NUM_IMAGES, NUM_UNSEEN, NUM_SOURCE_IMAGES = 100, 200, 1000
STARTS = {"random weights": [], "transfer": [], "transfer, --freeze backbone": ["--freeze", "backbone"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output folder for images, records and runs")
    parser.add_argument(
        "--num-steps", type=int, nargs="+", default=[50, 200, 800], help="steps on the five joints, 8 images each"
    )
    parser.add_argument("--num-source-steps", type=int, default=1500, help="steps on COCO's joints, 8 images each")
    options = parser.parse_args()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    source, train, unseen = out / "source", out / "train", out / "unseen"
    for folder, count, split, seed in (
        (source, NUM_SOURCE_IMAGES, "train", 1),
        (train, NUM_IMAGES, "train", 2),
        (unseen, NUM_UNSEEN, "val", 3),
    ):
        run_unless_done(out, folder, people_command(folder, count, split, seed))
    skeleton = write_skeleton(out / "five.yaml")
    for folder in (train, unseen):
        keep_five_joints(folder)
    run_unless_done(out, out / "source-records" / "manifest.json", build_command(source, out / "source-records", 4, 0))
    records = [*build_command(train, out / "records", 4, 0), "--skeleton", str(skeleton), "--min-joints", "1"]
    run_unless_done(out, out / "records" / "manifest.json", records)
    run_unless_done(out, None, train_command(out / "source-records", out / "source-run", options.num_source_steps, 0))
    print(f"{'steps':>6}" + "".join(f"{name:>30}" for name in STARTS), flush=True)
    for num_steps in options.num_steps:
        figures = [study(out, unseen, name, num_steps) for name in STARTS]
        print(f"{num_steps:>6}" + "".join(f"{ap:>30.3f}" for ap in figures), flush=True)


def study(out: Path, unseen: Path, start: str, num_steps: int) -> float:
    """Train and evaluate, unless the results exist. Returns the AP."""
    name = f"{num_steps}-{list(STARTS).index(start)}"
    run, evaluation = out / f"run-{name}", out / f"evaluation-{name}"
    if not evaluation.exists():
        pretrained = [] if start == "random weights" else ["--pretrained-model-path", str(out / "source-run")]
        run_unless_done(out, None, [*train_command(out / "records", run, num_steps, 0), *pretrained, *STARTS[start]])
    run_unless_done(out, evaluation, evaluate_command(run, unseen, evaluation))
    return json.loads((evaluation / "metrics.json").read_text())["figures"]["AP"]


def write_skeleton(path: Path) -> Path:
    """Write the skeleton file of the five joints."""
    fields = {
        "name": "five",
        "joints": [*JOINTS],
        "limbs": LIMBS,
        "mirror_pairs": MIRROR_PAIRS,
        "source_joints": [*JOINTS],
        "sigmas": [*SIGMAS],
    }
    path.write_text(yaml.safe_dump(fields))
    return path


def keep_five_joints(folder: Path) -> None:
    """Reduce the annotations of a folder of `synthesize` to the five joints."""
    (path,) = (folder / "annotations").glob("*.json")
    document = json.loads(path.read_text())
    (category,) = document["categories"]
    if category["keypoints"] == [*JOINTS]:
        return
    columns = [category["keypoints"].index(joint) for joint in JOINTS]
    category.update(keypoints=[*JOINTS], skeleton=[[1, number] for number in range(2, 6)])
    for annotation in document["annotations"]:
        values = annotation["keypoints"]
        annotation["keypoints"] = [value for column in columns for value in values[3 * column : 3 * column + 3]]
        annotation["num_keypoints"] = sum(visibility > 0 for visibility in annotation["keypoints"][2::3])
    path.write_text(json.dumps(document))


def run_unless_done(out: Path, output: Path | None, command: list[str]) -> None:
    """Run a command whose output goes to study.log, unless its output exists."""
    if output is None or not output.exists():
        with open(out / "study.log", "a") as log:
            print("$", shlex.join(command), file=log, flush=True)
            if code := subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
                sys.exit(f"{shlex.join(command)} ended with exit code {code}; see {out / 'study.log'}")


if __name__ == "__main__":
    main()
