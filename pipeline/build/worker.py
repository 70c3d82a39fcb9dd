"""One worker's job: a range of images -> their rows -> a published shard of every variant.

Each image is decoded once. Every row depends on (seed, image id, variant) alone.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import cv2
import numpy as np
import pyarrow as pa

from pipeline.build import measures
from pipeline.build.config import BuildConfig
from pipeline.datasets.selection import Sample
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.records.codec import Row
from pipeline.samples import masks
from pipeline.samples.augment import Crop, Transform, apply_transform, plan_transform

if TYPE_CHECKING:
    from pipeline.records.writer import ShardWriter

BUILDER_VERSION = "0.2.0"
SAMPLES_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("variant", pa.int32()),
        ("file_name", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("license", pa.int32()),
        ("people", pa.int32()),
        ("affine", pa.list_(pa.float64(), 6)),
        ("mirrored", pa.bool_()),
        ("bytes", pa.int64()),
        ("crc32", pa.int64()),
        *measures.FIELDS,
    ]
)


@dataclass(frozen=True, kw_only=True)
class Range:
    """The job of one worker: consecutive samples, and the shard of each variant that is still missing."""

    number: int
    samples: list[Sample]
    variants: list[int]
    parent: int | None = None
    """Id of the process of this machine to which the worker belongs; None on a cluster."""

    @property
    def is_orphan(self) -> bool:
        """Whether this is a worker whose build was killed: the folder may be another's by now, or be gone."""
        return self.parent is not None and self.parent not in (os.getpid(), os.getppid())


def shard_name(variant: int, number: int) -> str:
    return f"v{variant:03d}-s{number:05d}"


class Built(NamedTuple):
    """What a worker did, for the progress bar: images looked at, samples they stand for, images skipped, bytes of the rows."""

    num_images: int
    num_samples: int
    num_skipped: int
    num_bytes: int


def build_range(config: BuildConfig, part: Range, folder: Path) -> Built:
    """One worker's job: decode each image of the range once, make its rows, publish the shards of all variants in `folder`."""
    from pipeline.records.writer import ShardWriter  # loads mindspore

    cv2.setNumThreads(1)
    page_bytes = config.format.page_bytes
    writers = {v: ShardWriter(folder / shard_name(v, part.number), page_bytes=page_bytes) for v in part.variants}
    skipped, num_bytes = [], 0
    try:
        for sample in part.samples:
            if part.is_orphan:
                _end(writers.values())
            try:
                image = read_image(config.images / sample.file_name, (sample.width, sample.height))
                ignore = masks.ignore_mask(sample)
            except UnreadableImage as error:
                if config.strict:
                    raise UserError(f"image {config.images / sample.file_name}: {error} (--strict stops here)") from error
                skipped.append({"image_id": sample.image_id, "file_name": sample.file_name, "reason": str(error)})
                continue
            shared = measures.of_image(sample, image)
            for variant, writer in writers.items():
                row, about = make_row(config, sample, image, ignore, variant)
                writer.write(row, {**shared, **about, "shard": writer.folder.name})
                num_bytes += about["bytes"]
        schema = SAMPLES_SCHEMA.with_metadata({"skipped": json.dumps(skipped)})
        for writer in writers.values():
            if part.is_orphan:
                _end(writers.values())
            writer.publish(schema)
    finally:
        for writer in writers.values():
            writer.discard()
    return Built(len(part.samples), len(part.samples) * len(part.variants), len(skipped), num_bytes)


def _end(writers: Iterable["ShardWriter"]) -> NoReturn:
    """End this process, and leave nothing of its work: nobody waits for an answer."""
    for writer in writers:
        writer.discard()
    os._exit(1)


def make_crop(
    config: BuildConfig, sample: Sample, image: np.ndarray, ignore: np.ndarray | None, variant: int
) -> tuple[Transform, Crop]:
    """One variant of one sample -> how it was cut out, and the crop. A pure function of its arguments.

    image: uint8 (H, W, 3) RGB, the original; ignore: bool (H, W) or None.
    """
    rng = np.random.default_rng([config.seed, sample.image_id, variant])
    insize, stride_px = config.targets.insize, config.targets.stride_px
    transform = plan_transform(sample, config.augmentation, insize=insize, stride_px=stride_px, variant=variant, rng=rng)
    crop = apply_transform(
        transform,
        image=image,
        ignore=ignore,
        keypoints=sample.keypoints,
        skeleton=config.format.skeleton,
        insize=insize,
        stride_px=stride_px,
    )
    return transform, crop


def make_row(config: BuildConfig, sample: Sample, image: np.ndarray, ignore: np.ndarray | None, variant: int) -> tuple[Row, dict]:
    """The row of `make_crop`'s crop, and its line of samples.parquet, less what `measures.of_image` tells."""
    transform, crop = make_crop(config, sample, image, ignore, variant)
    row = config.format.encode(crop, image_id=sample.image_id, variant=variant, license=sample.license)
    about = {name: row[name] for name in ("image_id", "variant", "license", "crc32")} | {
        "file_name": sample.file_name,
        "people": len(sample.keypoints),
        "affine": transform.matrix.ravel().tolist(),
        "mirrored": transform.mirrored,
        "bytes": sum(len(block) for block in row.values() if isinstance(block, bytes)),
        "masked": float(config.format.decode_mask(row["mask"]).mean()),
        **measures.of_crop(transform, crop, config.format.skeleton),
    }
    return row, about
