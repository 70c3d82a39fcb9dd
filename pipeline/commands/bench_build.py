"""The command `bench-build`: time, size and JPEG loss of samples, and a projection to COCO 2017."""

import tempfile
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from pipeline.build.config import BuildConfig
from pipeline.build.worker import Range, build_range, make_crop, make_row, read_sample
from pipeline.commands.config import BenchBuildConfig
from pipeline.datasets.selection import PersonFilter, Sample, read_annotations
from pipeline.errors import UserError
from pipeline.images import UnreadableImage
from pipeline.records.codec import COLUMNS
from pipeline.runtime.progress import progress_bar
from pipeline.runtime.timing import StageTimes
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import read_skeleton
from pipeline.wording import counted

COCO_IMAGES = 56_599  # of train2017 with keypoints, https://cocodataset.org/#keypoints-2020; the person filter keeps fewer
COCO_VARIANTS = (1, 4, 16)


def run(config: BenchBuildConfig) -> int:
    """Run `bench-build`. Raises UserError for bad input."""
    cv2.setNumThreads(1)
    samples = _readable_samples(config)
    repeated = [samples[i % len(samples)] for i in range(config.num_images)]
    variants = list(range(config.variants))
    with tempfile.TemporaryDirectory(prefix="bench-build-") as temporary:
        build = _build_config(config, Path(temporary))
        build_range(build, Range(number=0, samples=repeated[:4], variants=variants), Path(temporary))  # warm-up
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        built = build_range(build, Range(number=1, samples=repeated, variants=variants), Path(temporary))
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    sample_ms = 1000 * cpu_s / built.num_samples
    print(
        f"{built.num_samples / wall_s:,.0f} samples/s in one process, {1000 / sample_ms:,.0f} samples per core second, "
        f"{counted(config.variants, 'variant')}"
    )
    times, image_s = _time_stages(build, repeated)
    _print_stages(times, built.num_samples, sample_ms)
    sizes, psnr_db = _measure_sizes(build, samples)
    _print_sizes(config, sizes, psnr_db)
    image_ms = 1000 * image_s / config.num_images
    _print_coco(image_ms, sample_ms - image_ms / config.variants, sum(sizes.values()))
    return 0


def _build_config(config: BenchBuildConfig, out: Path) -> BuildConfig:
    return BuildConfig(
        annotations=config.annotations, images=config.images, out=out, skeleton=config.skeleton, variants=config.variants, shards=1,
        jobs=1, image_codec=config.image_codec, jpeg_quality=config.jpeg_quality, targets=TargetConfig(insize=config.insize),
    )  # fmt: skip


def _readable_samples(config: BenchBuildConfig) -> list[Sample]:
    """Return the first `num_images` samples whose image is readable."""
    selection = read_annotations(config.annotations, skeleton=read_skeleton(config.skeleton), person_filter=PersonFilter())
    build = _build_config(config, Path())
    found = []
    for sample in selection.samples:
        try:
            read_sample(build, sample)
        except UnreadableImage:
            continue
        found.append(sample)
        if len(found) == config.num_images:
            break
    if not found:
        raise UserError(f"image folder {config.images}: no readable image with a target person of {config.annotations}")
    return found


def _time_stages(build: BuildConfig, samples: list[Sample]) -> tuple[StageTimes, float]:
    """Make all rows once more with a timer; return CPU seconds by stage, and the part that does not depend on the variants."""
    times, image_s = StageTimes(), 0.0
    for sample in progress_bar(samples, desc="timing stages", unit="image"):
        start = time.process_time()
        image, ignore = read_sample(build, sample, times.timed)
        image_s += time.process_time() - start
        for variant in range(build.variants):
            make_row(build, sample, image, ignore, variant, times.timed)
    return times, image_s


def _print_stages(times: StageTimes, num_samples: int, sample_ms: float) -> None:
    """Print CPU time by stage; the last line is the part of `sample_ms` that no stage covers."""
    print(f"\n{'stage':<36}{'ms per sample':>14}{'share':>8}")
    stages = {stage: 1000 * seconds / num_samples for stage, seconds in times.seconds.items()}
    stages["statistics, CRC, write, read back"] = sample_ms - sum(stages.values())
    for stage, stage_ms in stages.items():
        print(f"{stage:<36}{stage_ms:>14.2f}{stage_ms / sample_ms:>8.0%}")


def _measure_sizes(build: BuildConfig, samples: list[Sample]) -> tuple[dict[str, float], list[float]]:
    """Return the mean size of a sample in bytes by column, and the PSNR in dB of each crop after its codec."""
    sizes: Counter[str] = Counter()
    psnr_db = []
    for sample in samples:
        image, ignore = read_sample(build, sample)
        for variant in range(build.variants):
            _, crop = make_crop(build, sample, image, ignore, variant)
            row, _ = make_row(build, sample, image, ignore, variant)
            sizes.update({name: len(row[name]) for name, kind in COLUMNS.items() if kind == "bytes"})
            error = np.square(build.format.decode_image(row["image"]).astype(np.float32) - crop.image).mean()
            psnr_db.append(float(10 * np.log10(255**2 / max(error, 1e-9))))
    return {name: size / len(psnr_db) for name, size in sizes.items()}, psnr_db


def _print_sizes(config: BenchBuildConfig, sizes: dict[str, float], psnr_db: list[float]) -> None:
    columns = ", ".join(f"{name} {size / 1000:.1f}" for name, size in sizes.items())
    print(f"\n{sum(sizes.values()) / 1000:.1f} KB per sample: {columns}")
    if config.image_codec == "jpeg":
        print(
            f"PSNR of the crops at JPEG quality {config.jpeg_quality}: mean {np.mean(psnr_db):.1f} dB, "
            f"minimum {min(psnr_db):.1f} dB"
        )


def _print_coco(image_ms: float, sample_ms: float, sample_bytes: float) -> None:
    """Project to COCO. image_ms: CPU time per image, independent of the variants; sample_ms: additional time per sample."""
    print(f"\nCOCO train2017, {COCO_IMAGES:,} images with keypoints:")
    print(f"{'variants':>8}{'samples':>12}{'GB':>8}{'core hours':>12}{'minutes on 32 cores':>21}")
    for variants in COCO_VARIANTS:
        hours = COCO_IMAGES * (image_ms + variants * sample_ms) / 3.6e6
        size_gb = COCO_IMAGES * variants * sample_bytes / 1e9
        print(f"{variants:>8}{COCO_IMAGES * variants:>12,}{size_gb:>8.1f}{hours:>12.2f}{hours * 60 / 32:>21.1f}")
