"""Options of the commands `write`, `compare` and `lineage`. Imports nothing heavy, so that `--help` is fast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


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


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Show two record sets side by side: sizes, settings that differ, people, keypoints, augmentation, licenses, shared images.

    Example: python -m data_cards compare records other-records
    """

    first: Annotated[Path, tyro.conf.Positional]
    """Folder of a record set, made by `python -m pipeline build`."""
    second: Annotated[Path, tyro.conf.Positional]
    """Folder of the record set to compare with."""


@dataclass(frozen=True, kw_only=True)
class LineageConfig:
    """Show what a network has learned from: its training runs, their data sets and the licenses of the images, and imported weights.

    The checkpoint contains all of it, also of the runs before --pretrained-model-path; the record sets are not needed.

    Example: python -m data_cards lineage runs/first --json lineage.json
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Checkpoint file, published folder, or run folder, whose newest checkpoint is used."""
    json: Path | None = None
    """Also write the lineage to this file."""
