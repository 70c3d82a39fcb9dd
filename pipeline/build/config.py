"""Options of the command `build`. Imports nothing heavy."""

import functools
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from pipeline.cli import flatten
from pipeline.datasets.selection import PersonFilter
from pipeline.samples.config import AugmentConfig
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import is_shipped, read_skeleton
from pipeline.tolerance import Tolerance

if TYPE_CHECKING:
    from pipeline.datasets.combined import Source
    from pipeline.datasets.selection import Sample
    from pipeline.records.codec import RecordFormat
    from pipeline.skeleton import Skeleton

MAX_VARIANTS = 1_000  # of a manifest and of the names of shards
Backend = Literal["loky", "dask"]


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Build a record set from COCO keypoints (2014, 2017, or any file of the same format).

    Example: python -m pipeline build --annotations person_keypoints_train2017.json --images train2017 --out records
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {},
        # https://github.com/CMU-Perceptual-Computing-Lab/openpose_train: scale 1/3 to 1.5, target_dist 0.6, 45 degrees
        "cmu": {
            "min_scale": 0.333,
            "max_scale": 1.5,
            "person_share": 0.6,
            "rotation_range_degrees": 45.0,
            "color_probability": 0.0,
            "people_free_share": 0.02,
        },
    }

    annotations: Path | None = None
    """COCO keypoint annotation file (person_keypoints_*.json). Required without --sources."""
    images: Path | None = None
    """Folder with the images. Required without --sources."""
    sources: Path | None = None
    """YAML file that lists several annotated data sets, in place of --annotations and --images: see pipeline/README.md."""
    out: Path
    """Folder of the record set; must be absent or empty. To resume a build or add variants, run the same command again."""
    preset: Literal["reference", "cmu"] = "reference"
    """Defaults of the augmentation: reference (the MindSpore model zoo) or cmu (CMU's training: scale relative to the person, 1/3
    to 1.5; rotation within 45 degrees; no color shift; 2% images without people)."""
    skeleton: Path | None = None
    """Skeleton for keypoints other than COCO's: the name of a shipped one, such as mpii16 (`convert` lists them), or a YAML or JSON
    file with name, joints, limbs, mirror_pairs, source_joints, sigmas, derived. With --sources: the joints and limbs to predict;
    default: those of all sources."""
    variants: int = 1
    """Augmented variants of each image; epoch e trains on variant e mod variants. A larger number than a complete record set has
    adds variants to it."""
    shards: int | None = None
    """Shards per variant. Default: one per 256 images, at most 64."""
    jobs: int = -1
    """Number of processes, at most one per core and per shard; -1 = one per core. Does not affect the records."""
    backend: Backend = "loky"
    """Where to build: loky (processes on this machine) or dask (workers of a dask cluster that share the folders)."""
    scheduler: str | None = None
    """Address of the dask scheduler, such as tcp://host:8786. Required with --backend dask."""
    seed: int = 0
    """Random seed of the augmentation."""
    image_codec: Literal["jpeg", "raw"] = "jpeg"
    """Storage of the crops: jpeg (about 40 KB each) or raw pixels (about 400 KB each, no decoding during training)."""
    jpeg_quality: int = 90
    """JPEG quality of the crops, 1 to 100."""
    strict: bool = False
    """Stop at the first unreadable image instead of skipping, counting and listing it."""
    tolerance: Annotated[Tolerance, tyro.conf.arg(name="")] = field(default_factory=Tolerance)
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    people: Annotated[PersonFilter, tyro.conf.arg(name="")] = field(default_factory=PersonFilter)
    augmentation: Annotated[AugmentConfig, tyro.conf.arg(name="")] = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.sources is None and (self.annotations is None or self.images is None):
            raise ValueError("--annotations and --images are required, or --sources")
        if self.sources is not None and (self.annotations is not None or self.images is not None):
            raise ValueError("--sources replaces --annotations and --images; pass one or the other")
        if not 1 <= self.variants <= MAX_VARIANTS:
            raise ValueError(f"variants must be from 1 to {MAX_VARIANTS:,}, got {self.variants}")
        if self.shards is not None and self.shards < 1:
            raise ValueError(f"shards must be at least 1, got {self.shards}")
        if self.backend == "dask" and self.scheduler is None:
            raise ValueError("--backend dask needs --scheduler")
        if self.backend != "dask" and self.scheduler is not None:
            raise ValueError("--scheduler needs --backend dask")
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        _ = self.format  # read the skeleton and the sources once, before workers start

    @functools.cached_property
    def _inputs(self) -> "tuple[Skeleton, list[Source]]":
        from pipeline.datasets.combined import Source, read_sources  # loads OpenCV and pyarrow, which --help does not need

        if self.sources is not None:
            return read_sources(self.sources, self.skeleton)
        skeleton = read_skeleton(self.skeleton)
        assert self.annotations is not None and self.images is not None  # see __post_init__
        return skeleton, [Source(annotations=self.annotations, images=self.images, skeleton=skeleton)]

    @property
    def inputs(self) -> "list[Source]":
        """The annotated data sets."""
        return self._inputs[1]

    def resolved(self) -> "BuildConfig":
        """Return the same options with absolute paths: the workers of a cluster have other working directories."""
        paths = {name: getattr(self, name) for name in ("annotations", "images", "sources", "skeleton", "out")}
        files = {name: path.resolve() for name, path in paths.items() if path is not None and not is_shipped(path)}
        return replace(self, **files)

    def image_path(self, sample: "Sample") -> Path:
        """Return the path of the image of a sample."""
        return self.inputs[sample.source].images / sample.file_name

    @property
    def image_folders(self) -> str:
        """The image folders, for messages."""
        folders = [str(source.images) for source in self.inputs]
        return f"image folder{'s' if len(folders) > 1 else ''} {', '.join(folders)}"

    @functools.cached_property
    def format(self) -> "RecordFormat":
        """The row format. Raises UserError for a bad skeleton or source file."""
        from pipeline.records.codec import RecordFormat  # see `_inputs`

        return RecordFormat(
            skeleton=self._inputs[0], targets=self.targets, image_codec=self.image_codec, jpeg_quality=self.jpeg_quality
        )

    def content(self) -> dict[str, Any]:
        """Return the options that determine the samples: all except inputs, output and how the build runs."""
        outside = (
            "annotations",
            "images",
            "sources",
            "out",
            "skeleton",
            "jobs",
            "backend",
            "scheduler",
            "strict",
            "max_unreadable",
        )
        return {name: value for name, value in flatten(self).items() if name not in outside}
