"""What a reader returns: images and people in this project's terms."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.boxes import Box
from pipeline.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a reader gets: the source, the folder of the images if it was given, and the skeleton."""

    source: Path
    images: Path | None
    skeleton: Skeleton

    @property
    def num_joints(self) -> int:
        """Number of keypoints of a person in the annotations."""
        return len(self.skeleton.source_joints)

    def image_folder(self, beside: Path) -> Path:
        """Return --images, else the folder `images` in `beside`, else `beside`."""
        return self.images or (beside / "images" if (beside / "images").is_dir() else beside)


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person, or a region to ignore.

    where: names the entry in messages. keypoints: float64 (S, 3) in the order of `skeleton.source_joints`, x and y in pixels of the
    image (the center of the first pixel is 0, 0), v in {0, 1, 2}; None for a region or a person without keypoints. area: of the
    segmentation, in square pixels. iscrowd: a region to ignore. more: further fields of the COCO annotation.
    """

    where: str
    keypoints: np.ndarray | None = None
    box: Box | None = None
    area: float | None = None
    segmentation: Any = None
    iscrowd: bool = False
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class SourceImage:
    """An image of the source.

    name: its path in the output's image folder. file: where it is. size: width and height as annotated, if they are. id: None to
    number the images in order. license: id of `Source.licenses`. more: further fields of the COCO image.
    """

    name: str
    file: Path
    size: tuple[int, int] | None = None
    id: int | None = None
    license: int | None = None
    people: list[Person] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source that has been read.

    licenses: the source's own list of COCO licenses, if it has one. notes: what a reader should know. labels_everyone: False if
    the source labels only some of the people in an image.
    """

    images: Sequence[SourceImage]
    licenses: Sequence[dict[str, Any]] = ()
    notes: tuple[str, ...] = ()
    labels_everyone: bool = True
