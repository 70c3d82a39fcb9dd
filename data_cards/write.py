"""The command `write`: write the card of an existing record set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from data_cards.card import write_card
from data_cards.index import read_complete_manifest
from pipeline.records.manifest import CARD
from pipeline.wording import counted


@dataclass(frozen=True, kw_only=True)
class WriteConfig:
    """Write the card of a record set: CARD.md, croissant.json and pictures/, from what the build measured.

    With --against, also search other record sets for shared images (same id, or same pixels under another id). The card then shows
    a warning, and the exit code is 1, if any image is shared.

    Example: python -m data_cards records
             python -m data_cards write records --against val-records
    """

    records: Annotated[Path, tyro.conf.Positional]
    """Folder of a record set, made by `python -m pipeline build`."""
    against: tuple[Path, ...] = ()
    """Record sets with which this one must not share images, such as the one of the validation images."""


def run(config: WriteConfig) -> int:
    """Run the command `write`. Raises UserError if a folder is not a complete record set."""
    manifest = read_complete_manifest(config.records)
    leakages = write_card(config.records, manifest, against=config.against)
    print(f"{config.records / CARD}: {counted(manifest.num_samples, 'sample')}, digest {manifest.digest[:16]}")
    for leakage in leakages:
        for line in leakage.lines():
            print(f"  {'LEAKAGE' if leakage.found else 'no leakage'} {line}")
    return int(any(leakage.found for leakage in leakages))
