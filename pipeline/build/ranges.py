"""Divide a build into ranges of images and run them in workers."""

import re
import shutil
import time
from dataclasses import replace

import joblib
import numpy as np
from joblib.externals.loky.process_executor import TerminatedWorkerError

from pipeline.build.config import BuildConfig
from pipeline.build.worker import Range, build_range, shard_name
from pipeline.datasets.selection import Sample
from pipeline.errors import UserError
from pipeline.files import remove_unfinished
from pipeline.progress import progress_bar
from pipeline.records.manifest import SHARDS
from pipeline.records.reader import shard_faults

IMAGES_PER_SHARD = 256
MAX_SHARDS = 64


def plan_ranges(config: BuildConfig, samples: list[Sample]) -> list[Range]:
    """Return the ranges that lack a shard. Reads existing shards completely and deletes damaged ones."""
    default = min(MAX_SHARDS, -(-len(samples) // IMAGES_PER_SHARD))
    num_ranges = min(config.shards or default, len(samples))
    bounds = np.linspace(0, len(samples), num_ranges + 1).round().astype(int)
    ranges = []
    for number in range(num_ranges):
        missing = []
        for variant in range(config.variants):
            folder = config.out / SHARDS / shard_name(variant, number)
            if folder.exists() and shard_faults(folder, config.format):
                shutil.rmtree(folder)
            if not folder.exists():
                missing.append(variant)
        if missing:
            part = samples[bounds[number] : bounds[number + 1]]
            ranges.append(Range(number=number, samples=part, variants=missing))
    return ranges


def build_ranges(config: BuildConfig, samples: list[Sample]) -> None:
    """Build all missing shards. Raises UserError if a worker is killed or `config.strict` finds an unreadable image."""
    shards = config.out / SHARDS
    shards.mkdir(exist_ok=True)
    remove_unfinished(shards)
    ranges = plan_ranges(config, samples)
    total = len(samples) * config.variants
    done = total - sum(len(part.samples) * len(part.variants) for part in ranges)
    # The workers of a cluster have other working directories.
    absolute = replace(config, images=config.images.resolve(), out=config.out.resolve())
    work = (joblib.delayed(build_range)(absolute, part, shards.resolve()) for part in ranges)
    parallel = joblib.Parallel(n_jobs=config.jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs")
    num_images = num_skipped = num_bytes = 0
    start_s = time.monotonic()
    try:
        with progress_bar(total=total, initial=done, desc="building", unit="sample") as progress:
            for built in parallel(work):
                num_images += built.num_images
                num_skipped += built.num_skipped
                num_bytes += built.num_bytes
                seconds = time.monotonic() - start_s
                rates = f"{num_images / seconds:.0f} images/s, {num_bytes / seconds / 1e6:.1f} MB/s, {num_skipped} skipped"
                progress.set_postfix_str(rates, refresh=False)
                progress.update(built.num_samples)
    except TerminatedWorkerError as error:
        codes = re.search(r"\{.*\}", str(error))
        raise UserError(
            f"a worker process ended unexpectedly{f', exit codes {codes[0]}' if codes else ''}; if memory is short, use fewer --jobs; if "
            "`ulimit -f` limits the size of files, raise the limit; then run the same command again"
        ) from error
