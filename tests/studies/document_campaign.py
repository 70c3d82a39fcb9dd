"""Damage a valid document of every kind in many ways, and read it as the commands do.

    python tests/studies/document_campaign.py --examples 3000

Too slow for the test suite; test_document_readers does the same with fewer examples.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro
from hypothesis import HealthCheck, given, seed, settings

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # what pytest adds for the tests

from document_fuzz import Damaged, Reader, check, damaged, readers
from trainer_data import make_records


@dataclass(frozen=True, kw_only=True)
class DocumentConfig:
    """Print how many damaged documents each reader accepted and refused; stop at the first one that it handles otherwise."""

    examples: int = 3_000
    """Damaged documents of each kind."""
    only: tuple[str, ...] = ()
    """Names of readers. Default: all."""
    seed: int = 0
    """Seed of the damage."""


def try_all(reader: Reader, folder: Path, config: DocumentConfig, report: Callable[[str], object]) -> None:
    """Report the message of every damaged document, "" if it was accepted."""

    @seed(config.seed)
    @settings(max_examples=config.examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(document=damaged(reader.document))
    def try_one(document: Damaged) -> None:
        report(check(reader, folder, document))

    try_one()


def main(config: DocumentConfig) -> int:
    with tempfile.TemporaryDirectory(prefix="documents-") as name:
        folder = Path(name)
        records = make_records(folder)
        print(f"{'reader':<14}{'accepted':>10}{'refused':>9}{'seconds':>9}{'longest message':>17}", flush=True)
        for kind, reader in readers(folder, records).items():
            if config.only and kind not in config.only:
                continue
            messages: list[str] = []
            started_s = time.monotonic()
            place = folder / f"damaged {kind}"
            place.mkdir()
            try_all(reader, place, config, messages.append)
            elapsed_s = time.monotonic() - started_s
            num_refused, longest = sum(map(bool, messages)), max(map(len, messages))
            print(f"{kind:<14}{len(messages) - num_refused:>10,}{num_refused:>9,}{elapsed_s:>9.1f}{longest:>17,}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(DocumentConfig, description=__doc__)))
