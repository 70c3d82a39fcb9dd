"""Options of the command `convert`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from pipeline.datasets.formats.registry import FormatName

Placing = Literal["hard", "symbolic", "copy"]


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Convert annotations of another format to a COCO keypoint file, with its images and its skeleton, ready for `build`.

    Example: python -m pipeline convert --from lsp lspet --out lspet-coco
    """

    source: Annotated[Path, tyro.conf.Positional]
    """Annotation file or folder; the README says which for each format."""
    source_format: Annotated[FormatName, tyro.conf.arg(name="from")]
    """Format of the source."""
    out: Path
    """Output folder; must be absent or empty. Gets annotations.json, images/, skeleton.yaml and faults.tsv,
    and held_out.json with --held-out."""
    images: Path | None = None
    """Folder of the images. Default: the folder images beside the source, or the source's own folder."""
    skeleton: Path | None = None
    """Skeleton: the name of a shipped one or a file. Default: the format's own; for annotation tools, COCO's, so give yours."""
    link: Placing = "hard"
    """How the images get into the output: hard (hard links, or copies on another file system), symbolic (links, so that the
    originals must stay in place) or copy."""
    ignore_unlabeled: bool = True
    """For sources that label only some of the people (lsp, jhmdb, JSON of mpii): ignore everything but the neighborhood of labeled
    people, in the loss and in the metrics, so that other people do not count as background."""
    held_out: float = 0.0
    """Share of the images, from 0 to 1, to hold out for evaluation: they go to held_out.json instead of annotations.json. The SHA-256
    of an image's name decides, so that the choice is always the same."""
    max_faulty: float = 0.01
    """Largest share of the images, and of the annotations, from 0 to 1, that may be faulty. They are left out and listed in
    faults.tsv; if there are more, the command fails."""

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out must be at least 0 and less than 1, got {self.held_out}")
        if not 0 <= self.max_faulty <= 1:
            raise ValueError(f"max_faulty must be from 0 to 1, got {self.max_faulty}")
