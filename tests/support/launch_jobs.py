"""Start training jobs of one or several processes, and look at what they left."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from trainer_data import TINY_OPTIONS

from trainer.run import checkpoint

STEPS = 40


ROOT = Path(__file__).parents[2]


ENDS_WITHIN_S = 60.0


def train_words(records, out, batch_size: int, *more: str) -> list[str]:
    words = f"train --records {records} --out {out} --batch-size {batch_size} --log-interval 4 --ckpt-interval 5 --keep-checkpoint-max 99".split()
    schedule = f"--max-steps {STEPS} --max-epoch 1000 --lr 0.003 --freeze-backbone-steps 0 --device-target CPU --resume".split()
    return [*words, *schedule, *TINY_OPTIONS, *more]


def start(*words: str, environment: dict | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def launch(*train: str, more: tuple[str, ...] = ()) -> subprocess.Popen:
    return start("trainer", "launch", "--workers", "2", *more, "--", *train)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    said, _ = process.communicate(timeout=240)
    return process.returncode, said


def assert_same(run: Path, other: Path, tolerance: float, step: int = STEPS) -> None:
    mine, theirs = (checkpoint.read_path(folder / f"step-{step:08d}{checkpoint.SUFFIX}")[2] for folder in (run, other))
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_allclose(mine[name], theirs[name], rtol=0, atol=tolerance, err_msg=name)


def losses_of(run: Path) -> list:
    return [(entry["step"], entry["loss"]) for entry in map(json.loads, (run / "log.jsonl").read_text().splitlines())]


def ranks_of(run: Path) -> dict[str, psutil.Process]:
    """Processes that train in `run`, by their rank; the scheduler as "scheduler"."""
    found = {}
    for process in psutil.process_iter():
        try:
            if str(run) in process.cmdline() and "launch" not in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                environment = process.environ()
                found["scheduler" if environment.get("MS_ROLE") == "MS_SCHED" else environment["RANK_ID"]] = process
        except (psutil.Error, KeyError):
            continue
    return found


def wait_for_step(run: Path, step: int, process: subprocess.Popen) -> None:
    beat = run.with_name(f"{run.name}.ranks") / "rank-0.beat"
    while not (beat.exists() and int(beat.read_text() or 0) >= step):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def assert_nobody_left(run: Path) -> None:
    by_s = time.monotonic() + 10
    while (left := ranks_of(run)) and time.monotonic() < by_s:
        time.sleep(0.2)
    assert not left
