"""Options of the commands in this package. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Summarize a record set: source, size, people, settings, licenses, and how many images and people the build kept.

    Example: python -m pipeline info records
    """

    records: Annotated[Path, tyro.conf.Positional]
    """Record set made by `build`."""


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Draw samples of a record set: the crop with its skeletons, the ignore mask, the heatmaps and the PAFs side by side.

    Example: python -m pipeline preview records --out pictures --num-samples 20
    """

    records: Annotated[Path, tyro.conf.Positional]
    """Record set made by `build`."""
    out: Path
    """Output folder; must be absent or empty."""
    num_samples: int = 12
    """Number of samples to draw, spread evenly over the record set."""

    def __post_init__(self) -> None:
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")


@dataclass(frozen=True, kw_only=True)
class BenchBuildConfig:
    """Make samples in one process and report rate, time per stage, size and JPEG loss, with a projection to COCO 2017.

    Example: python -m pipeline bench-build --annotations person_keypoints_val2017.json --images val2017
    """

    annotations: Path
    """COCO keypoint annotation file."""
    images: Path
    """Folder with the images."""
    skeleton: Path | None = None
    """Skeleton for keypoints other than COCO's, as for `build`."""
    num_images: int = 100
    """Number of images: the first ones with a target person, repeated if there are fewer."""
    variants: int = 4
    """Augmented variants of each image."""
    insize: int = 368
    """Side of the square crops in pixels."""
    image_codec: Literal["jpeg", "raw"] = "jpeg"
    """Storage of the crops: jpeg or raw pixels."""
    jpeg_quality: int = 90
    """JPEG quality of the crops, 1 to 100."""

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError(f"num_images must be at least 1, got {self.num_images}")


@dataclass(frozen=True, kw_only=True)
class BenchPlanConfig:
    """Generate an annotation file, start a build of it, and report how long planning takes and how much memory it needs.

    The defaults are the size of the COCO 2017 keypoint annotations: 118,000 images, 262,000 people.

    Example: python -m pipeline bench-plan
    """

    num_images: int = 118_000
    """Number of images in the generated annotation file."""
    num_people: int = 262_000
    """Number of people in the generated annotation file."""
    jobs: int = 2
    """Number of worker processes of the build."""
    seconds: float = 20.0
    """How long to watch the memory of the workers, in seconds."""

    def __post_init__(self) -> None:
        for name in ("num_images", "num_people", "jobs", "seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
