"""The work of one process: read a range of images, make their rows, publish one shard per variant.

Each image is decoded once for all its variants. Every row depends only on (seed, image id, variant).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from pipeline.build import measures
from pipeline.build.config import BuildConfig
from pipeline.build.shards import Made, shard_name
from pipeline.datasets.selection import Sample
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.records.codec import Row
from pipeline.records.manifest import SkippedImage
from pipeline.runtime.timing import Timed, untimed
from pipeline.samples import masks
from pipeline.samples.augment import Crop, Transform, apply_transform, plan_transform
from pipeline.samples.targets import render_targets

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
    """A unit of work: consecutive samples, and the variants whose shard is missing.

    made: what the shards of other variants were made from; None if there are none. plan: see `Shards`.
    """

    number: int
    samples: list[Sample]
    variants: list[int]
    made: Made | None = None
    plan: str = ""


class Built(NamedTuple):
    """The result of a range, for the progress bar. Skipped images count as images and as samples."""

    num_images: int
    num_samples: int
    num_bytes: int
    skipped: list[SkippedImage]


def build_range(config: BuildConfig, part: Range, folder: Path) -> Built:
    """Make the rows of a range and publish its missing shards in `folder`. Decodes each image once.

    Raises UserError for an unreadable image if `config.strict`, and for an image that is not the one that the shards of other
    variants were made from.
    """
    from pipeline.records.writer import ShardWriter  # loads mindspore

    cv2.setNumThreads(1)
    page_bytes = config.format.page_bytes
    writers = {v: ShardWriter(folder / shard_name(v, part.number), page_bytes=page_bytes) for v in part.variants}
    skipped: list[SkippedImage] = list(part.made.skipped) if part.made else []
    num_bytes = 0
    try:
        for sample in part.samples:
            if part.made and sample.image_id not in part.made.pixels:
                continue  # it was unreadable
            try:
                image, ignore = read_sample(config, sample)
            except UnreadableImage as error:
                if part.made:
                    raise _changed(config, sample, str(error)) from error
                if config.strict:
                    raise UserError(f"image {config.image_path(sample)}: {error} (--strict stops here)") from error
                skipped.append({"image_id": sample.image_id, "file_name": sample.file_name, "reason": str(error)})
                continue
            shared = measures.of_image(sample, image)
            if part.made and shared["pixels"] != part.made.pixels[sample.image_id]:
                raise _changed(config, sample, "its pixels are different")
            for variant, writer in writers.items():
                row, entry = make_row(config, sample, image, ignore, variant)
                writer.write(row, {**shared, **entry, "shard": writer.folder.name})
                num_bytes += entry["bytes"]
        schema = SAMPLES_SCHEMA.with_metadata({"skipped": json.dumps(skipped), "plan": part.plan})
        for writer in writers.values():
            writer.publish(schema)
    finally:
        for writer in writers.values():
            writer.discard()
    return Built(len(part.samples), len(part.samples) * len(part.variants), num_bytes, skipped)


def _changed(config: BuildConfig, sample: Sample, reason: str) -> UserError:
    return UserError(
        f"image {config.image_path(sample)}: {reason}, but it was readable and the same when shards of other variants were "
        f"made from it; restore the image, then run the same command again"
    )


def read_sample(config: BuildConfig, sample: Sample, timed: Timed = untimed) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the image of a sample, uint8 (H, W, 3) RGB, and draw its ignore mask, bool (H, W) or None. Raises UnreadableImage."""
    with timed("read and decode the image"):
        image = read_image(config.image_path(sample), (sample.width, sample.height))
    with timed("ignore mask"):
        ignore = masks.ignore_mask(sample)
    return image, ignore


def make_crop(
    config: BuildConfig,
    sample: Sample,
    image: np.ndarray,
    ignore: np.ndarray | None,
    variant: int,
    timed: Timed = untimed,
) -> tuple[Transform, Crop]:
    """Augment one variant of a sample; return the transform and the crop. Depends only on the arguments.

    image: uint8 (H, W, 3) RGB, the original; ignore: bool (H, W) or None.
    """
    insize, stride_px = config.targets.insize, config.targets.stride_px
    with timed("choose the transform"):
        rng = np.random.default_rng([config.seed, sample.image_id, variant])
        transform = plan_transform(sample, config.augmentation, insize=insize, stride_px=stride_px, variant=variant, rng=rng)
    crop = apply_transform(
        transform,
        image=image,
        ignore=ignore,
        keypoints=sample.keypoints,
        skeleton=config.format.skeleton,
        insize=insize,
        stride_px=stride_px,
        timed=timed,
    )
    return transform, crop


def make_row(
    config: BuildConfig,
    sample: Sample,
    image: np.ndarray,
    ignore: np.ndarray | None,
    variant: int,
    timed: Timed = untimed,
) -> tuple[Row, dict[str, Any]]:
    """Make one variant of a sample; return its row and its entry in samples.parquet without `measures.of_image` and `shard`."""
    transform, crop = make_crop(config, sample, image, ignore, variant, timed)
    with timed("heatmaps and PAFs, quantized"):
        heatmaps, pafs = render_targets(crop.keypoints, skeleton=config.format.skeleton, config=config.targets)
    with timed("ignore mask"):
        crop = replace(crop, ignore=masks.keep_targets(crop.ignore, heatmaps, pafs))
    row = config.format.encode(
        crop, heatmaps, pafs, image_id=sample.image_id, variant=variant, license=sample.license, timed=timed
    )
    entry = {
        **{name: row[name] for name in ("image_id", "variant", "license", "crc32")},
        "file_name": sample.file_name,
        "people": len(sample.keypoints),
        "affine": transform.matrix.ravel().tolist(),
        "mirrored": transform.mirrored,
        "bytes": sum(len(block) for block in row.values() if isinstance(block, bytes)),
        **measures.of_crop(transform, crop, config.format.skeleton),
    }
    return row, entry
