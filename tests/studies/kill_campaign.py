"""Kill training runs at random moments, continue them, and compare the results byte by byte with uninterrupted runs.

    python tests/studies/kill_campaign.py --kills 20 --kills-of-two 5

Too slow for the test suite; test_train and test_launch do the same a few times.
"""

import random
import shutil
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

from launch_jobs import ended, launch, losses_of, ranks_of, start, train_words
from trainer_data import make_records

from pipeline.files import TEMPORARY
from trainer.run import checkpoint

STEPS = 120


@dataclass(frozen=True, kw_only=True)
class CampaignConfig:
    """Kill runs of one and of two processes, and print when they were killed and whether the results are the same."""

    kills: int = 20
    """Number of kills of a run of one process."""
    kills_of_two: int = 5
    """Number of kills of one process of a run of two."""
    seed: int = 0
    """Seed of the random moments."""


def main(config: CampaignConfig) -> None:
    rng = random.Random(config.seed)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    records = make_records(folder)
    print(f"{'processes':<11}{'kills':>6}{'before a step':>15}{'steps 1 to ' + str(STEPS):>17}{'while saving':>14}   result")
    for processes, kills in ((1, config.kills), (2, config.kills_of_two)):
        words = train_words(records, folder / f"whole-{processes}", 4 // processes, "--max-steps", str(STEPS))
        assert ended(launch(*words) if processes == 2 else start("trainer", *words))[0] == 0
        run, moments = folder / f"killed-{processes}", Counter()
        for _ in tqdm(range(kills), desc=f"kills of {processes}", disable=None, leave=False):
            moments[_start_and_kill(records, run, processes, rng)] += 1
        words = train_words(records, run, 4 // processes, "--max-steps", str(STEPS))
        code, output = ended(launch(*words) if processes == 2 else start("trainer", *words))
        result = _difference(run, folder / f"whole-{processes}") if code == 0 else output
        print(f"{processes:<11}{kills:>6}{moments['start']:>15}{moments['step']:>17}{moments['save']:>14}   {result}", flush=True)
    shutil.rmtree(folder)


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
