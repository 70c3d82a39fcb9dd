"""The whole line on data that it makes itself: people, records, training, AP on unseen people, pictures.

Every step is a command that a user could type, and is shown as such. A step whose output is there is not done again, and
training continues from its newest checkpoint, so that a quickstart that was stopped goes on with the same command.
"""

import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.cli import guarded, leave, parse
from pipeline.errors import UserError

PROG = "openpose-quickstart"
# One or two large upright people, apart from each other: what a narrow network can learn in ten minutes on two cores.
SCENES = {"width": 320, "height": 240, "max-people": 2, "least-height": 0.7, "clutter": 5, "variety": 0}
# 143 too: while MindSpore computes, Ctrl-C reaches the training as SIGTERM; and while it compiles it dies of it.
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
INSIZE = 184  # of the training crops, in which people are 0.65 to 0.9 times their size in the pictures
JITTER = ["--mirror", "--color-jitter", "0.3"]  # gains some AP for nothing: tests/variants_study.py
EVALUATION_INSIZE = 200  # the 240-pixel side shrinks to it; in the upper half of that range, where places are more exact


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Make people, build records, train the `small` network, and print the AP on unseen people, with pictures.

    Takes about ten minutes on two cores. Run again after a stop, it continues.

    Example: openpose-quickstart --out quickstart
    """

    out: Path = Path("quickstart")
    """Folder of everything that it makes."""
    num_images: int = 2000
    """Images to train on."""
    num_unseen: int = 96
    """Images to evaluate on."""
    variants: int = 4
    """Augmented variants of every training image."""
    num_steps: int = 2000
    """Training steps of 8 images."""
    seed: int = 0
    """Seed of data, augmentation and training."""

    def __post_init__(self) -> None:
        for name in ("num_images", "num_unseen", "variants", "num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def run(config: QuickstartConfig) -> int:
    """Raises UserError where a step fails or `out` holds something else."""
    start = time.monotonic()
    marker = config.out / "quickstart.txt"
    if config.out.exists() and any(config.out.iterdir()) and not marker.exists():
        raise UserError(f"{config.out}: not empty and not of a quickstart; give another --out")
    config.out.mkdir(parents=True, exist_ok=True)
    settings = repr(config) + "\n"
    if marker.exists() and marker.read_text() != settings:
        raise UserError(f"{config.out}: begun with other options; give the same ones, or another --out")
    marker.write_text(settings)
    for title, output, command in steps(config):
        if output is not None and output.exists():
            print(f"\n{title}: done before", flush=True)
            continue
        print(f"\n{title}\n$ {shlex.join(['python', *command[1:]])}", flush=True)
        _run(command)
    print(
        f"\nDone in {(time.monotonic() - start) / 60:.1f} minutes. Look at {config.out}/evaluation/pictures (found | true), "
        f"{config.out}/preview (what the network was taught) and {config.out}/run/curves.png (how its losses fell). Then find people in your own "
        f"pictures: python -m evaluator predict --checkpoint {config.out}/run --out found PICTURES"
    )
    return 0


def steps(config: QuickstartConfig) -> list[tuple[str, Path | None, list[str]]]:
    """Title, the output that shows that a step is done (None: always run), and command of each step."""
    out, seed = config.out, config.seed
    train, unseen, records, preview = (out / name for name in ("train", "unseen", "records", "preview"))
    python = [sys.executable, "-m", "pipeline"]
    return [
        ("1. People to train on", train, people_command(train, config.num_images, "train", seed)),
        ("2. People whom the network will not see", unseen, people_command(unseen, config.num_unseen, "val", seed)),
        ("3. Records", records / "manifest.json", build_command(train, records, config.variants, seed)),
        ("4. Are they whole?", None, [*python, "verify", str(records)]),
        ("5. Pictures of them", preview, [*python, "preview", str(records), "--out", str(preview)]),
        ("6. Training", None, train_command(records, out / "run", config.num_steps, seed) + JITTER),
        ("7. AP on unseen people", None, evaluate_command(out / "run", unseen, out / "evaluation")),
    ]


def people_command(out: Path, num_images: int, split: str, seed: int) -> list[str]:
    """Make people into the folder `out`; split: train or val."""
    scenes = [word for name, value in SCENES.items() for word in (f"--{name}", str(value))]
    options = ["--num-images", str(num_images), "--split", split, "--out", str(out)]
    return [sys.executable, "-m", "pipeline", "synthesize", "--seed", str(seed), *scenes, *options]


def build_command(people: Path, out: Path, variants: int, seed: int) -> list[str]:
    """Build records of the people in a folder of `people_command`, split train."""
    return [
        *(
            sys.executable,
            "-m",
            "pipeline",
            "build",
            "--annotations",
            str(people / "annotations/person_keypoints_train2017.json"),
        ),
        *("--images", str(people / "train2017"), "--out", str(out), "--variants", str(variants), "--seed", str(seed)),
        # The reference's augmentation, for pictures of half its size and people who mostly stand upright.
        *("--insize", str(INSIZE), "--min-scale", "0.65", "--max-scale", "0.9", "--rotation-sd-degrees", "5"),
        *("--min-person-px", "28", "--max-person-px", "250", "--center-jitter-px", "25"),
    ]


def train_command(records: Path, out: Path, num_steps: int, seed: int) -> list[str]:
    """Train the network `small`."""
    return [
        *(sys.executable, "-m", "trainer", "train", "--preset", "small", "--records", str(records), "--out", str(out)),
        *("--seed", str(seed), "--max-epoch", "1000", "--max-steps", str(num_steps), "--resume"),
    ]


def evaluate_command(run: Path, people: Path, out: Path) -> list[str]:
    """Find the people in a folder of `people_command`, split val."""
    truth = ["--annotations", str(people / "annotations/person_keypoints_val2017.json"), "--images", str(people / "val2017")]
    options = ["--insize", str(EVALUATION_INSIZE), "--out", str(out)]
    return [sys.executable, "-m", "evaluator", "run", "--checkpoint", str(run), *truth, *options]


def _run(command: list[str]) -> None:
    """Run a step with this terminal; it gets Ctrl-C from the terminal, and SIGTERM from here."""
    if command[2:4] == ["evaluator", "run"]:
        shutil.rmtree(command[-1], ignore_errors=True)
    process = subprocess.Popen(command)
    try:
        code = process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code in STOPPED:
        raise KeyboardInterrupt
    if code:
        raise UserError(f"the step above failed with exit code {code}")


def main() -> int:
    """The console script."""
    return guarded(PROG, lambda: run(parse(QuickstartConfig, sys.argv[1:], prog=PROG)))


if __name__ == "__main__":
    leave(main())
