"""Divide a build into ranges of images and run them in workers."""

import itertools
import time
from pathlib import Path

import numpy as np

from pipeline.build.backends import Run
from pipeline.build.config import BuildConfig
from pipeline.build.shards import Shards, shard_name
from pipeline.build.worker import Range, build_range
from pipeline.datasets.selection import Sample
from pipeline.records.manifest import SkippedImage
from pipeline.runtime.progress import progress_bar

IMAGES_PER_SHARD = 256
MAX_SHARDS = 64


def divide(config: BuildConfig, samples: list[Sample]) -> list[list[Sample]]:
    """Return the ranges of a build: consecutive samples, as many ranges as shards per variant."""
    default = min(MAX_SHARDS, -(-len(samples) // IMAGES_PER_SHARD))
    num_ranges = min(config.shards or default, len(samples))
    bounds = np.linspace(0, len(samples), num_ranges + 1).round().astype(int)
    return [samples[start:end] for start, end in itertools.pairwise(bounds)]


def build_ranges(config: BuildConfig, samples: list[Sample], shards: Shards, run: Run) -> list[Path]:
    """Build all missing shards and return the folders of all of them, those of variant 0 first.

    Raises UserError if a worker is killed, an image has changed since other variants were made from it, or more images are
    unreadable than `config` allows.
    """
    shards.folder.mkdir(exist_ok=True)
    parts = divide(config, samples)
    names = [shard_name(variant, number) for variant in range(config.variants) for number in range(len(parts))]
    shards.require_known(set(names))
    ranges, skipped = [], _Skipped(config, len(samples))
    for number, part in enumerate(parts):
        missing, made = shards.of_range(config, number, part)
        skipped.add(made.skipped if made else [])
        if missing:
            ranges.append(Range(number=number, samples=part, variants=missing, made=made, plan=shards.plan))
    _build(config, ranges, shards.folder, run, total=len(samples) * config.variants, skipped=skipped)
    return [path for name in names if (path := shards.find(name)) is not None]


class _Skipped:
    """The unreadable images. Stops the build as soon as there are too many, such as with a wrong image folder."""

    def __init__(self, config: BuildConfig, num_images: int) -> None:
        self._config, self._num_images = config, num_images
        self._entries: dict[int, SkippedImage] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entries: list[SkippedImage]) -> None:
        """Count the skipped images of a range; an image counts once. Raises UserError for too many."""
        self._entries |= {entry["image_id"]: entry for entry in entries}
        unreadable = [(entry["file_name"], entry["reason"]) for entry in self._entries.values()]
        self._config.tolerance.require(unreadable, self._num_images, self._config.image_folders)


def _build(config: BuildConfig, ranges: list[Range], folder: Path, run: Run, *, total: int, skipped: _Skipped) -> None:
    """Build ranges in workers, with a progress bar over all `total` samples."""
    done = total - sum(len(part.samples) * len(part.variants) for part in ranges)
    num_images = num_bytes = 0
    start_s = time.monotonic()
    with progress_bar(total=total, initial=done, desc="building", unit="sample") as progress:
        for built in run(build_range, [(config.resolved(), part, folder.resolve()) for part in ranges]):
            num_images += built.num_images
            num_bytes += built.num_bytes
            skipped.add(built.skipped)
            seconds = time.monotonic() - start_s
            rates = f"{num_images / seconds:.0f} images/s, {num_bytes / seconds / 1e6:.1f} MB/s, {len(skipped)} skipped"
            progress.set_postfix_str(rates, refresh=False)
            progress.update(built.num_samples)
