"""Kill every command that starts processes at random moments, and look for processes that are left after ten seconds.

    python tests/studies/leftover_campaign.py --kills 10

Too slow for the test suite; test_processes does the same once for some commands.
"""

import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # what pytest adds for the tests

from kill_jobs import GONE_WITHIN_S, commands, killed


@dataclass(frozen=True, kw_only=True)
class LeftoverConfig:
    """Kill commands, and print how many processes they had started and how many were left."""

    kills: int = 10
    """Number of kills of each command: half of them after it has started a process, the others at any time."""
    only: tuple[str, ...] = ()
    """Names of commands. Default: all."""
    seed: int = 0
    """Seed of the random moments."""


def main(config: LeftoverConfig) -> int:
    rng, folder, num_left = random.Random(config.seed), Path(tempfile.mkdtemp(prefix="leftovers-")), 0
    print(f"{'command':<14}{'kills':>6}{'with processes':>16}{'processes':>11}   left after {GONE_WITHIN_S:g} s", flush=True)
    for name, words in commands(folder).items():
        if config.only and name not in config.only:
            continue
        results = [killed(words, folder / f"{name}-{i}", rng, started=i % 2 == 0) for i in range(config.kills)]
        left = [line for _, lines in results for line in lines]
        num_left += len(left)
        others = [number for number, _ in results]
        print(
            f"{name:<14}{config.kills:>6}{sum(map(bool, others)):>16}{sum(others):>11}   {len(left)} {left[:2] or ''}", flush=True
        )
    shutil.rmtree(folder, ignore_errors=True)
    return int(num_left > 0)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(LeftoverConfig)))
