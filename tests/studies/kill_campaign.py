"""Kill training runs at random moments, continue them, and compare the results byte by byte with uninterrupted runs.

    python tests/studies/kill_campaign.py --kills 20 5 10

Too slow for the test suite; test_train and test_launch do the same a few times.
"""

import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # what pytest adds for the tests

from launch_jobs import assert_no_process_left, ended, launch, launch_hosts, losses_of, ranks_of, start, train_words
from trainer_data import make_records

from pipeline.storage.files import TEMPORARY
from trainer.run import checkpoint

STEPS = 120
HOST_SECONDS = 10  # for a launcher to notice that another one is gone
MEET_SECONDS = 40  # for a launcher to give up waiting for one that was killed before both had started
ENDS_WITHIN_S = 75.0


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """Kill runs of one and of two processes, and print when they were killed and whether the results are the same."""

    kills: tuple[int, int, int] = (20, 5, 10)
    """Number of kills of a run of one process, of one of two processes, and of a rank or a launcher of two hosts (two launchers
    on this machine; some receive SIGTERM instead)."""
    seed: int = 0
    """Seed of the random moments."""


def main(config: CampaignConfig) -> None:
    rng = random.Random(config.seed)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    records = make_records(folder)
    print(f"{'processes':<11}{'kills':>6}{'before a step':>15}{'steps 1 to ' + str(STEPS):>17}{'while saving':>14}   result")
    for processes, kills in ((1, config.kills[0]), (2, config.kills[1])):
        words = train_words(records, folder / f"whole-{processes}", 4 // processes, "--max-steps", str(STEPS))
        assert ended(launch(*words) if processes == 2 else start("trainer", *words))[0] == 0
        run, moments = folder / f"killed-{processes}", Counter()
        for _ in tqdm(range(kills), desc=f"kills of {processes}", disable=None, leave=False):
            moments[_start_and_kill(records, run, processes, rng)] += 1
        words = train_words(records, run, 4 // processes, "--max-steps", str(STEPS))
        code, output = ended(launch(*words) if processes == 2 else start("trainer", *words))
        result = _difference(run, folder / f"whole-{processes}") if code == 0 else output
        print(f"{processes:<11}{kills:>6}{moments['start']:>15}{moments['step']:>17}{moments['save']:>14}   {result}", flush=True)
    if config.kills[2]:
        _kill_hosts(records, folder, config.kills[2], rng)
    shutil.rmtree(folder)


def _kill_hosts(records: Path, folder: Path, kills: int, rng: random.Random) -> None:
    """Kill parts of a job of two hosts, resume it, and print what was killed, how long the end took and the result."""
    run, whole = folder / "killed-hosts", folder / "whole-hosts"
    assert ended(launch(*train_words(records, whole, 2, "--max-steps", str(STEPS))))[0] == 0
    words, more = (
        train_words(records, run, 2, "--max-steps", str(STEPS)),
        ("--host-seconds", str(HOST_SECONDS), "--meet-seconds", str(MEET_SECONDS)),
    )
    for number in range(kills):
        hosts = launch_hosts(*words, more=more)
        before = _wait_for_moment(run, hosts, kills, rng)
        what, host = rng.choice(["rank", "launcher", "SIGTERM"]), rng.randrange(2)
        target = ranks_of(run).get(str(host)) if what == "rank" else hosts[host]
        if target is None:  # it has not started yet
            what, target = "launcher", hosts[host]
        target.send_signal(signal.SIGTERM if what == "SIGTERM" else signal.SIGKILL)
        killed_s = time.monotonic()
        found = [ended(process) for process in hosts]
        took_s, codes = time.monotonic() - killed_s, [code for code, _ in found]
        assert_no_process_left(run)
        verdict = "ok" if 0 not in codes and took_s < ENDS_WITHIN_S else f"FAULT: {[output[-300:] for _, output in found]}"
        steps = f"step {before} to {_newest_step(run)}"
        print(f"host {host} {what:<9} {number + 1:>3}: exit codes {codes} after {took_s:4.1f} s, {steps}, {verdict}", flush=True)
    codes = [ended(process)[0] for process in launch_hosts(*words, more=more)]
    print(f"two hosts, {kills} kills: {_difference(run, whole) if codes == [0, 0] else f'exit codes {codes}'}", flush=True)


def _wait_for_moment(run: Path, hosts: list[subprocess.Popen], kills: int, rng: random.Random) -> int:
    """Wait for a random moment of a job, sometimes before its first step. Returns the step from which the job continued."""
    before, steps = _newest_step(run), rng.randrange(-2, STEPS // kills)
    if steps < 0:
        time.sleep(rng.uniform(0, 6))
        return before
    while _steps_logged(run) < min(before + steps, STEPS - 5) and all(process.poll() is None for process in hosts):
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.15))
    return before


def _start_and_kill(records: Path, run: Path, processes: int, rng: random.Random) -> str:
    """Continue the run and kill it at a random moment within its first dozen steps.

    Returns the phase in which it was killed: "start", "step" or "save".
    """
    words = train_words(records, run, 4 // processes, "--max-steps", str(STEPS))
    job = launch(*words) if processes == 2 else start("trainer", *words)
    before = _newest_step(run)
    steps, moment_s = rng.randrange(-2, 12), rng.uniform(0, 0.15)
    while job.poll() is None and steps >= 0 and _steps_logged(run) < min(before + steps, STEPS - 5):
        time.sleep(0.002)
    if steps < 0:  # before the first step
        time.sleep(rng.uniform(0, 4))
    time.sleep(moment_s)
    saving = bool(list(run.glob(f"{TEMPORARY}step-*")))
    stepped = _newest_step(run) > before or _steps_logged(run) > before
    target = rng.choice(list(ranks_of(run).values()) or [job]) if processes == 2 else job
    target.kill()
    ended(job)
    return "save" if saving else "step" if stepped else "start"


def _newest_step(run: Path) -> int:
    found = checkpoint.read_newest(run) if run.exists() else None
    return found[1].step if found else 0


def _steps_logged(run: Path) -> int:
    try:
        return losses_of(run)[-1][0]
    except (OSError, IndexError, ValueError):
        return 0


def _difference(run: Path, whole: Path) -> str:
    mine, theirs = (checkpoint.read_newest(folder) for folder in (run, whole))
    if mine[1].step != theirs[1].step or mine[2].keys() != theirs[2].keys():
        return f"DIFFERENT: step {mine[1].step} and {theirs[1].step}"
    if different := [name for name in mine[2] if not np.array_equal(mine[2][name], theirs[2][name])]:
        return f"DIFFERENT: {len(different)} tensors, such as {different[0]}"
    return "same bytes, same log" if losses_of(run) == losses_of(whole) else "DIFFERENT log"


if __name__ == "__main__":
    main(tyro.cli(CampaignConfig))
