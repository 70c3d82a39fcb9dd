"""Commands that start processes, killed with SIGKILL, and which of their processes are left."""

import contextlib
import os
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
from trainer_data import TINY, TINY_OPTIONS, make_info, make_records

from pipeline.skeletons import COCO18
from trainer.run import checkpoint

ROOT = Path(__file__).parents[2]
MARK = "OPENPOSE_TEST_MARK"  # variable by which the processes of a command are found
GONE_WITHIN_S = 10.0
MAX_STARTED_S = 30.0


def commands(folder: Path) -> dict[str, list[str]]:
    """Prepare inputs in `folder`; return the words of every command that starts processes. "OUT" is a new folder."""
    from trainer.networks.inference import build

    records = make_records(folder, num_images=48, variants=3, shards=12)
    run, people = folder / "run", folder / "people"
    run.mkdir()
    tensors = {checkpoint.NETWORK + name: p.asnumpy() for name, p in build(TINY, COCO18).parameters_dict().items()}
    checkpoint.save_checkpoint(run / "step-00000007.safetensors", make_info(), {n: np.asarray(t) for n, t in tensors.items()})
    source = f"--annotations {people}/annotations/person_keypoints_train2017.json --images {people}/train2017"
    train = f"train --records {records} --out OUT --batch-size 2 --max-steps 100000 --max-epoch 100000 --device-target CPU"
    lines = {
        "synthesize": "pipeline synthesize --out OUT --num-images 20000 --jobs 2",
        "clips": "pipeline synthesize --video --out OUT --num-clips 200 --jobs 2",
        "build": f"pipeline build {source} --out OUT --variants 40 --shards 8 --insize 184 --jobs 2",
        "verify": f"pipeline verify {records} --jobs 2",
        "bench-plan": "pipeline bench-plan --num-images 2000 --num-people 4000",
        "launch": f"trainer launch --workers 2 -- {train}",
        "bench-step": "trainer bench-step --preset small",
        "check-device": "trainer check-device --device-target CPU",
        "watch": f"evaluator watch --run {run} {source} --out OUT --device-target CPU",
        "predict": f"evaluator predict --checkpoint {run} --out OUT {_video(folder)} --device-target CPU",
        "export": f"evaluator export --checkpoint {run} --format MINDIR --precision O2 --out OUT/network.mindir --device-target CPU",
        "quickstart": "evaluator.quickstart --out OUT",
    }
    return {name: line.split() + (TINY_OPTIONS if name == "launch" else []) for name, line in lines.items()}


def _video(folder: Path) -> Path:
    """Write a video of 2,000 gray frames, long enough for a kill while the annotated video is encoded."""
    path = folder / "gray.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(2000):
        writer.write(np.full((48, 64, 3), 127, np.uint8))
    writer.release()
    return path


def killed(words: list[str], out: Path, rng: random.Random, *, started: bool) -> tuple[int, list[str]]:
    """Start a command and kill its first process at a random moment, after it has started others or at any time.

    Returns the number of other processes at that moment, and the command lines of those that are left after GONE_WITHIN_S.
    """
    mark = secrets.token_hex(8)
    command = [sys.executable, "-m", *(word.replace("OUT", str(out)) for word in words)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    by_s = time.monotonic() + MAX_STARTED_S
    while started and len(_marked(mark)) < 2 and process.poll() is None and time.monotonic() < by_s:
        time.sleep(0.02)
    time.sleep(rng.uniform(0, 0.5 if started else 8))
    num_others = len(_marked(mark)) - (process.poll() is None)
    process.kill()
    process.wait()
    by_s = time.monotonic() + GONE_WITHIN_S
    while (left := _marked(mark)) and time.monotonic() < by_s:
        time.sleep(0.1)
    lines = [_command_line(leftover) for leftover in left]
    for leftover in left:
        with contextlib.suppress(psutil.Error):
            leftover.kill()
    return num_others, lines


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def _command_line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return f"process {process.pid}"
