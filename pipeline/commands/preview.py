"""The command `preview`: draw samples of a record set."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from pipeline import draw
from pipeline.commands.config import PreviewConfig
from pipeline.errors import UserError
from pipeline.geometry import resizing, transform_keypoints
from pipeline.records.codec import DamagedRow, Decoded, RecordFormat, Row
from pipeline.records.contents import check_files
from pipeline.records.manifest import SHARDS, Manifest, read_manifest
from pipeline.records.reader import ShardReader
from pipeline.storage.folders import new_folder
from pipeline.wording import counted


def run(config: PreviewConfig) -> int:
    """Run `preview`. Raises UserError unless the folder is a complete record set."""
    manifest = read_manifest(config.records)
    if faults := check_files(config.records, manifest, hashes=False):
        raise UserError(f"{config.records}: {faults[0]}; run `python -m pipeline verify {config.records}` for all faults")
    with new_folder(config.out) as folder:
        num_pictures = 0
        for row, sample in spread_samples(config.records, manifest, config.num_samples):
            title = f"image {row['image_id']}, {counted(len(sample.keypoints), 'person')}"
            name = f"{row['image_id']:012d}-v{row['variant']:03d}.png"
            draw.write_picture(folder / name, sample_picture(sample, manifest.format, title))
            num_pictures += 1
    print(f"{config.out}: {counted(num_pictures, 'picture')}")
    return 0


def spread_samples(records: Path, manifest: Manifest, count: int) -> Iterator[tuple[Row, Decoded]]:
    """Yield up to `count` samples spread evenly over the set, with their rows. Raises UserError if one is damaged."""
    chosen = np.unique(np.linspace(0, manifest.num_samples - 1, min(count, manifest.num_samples)).round().astype(int))
    start = 0
    for shard in manifest.shards:
        numbers = [int(number) - start for number in chosen if start <= number < start + shard.num_rows]
        start += shard.num_rows
        if not numbers:
            continue
        try:
            with closing(ShardReader(records / SHARDS / shard.name)) as reader:
                if len(reader) <= max(numbers):
                    raise DamagedRow(f"{shard.name}: lists {counted(len(reader), 'row')}, the manifest {shard.num_rows}")
                rows = [reader.read(number) for number in numbers]
            samples = [manifest.format.decode(row) for row in rows]
        except (DamagedRow, OSError) as error:
            raise UserError(f"{records}: {error}; run `python -m pipeline verify {records}` for all faults") from error
        yield from zip(rows, samples, strict=True)


def sample_picture(sample: Decoded, row_format: RecordFormat, title: str, *, halved: bool = False) -> np.ndarray:
    """Draw a decoded sample, uint8 RGB: crop with skeletons, ignore mask, heatmaps and PAFs side by side with captions.

    `halved` draws at half the size if the stride is even.
    """
    skeleton, image, stride_px, keypoints = row_format.skeleton, sample.image, row_format.targets.stride_px, sample.keypoints
    if halved and stride_px % 2 == 0:
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
        stride_px, keypoints = stride_px // 2, transform_keypoints(resizing(0.5, 0.5), keypoints)
    pictures = [
        draw.label(draw.draw_people(image, keypoints, skeleton), title),
        draw.label(draw.draw_ignore(image, sample.ignore, stride_px), f"ignored: {sample.ignore.mean():.0%}"),
        draw.label(draw.draw_heatmaps(image, sample.heatmaps, skeleton), "heatmaps"),
        draw.label(draw.draw_pafs(image, sample.pafs, skeleton), "PAFs (hue: direction)"),
    ]
    return draw.sheet(pictures, num_columns=len(pictures))
