"""The whole pipeline on generated data: images of drawn people, records, training, AP on unseen images, calibrated scores, pictures.

Every step is a command that you could type, and is printed before it runs. Steps whose output exists are skipped, and
training continues from its newest checkpoint, so that a quickstart that was stopped continues with the same command.
"""

import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli import guarded, leave, parse
from pipeline.errors import UserError
from pipeline.runtime.processes import run_process
from pipeline.storage.folders import foreign_entries, require_writable

PROG = "openpose-quickstart"
MARKER = "quickstart.txt"  # identifies the output folder, and holds the options
# One or two large upright people who do not overlap: what a small network can learn in ten minutes on two cores.
SCENES = {"width": 320, "height": 240, "max-people": 2, "min-person-height": 0.7, "clutter": 5, "variety": 0}
INSIZE = 184  # side of the training crops, in which people have 0.65 to 0.9 times their size in the images
JITTER = ["--mirror", "--color-jitter", "0.3"]  # improves AP at no cost, see tests/studies/variants_study.py
EVALUATION_INSIZE = 200  # the shorter side of the images is 240; people keep about the size that they have in training


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Generate images, build records, train the `small` network, print its AP on unseen images, with pictures, and calibrate it.

    Takes about eleven minutes on two cores. To continue after a stop, repeat the command.

    Example: openpose-quickstart --out quickstart
    """

    out: Path = Path("quickstart")
    """Folder for all outputs."""
    num_images: int = 2000
    """Number of training images."""
    num_unseen: int = 96
    """Number of evaluation images."""
    variants: int = 4
    """Augmented variants of every training image."""
    num_steps: int = 2500
    """Number of training steps, with 8 samples per step."""
    seed: int = 0
    """Random seed of images, augmentation and training."""

    def __post_init__(self) -> None:
        for name in ("num_images", "num_unseen", "variants", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def run(config: QuickstartConfig) -> int:
    """Run all steps. Raises UserError if a step fails or `out` is in use."""
    start_s = time.monotonic()
    _claim(config)
    for title, output, command in steps(config):
        if output is not None and output.exists():
            print(f"\n{title}: already done", flush=True)
            continue
        print(f"\n{title}\n$ {shlex.join(['python', *command[1:]])}", flush=True)
        _run(command)
    out, network = config.out, _calibrate(config)
    print(
        f"\nDone in {(time.monotonic() - start_s) / 60:.1f} minutes. Results:\n"
        f"  {out}/evaluation/pictures  predictions (left) and ground truth (right)\n"
        f"  {out}/preview              training samples with their targets\n"
        f"  {out}/run/curves.png       training losses\n"
        f"  {network}\n"
        f"                            the network, which has seen drawings only: it finds no people in photographs. Try it:\n"
        f"  python -m evaluator predict --checkpoint {network} --insize {EVALUATION_INSIZE} --out found {out}/unseen/val2017\n"
        f"To find people in photographs, start from published weights (README, Start from published weights):\n"
        f"  python -m trainer import FILE --out network.safetensors\n"
        f"  python -m evaluator predict --checkpoint network.safetensors --out found PHOTOS"
    )
    return 0


def _claim(config: QuickstartConfig) -> None:
    """Create the output folder. Raises UserError if it contains something else, or a quickstart with other options."""
    marker = config.out / MARKER
    require_writable(config.out, f"output folder {config.out}")
    if foreign_entries(config.out) and not marker.exists():
        raise UserError(f"{config.out}: not empty, and not the output of a quickstart; choose another --out")
    config.out.mkdir(parents=True, exist_ok=True)
    settings = repr(config) + "\n"
    if marker.exists() and marker.read_text() != settings:
        raise UserError(f"{config.out}: was started with other options; use the same ones, or choose another --out")
    marker.write_text(settings)


def steps(config: QuickstartConfig) -> list[tuple[str, Path | None, list[str]]]:
    """Return title, output and command of each step. A step is done if its output exists; without output it is always run."""
    out, seed = config.out, config.seed
    train, unseen, records, preview = (out / name for name in ("train", "unseen", "records", "preview"))
    python = [sys.executable, "-m", "pipeline"]
    return [
        ("1. Generate training images", train, people_command(train, config.num_images, "train", seed)),
        ("2. Generate evaluation images", unseen, people_command(unseen, config.num_unseen, "val", seed)),
        ("3. Build records", records / "manifest.json", build_command(train, records, config.variants, seed)),
        ("4. Verify records", None, [*python, "verify", str(records)]),
        ("5. Draw samples", preview, [*python, "preview", str(records), "--out", str(preview)]),
        ("6. Train", None, train_command(records, out / "run", config.num_steps, seed) + JITTER),
        ("7. Evaluate on unseen images", None, evaluate_command(out / "run", unseen, out / "evaluation")),
    ]


def people_command(out: Path, num_images: int, split: str, seed: int) -> list[str]:
    """Return the command that generates images of people in the folder `out`. split: train or val."""
    scenes = [word for name, value in SCENES.items() for word in (f"--{name}", str(value))]
    options = ["--num-images", str(num_images), "--split", split, "--out", str(out)]
    return [sys.executable, "-m", "pipeline", "synthesize", "--seed", str(seed), *scenes, *options]


def build_command(people: Path, out: Path, variants: int, seed: int) -> list[str]:
    """Return the command that builds records of the training images in a folder of `people_command`."""
    return [
        *(sys.executable, "-m", "pipeline", "build"),
        *("--annotations", str(people / "annotations/person_keypoints_train2017.json")),
        *("--images", str(people / "train2017"), "--out", str(out), "--variants", str(variants), "--seed", str(seed)),
        # The reference augmentation, scaled to smaller images, with less rotation because the people are upright.
        *("--insize", str(INSIZE), "--min-scale", "0.65", "--max-scale", "0.9", "--rotation-sd-degrees", "5"),
        *("--min-person-px", "28", "--max-person-px", "250", "--center-jitter-px", "25"),
    ]


def train_command(records: Path, out: Path, num_steps: int, seed: int) -> list[str]:
    """Return the command that trains the network `small`, with narrower stages: more steps in the same time give a higher AP."""
    return [
        *(sys.executable, "-m", "trainer", "train", "--preset", "small", "--stage-channels", "32"),
        *("--records", str(records), "--out", str(out)),
        *("--seed", str(seed), "--max-epoch", "1000", "--max-steps", str(num_steps), "--resume"),
    ]


def evaluate_command(run: Path, people: Path, out: Path) -> list[str]:
    """Return the command that evaluates on the validation images in a folder of `people_command`."""
    annotations, images = people / "annotations/person_keypoints_val2017.json", people / "val2017"
    options = ["--insize", str(EVALUATION_INSIZE), "--annotations", str(annotations), "--images", str(images), "--out", str(out)]
    return [sys.executable, "-m", "evaluator", "run", "--checkpoint", str(run), *options]


def calibrate_command(run: Path, people: Path, evaluation: Path, out: Path) -> list[str]:
    """Return the command that calibrates the scores with an evaluation of `evaluate_command`."""
    annotations = people / "annotations/person_keypoints_val2017.json"
    options = ["--evaluation", str(evaluation), "--annotations", str(annotations), "--out", str(out)]
    return [sys.executable, "-m", "evaluator", "calibrate", "--checkpoint", str(run), *options]


def _run(command: list[str]) -> None:
    """Run a step. Raises UserError if it fails."""
    if command[2:4] == ["evaluator", "run"]:  # evaluated again on every run, because training may have continued
        shutil.rmtree(command[-1], ignore_errors=True)
    code = run_process(command)
    if code:
        raise UserError(f"the last step failed with exit code {code}; see its message above")


def _calibrate(config: QuickstartConfig) -> Path:
    """Calibrate the scores with the evaluation. Returns the network: without enough people that it finds, the run folder."""
    out, run = config.out / "network.safetensors", config.out / "run"
    out.unlink(missing_ok=True)
    command = calibrate_command(run, config.out / "unseen", config.out / "evaluation", out)
    print(f"\n8. Calibrate the scores\n$ {shlex.join(['python', *command[1:]])}", flush=True)
    return run if run_process(command) else out


def main() -> int:
    """Entry point of the console script."""
    return guarded(PROG, lambda: run(parse(QuickstartConfig, sys.argv[1:], prog=PROG)), prints=False)


if __name__ == "__main__":
    leave(main())
