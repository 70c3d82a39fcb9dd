"""The command `preview`: draw samples of a record set."""

import cv2
import numpy as np

from pipeline import draw
from pipeline.commands.config import PreviewConfig
from pipeline.errors import UserError
from pipeline.folders import new_folder
from pipeline.geometry import resizing, transform_keypoints
from pipeline.records.codec import Decoded, RecordFormat
from pipeline.records.manifest import SHARDS, check_files, read_manifest
from pipeline.records.reader import read_rows
from pipeline.wording import counted


def run(config: PreviewConfig) -> int:
    """Run `preview`. Raises UserError unless the folder is a complete record set."""
    manifest = read_manifest(config.records)
    if faults := check_files(config.records, manifest, hashes=False):
        raise UserError(f"{config.records}: {faults[0]}; run `python -m pipeline verify {config.records}` for all faults")
    wanted = set(np.linspace(0, manifest.num_samples - 1, min(config.num_samples, manifest.num_samples)).round().astype(int))
    with new_folder(config.out) as folder:
        start = 0
        for shard in manifest.shards:
            chosen = {number - start for number in wanted if start <= number < start + shard.num_rows}
            rows = read_rows(config.records / SHARDS / shard.name) if chosen else ()
            for number, row in enumerate(rows):
                if number in chosen:
                    name = f"{row['image_id']:012d}-v{row['variant']:03d}.png"
                    sample = manifest.format.decode(row)
                    title = f"image {row['image_id']}, {counted(len(sample.keypoints), 'person')}"
                    picture = sample_picture(sample, manifest.format, title)
                    cv2.imwrite(str(folder / name), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            start += shard.num_rows
    print(f"{config.out}: {counted(len(wanted), 'picture')}")
    return 0


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
