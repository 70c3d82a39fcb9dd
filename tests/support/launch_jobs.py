"""Training jobs of one or several processes, and checks of what they leave behind."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from trainer_data import TINY_OPTIONS

from trainer.run.checkpoint import read_checkpoint
from trainer.run.layout import LOG, checkpoint_path
from trainer.run.log import read_log

ROOT = Path(__file__).parents[2]
STEPS = 40
ENDS_WITHIN_S = 60.0


def train_words(records: Path, out: Path, batch_size: int, *more: str) -> list[str]:
    words = f"train --records {records} --out {out} --batch-size {batch_size} --log-interval 1 --ckpt-interval 5 --keep-checkpoint-max 99".split()
    schedule = f"--max-steps {STEPS} --max-epoch 1000 --lr 0.003 --freeze-backbone-steps 0 --device-target CPU --resume".split()
    return [*words, *schedule, *TINY_OPTIONS, *more]


def start(*words: str, environment: dict | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def launch(*train: str, more: tuple[str, ...] = ()) -> subprocess.Popen:
    return start("trainer", "launch", "--workers", "2", *more, "--", *train)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for the end; return exit code and output."""
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def assert_same(run: Path, other: Path, tolerance: float, step: int = STEPS) -> None:
    """Compare all tensors of the checkpoints of a step."""
    first, second = (read_checkpoint(checkpoint_path(folder, step))[1] for folder in (run, other))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=tolerance, err_msg=name)


def losses_of(run: Path) -> list[tuple[int, float]]:
    return [(entry["step"], entry["loss"]) for entry in read_log(run)]


def ranks_of(run: Path) -> dict[str, psutil.Process]:
    """Return the processes that train in `run` by rank; the scheduler as "scheduler"."""
    found = {}
    for process in psutil.process_iter():
        try:
            if str(run) in process.cmdline() and "launch" not in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                environment = process.environ()
                found["scheduler" if environment.get("MS_ROLE") == "MS_SCHED" else environment["RANK_ID"]] = process
        except (psutil.Error, KeyError):
            continue
    return found


def wait_for_step(run: Path, step: int, *processes: subprocess.Popen) -> None:
    """Wait until the log of `run` has the step."""
    while not ((run / LOG).exists() and (losses_of(run) or [(0, 0.0)])[-1][0] >= step):
        for process in processes:
            assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)


def assert_no_process_left(run: Path) -> None:
    """Wait up to 10 s for all processes of `run` to end."""
    by_s = time.monotonic() + 10
    while (left := ranks_of(run)) and time.monotonic() < by_s:
        time.sleep(0.2)
    assert not left


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch_host(number: int, port: int, *train: str, more: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start the launcher of one of two "hosts" of this machine, with one process each."""
    words = f"launch --workers 1 --nodes 2 --node-rank {number} --master-addr 127.0.0.1 --master-port {port}".split()
    return start("trainer", *words, *more, "--", *train)


def launch_hosts(*train: str, more: tuple[str, ...] = ()) -> list[subprocess.Popen]:
    """Start both hosts."""
    port = free_port()
    return [launch_host(number, port, *train, more=more) for number in (0, 1)]
