"""Does training from random weights learn real people on a CPU? PCK and AP on held-out photographs of LSP-Extended.

    python tests/studies/lsp_study.py --source lspet --out study
    python tests/studies/lsp_study.py --source lspet --out trials --num-steps 500 --recipes small scale ignore targets weight context photos

Converts the photographs, holds a tenth out, builds records, trains, evaluates, and prints a table. One recipe adds to the one before
it; the last one, photos, has smaller crops, so that a step takes 0.7 times as long. An interrupted study continues: repeat the command. To evaluate a run as it is, stop it and pass --evaluate-only.

PCK@0.2: share of the labeled joints that are found within 0.2 of the torso (left shoulder to right hip; without one of them, the
diagonal of the box of the joints / 2.5). "best" takes the prediction of each image with the most right joints, "top" the one with the
highest score. Joints that are not found are wrong, and so are those of images without prediction.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from transfer_study import run_unless_done

LEFT_SHOULDER, RIGHT_HIP = 9, 2  # of lsp14
PARTS = {
    "head": (12, 13),
    "shoulders": (8, 9),
    "elbows": (7, 10),
    "wrists": (6, 11),
    "hips": (2, 3),
    "knees": (1, 4),
    "ankles": (0, 5),
}
PCK_SHARE, DIAGONAL_PER_TORSO = 0.2, 2.5

PEOPLE = ["--min-joints", "1", "--min-area-px", "0"]
# The labeled person takes 0.75 of the shorter side of the median image, or 142 of 192 pixels; 19 of 20 people take 61 to 238.
SCALE = ["--insize", "192", "--person-share", "0.75", "--center-jitter-px", "16"]
CROPS = ["--insize", "160", "--person-share", "0.85", "--center-jitter-px", "12"]  # about the same people with less around them
SMALL_CROPS = ["--insize", "128", "--person-share", "0.85", "--center-jitter-px", "10"]
RANGES = ["--min-scale", "0.5", "--max-scale", "1.25", "--rotation-range-degrees", "30"]
WIDE_RANGES = [*RANGES[:-1], "45"]
TARGETS = ["--heatmap-sigma-px", "9", "--paf-half-width-px", "10"]
SMALL_TARGETS = ["--heatmap-sigma-px", "8", "--paf-half-width-px", "8"]
SMALL = ["--preset", "small", "--mirror", "--color-jitter", "0.3"]
# (whether unlabeled regions are ignored, options of build, options of train, --insize of evaluator run)
RECIPES = {
    "small": (False, ["--insize", "192"], SMALL, 192),
    "scale": (False, [*SCALE, *RANGES], SMALL, 192),
    "ignore": (True, [*SCALE, *RANGES], SMALL, 192),
    "targets": (True, [*CROPS, *RANGES, *TARGETS], SMALL, 192),
    "weight": (True, [*CROPS, *RANGES, *TARGETS], [*SMALL, "--positive-weight", "5"], 192),
    "context": (True, [*CROPS, *RANGES, *TARGETS], ["--preset", "small-photos"], 192),
    # People have the size of training at 0.8 x 192 pixels.
    "photos": (True, [*SMALL_CROPS, *WIDE_RANGES, *SMALL_TARGETS], ["--preset", "small-photos"], 152),
}
AUGMENTATIONS = {
    "one scale": [],
    "mirror": ["--mirror"],
    "3 scales, mirror": ["--mirror", "--scales", "0.75", "1", "1.25"],
    "5 scales, mirror": ["--mirror", "--scales", "0.6", "0.8", "1", "1.2", "1.5"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder with joints.mat and images/ of LSP-Extended")
    parser.add_argument("--out", type=Path, required=True, help="output folder")
    parser.add_argument("--num-steps", type=int, default=16_000, help="training steps, 8 images each")
    parser.add_argument("--variants", type=int, default=6, help="stored variants of each image")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", default=["photos"], choices=RECIPES)
    parser.add_argument("--augmentations", nargs="+", default=list(AUGMENTATIONS), choices=AUGMENTATIONS)
    parser.add_argument("--max-faulty", type=float, default=0.6, help="share of the images that may be missing")
    parser.add_argument("--evaluate-only", action="store_true", help="evaluate the newest checkpoints; do not train")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{'recipe':<10} {'seed':>4} {'evaluated at':<18} {'best':>6} {'top':>6} {'AP':>6}   PCK of parts (best)", flush=True)
    for recipe in options.recipes:
        for seed in options.seeds:
            run = train(options, recipe, seed)
            for name in options.augmentations:
                print(f"{recipe:<10} {seed:>4} {name:<18} {evaluate(options, run, name, RECIPES[recipe][-1])}", flush=True)


def converted(options: argparse.Namespace, ignore: bool) -> Path:
    """Convert the photographs, with or without regions to ignore. Returns the folder."""
    folder = options.out / ("ignore" if ignore else "plain")
    command = [sys.executable, "-m", "pipeline", "convert", "--from", "lsp", str(options.source), "--out", str(folder)]
    command += ["--held-out", "0.1", "--max-faulty", str(options.max_faulty), "" if ignore else "--no-ignore-unlabeled"]
    run_unless_done(options.out, folder, [word for word in command if word])
    return folder


def train(options: argparse.Namespace, recipe: str, seed: int) -> Path:
    """Build the records of a recipe and train on them, unless it is done. Returns the run folder."""
    ignore, build_options, train_options, _ = RECIPES[recipe]
    number = next(n for n, parts in enumerate(RECIPES.values()) if parts[:2] == (ignore, build_options))  # shared by recipes
    records, run, folder = options.out / f"records-{number}", options.out / f"run-{recipe}-{seed}", converted(options, ignore)
    command = [sys.executable, "-m", "pipeline", "build", "--annotations", str(folder / "annotations.json")]
    command += ["--images", str(folder / "images"), "--skeleton", "lsp14", "--out", str(records)]
    run_unless_done(
        options.out, records / "manifest.json", [*command, "--variants", str(options.variants), *PEOPLE, *build_options]
    )
    command = [sys.executable, "-m", "trainer", "train", "--records", str(records), "--out", str(run), "--seed", str(seed)]
    command += ["--max-epoch", "100000", "--max-steps", str(options.num_steps), "--resume"]
    if not options.evaluate_only:
        run_unless_done(options.out, None, [*command, *train_options])
    return run


def evaluate(options: argparse.Namespace, run: Path, augmentation: str, insize: int) -> str:
    """Evaluate on the held-out photographs. Returns a row of the table."""
    folder, out = converted(options, ignore=False), options.out / f"evaluation-{run.name}"
    shutil.rmtree(out, ignore_errors=True)  # training may have continued
    command = [sys.executable, "-m", "evaluator", "run", "--checkpoint", str(run), "--annotations", str(folder / "held_out.json")]
    command += ["--images", str(folder / "images"), "--out", str(out), *AUGMENTATIONS[augmentation]]
    command += ["--insize", str(insize)]
    run_unless_done(options.out, None, command)
    best, top = pck(json.loads((folder / "held_out.json").read_text()), json.loads((out / "results.json").read_text()))
    ap = json.loads((out / "metrics.json").read_text())["figures"]["AP"]
    parts = " ".join(
        f"{name} {best[list(joints)].sum(axis=0)[0] / best[list(joints), 1].sum():.2f}" for name, joints in PARTS.items()
    )
    shares = [counts[:, 0].sum() / counts[:, 1].sum() for counts in (best, top)]
    return f"{shares[0]:>6.3f} {shares[1]:>6.3f} {ap:>6.3f}   {parts}"


def pck(document: dict, results: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Count right and labeled joints, int (14, 2): of the prediction with the most right joints, and of that with the highest score."""
    found: dict[int, list[dict]] = {}
    for result in results:
        found.setdefault(result["image_id"], []).append(result)
    best, top = np.zeros((14, 2), int), np.zeros((14, 2), int)
    for annotation in document["annotations"]:
        if annotation["iscrowd"]:
            continue
        truth = np.array(annotation["keypoints"]).reshape(14, 3)
        labeled = truth[:, 2] > 0
        torso = np.hypot(*(truth[LEFT_SHOULDER] - truth[RIGHT_HIP])[:2])
        if not labeled[[LEFT_SHOULDER, RIGHT_HIP]].all():
            torso = np.hypot(*np.ptp(truth[labeled, :2], axis=0)) / DIAGONAL_PER_TORSO
        people = sorted(found.get(annotation["image_id"], []), key=lambda result: -result["score"])
        points = np.array([result["keypoints"] for result in people]).reshape(-1, 14, 3)
        near = np.hypot(*(points - truth)[..., :2].transpose(2, 0, 1)) <= PCK_SHARE * torso
        right = near & (points[..., 2] > 0) & labeled
        for counts, chosen in ((best, right.sum(axis=1).argmax() if len(right) else 0), (top, 0)):
            counts[:, 1] += labeled
            counts[:, 0] += right[chosen] if len(right) else 0
    return best, top


if __name__ == "__main__":
    main()
