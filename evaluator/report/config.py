"""Options of the command `report`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

MAX_GALLERY = 200


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Write an HTML page about evaluations.

    It contains the COCO metrics, precision-recall curves, the reliability of the scores, an error analysis with the AP that fixing each
    kind of error would yield, figures per keypoint, and all images with predictions and ground truth.

    Example: python -m evaluator report ap --annotations person_keypoints_val2017.json --images val2017

    To compare several evaluations of the same annotation file: python -m evaluator report ap-first ap-second --annotations ...
    """

    evaluations: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Output folders of `run` or `oracle`."""
    annotations: Path
    """COCO keypoint annotation file of these evaluations."""
    images: Path | None = None
    """Folder of the images; without it, skeletons are drawn on gray."""
    out: Path | None = None
    """HTML file to write. Default: report.html in the first folder. Replaces an earlier report, but no other file."""
    skeleton: Path | None = None
    """Skeleton for keypoints other than COCO's (`build --skeleton`); only needed if an evaluation does not contain its own."""
    gallery: int = 12
    """Number of images in the groups best, median and worst; and a quarter of that in the groups of each kind of error."""
    pictures: int = 300
    """Number of images whose pictures are part of the page, first those in groups. The page shows the others on gray, with a link."""

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError("evaluations must be at least one folder, got none")
        if not 0 <= self.gallery <= MAX_GALLERY:
            raise ValueError(f"gallery must be from 0 to {MAX_GALLERY}, got {self.gallery}")
        if self.pictures < 0:
            raise ValueError(f"pictures must be 0 or more, got {self.pictures}")
