"""The command `bench-build`: what a sample costs to make, part by part, what it weighs, what the codec loses, what COCO would take."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from pipeline.build.config import BuildConfig
from pipeline.build.worker import Range, build_range, make_crop
from pipeline.datasets.selection import PersonFilter, Sample, read_annotations
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.progress import progress_bar
from pipeline.records import codec
from pipeline.samples import masks
from pipeline.samples.augment import apply_transform, plan_transform
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import read_skeleton

COCO_IMAGES = 56_599  # of train2017 with keypoints, https://cocodataset.org/#keypoints-2020; the person filter takes some less
COCO_VARIANTS = (1, 4, 16)


@dataclass(frozen=True, kw_only=True)
class BenchBuildConfig:
    """Make samples of these images in one process and say what they cost: rate, parts, bytes, loss, and COCO 2017 from that.

    Example: python -m pipeline bench-build --annotations person_keypoints_val2017.json --images val2017
    """

    annotations: Path
    """COCO keypoint annotation file."""
    images: Path
    """Folder of its images."""
    skeleton: Path | None = None
    """Keypoints other than COCO's, as for `build`."""
    num_images: int = 100
    """Images to use, the first that have a target person; fewer are taken again and again."""
    variants: int = 4
    """Variants of every image."""
    insize: int = 368
    """Side of the crops in pixels."""
    image_codec: Literal["jpeg", "raw"] = "jpeg"
    """How the crops are stored."""
    jpeg_quality: int = 90
    """JPEG quality of the crops."""

    def __post_init__(self) -> None:
        if self.num_images < 1:
            raise ValueError(f"num_images must be at least 1, got {self.num_images}")

    def build_config(self, out: Path) -> BuildConfig:
        return BuildConfig(
            annotations=self.annotations, images=self.images, out=out, skeleton=self.skeleton, variants=self.variants, shards=1,
            jobs=1, image_codec=self.image_codec, jpeg_quality=self.jpeg_quality, targets=TargetConfig(insize=self.insize),
        )  # fmt: skip


@dataclass
class Parts:
    """CPU seconds by part of the work."""

    seconds: Counter = field(default_factory=Counter)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[part] += time.process_time() - start


def run(config: BenchBuildConfig) -> int:
    """The command `bench-build`. Raises UserError for bad input."""
    cv2.setNumThreads(1)
    samples = _readable_samples(config)
    with tempfile.TemporaryDirectory(prefix="bench-build-") as temporary:
        setting = config.build_config(Path(temporary))
        taken = [samples[i % len(samples)] for i in range(config.num_images)]
        build_range(setting, Range(number=0, samples=taken[:4], variants=list(range(config.variants))), Path(temporary))  # warm
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        built = build_range(setting, Range(number=1, samples=taken, variants=list(range(config.variants))), Path(temporary))
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    rate = built.num_samples / cpu_s
    print(f"{built.num_samples / wall_s:,.0f} samples/s in one process, {rate:,.0f} per core second, {config.variants} variants")
    parts = _time_parts(setting, taken)
    _print_parts(parts, built.num_samples, 1000 / rate)
    sizes, psnr_db = _weigh(setting, samples)
    _print_sizes(config, sizes, psnr_db)
    once_ms = 1000 * sum(parts.seconds[name] for name in ("read and decode the image", "ignore mask")) / config.num_images
    sample_ms = 1000 / rate - once_ms / config.variants
    _print_coco(once_ms, sample_ms, sum(sizes.values()))
    return 0


def _readable_samples(config: BenchBuildConfig) -> list[Sample]:
    selection = read_annotations(config.annotations, skeleton=read_skeleton(config.skeleton), person_filter=PersonFilter())
    found = []
    for sample in selection.samples:
        try:
            read_image(config.images / sample.file_name, (sample.width, sample.height))
        except UnreadableImage:
            continue
        found.append(sample)
        if len(found) == config.num_images:
            break
    if not found:
        raise UserError(f"image folder {config.images}: has no readable image with a target person of {config.annotations}")
    return found


def _time_parts(setting: BuildConfig, samples: list[Sample]) -> Parts:
    """The builder's steps once more, each by itself."""
    parts, form = Parts(), setting.format
    insize, stride_px = setting.targets.insize, setting.targets.stride_px
    for sample in progress_bar(samples, desc="parts", unit="image"):
        with parts.timed("read and decode the image"):
            image = read_image(setting.images / sample.file_name, (sample.width, sample.height))
        with parts.timed("ignore mask"):
            ignore = masks.ignore_mask(sample)
        for variant in range(setting.variants):
            with parts.timed("plan"):
                rng = np.random.default_rng([setting.seed, sample.image_id, variant])
                transform = plan_transform(
                    sample, setting.augmentation, insize=insize, stride_px=stride_px, variant=variant, rng=rng
                )
            with parts.timed("warp and color"):
                crop = apply_transform(
                    transform, image=image, ignore=None, keypoints=sample.keypoints, skeleton=form.skeleton, insize=insize,
                    stride_px=stride_px,
                )  # fmt: skip
            with parts.timed("ignore mask"):
                if ignore is not None:
                    masks.warp_to_cells(ignore, transform.matrix, insize=insize, stride_px=stride_px)
            with parts.timed("heatmaps and PAFs, quantized"):
                heatmaps, pafs = form.render(crop.keypoints)
            with parts.timed("compress the targets"):
                form.encode_targets(heatmaps, pafs)
            with parts.timed("encode the crop"):
                form.encode_image(crop.image)
    return parts


def _print_parts(parts: Parts, num_samples: int, total_ms: float) -> None:
    print(f"\n{'part':<32}{'ms a sample':>12}{'share':>8}")
    rest = total_ms
    for part, seconds in parts.seconds.items():
        each_ms = 1000 * seconds / num_samples
        rest -= each_ms
        print(f"{part:<32}{each_ms:>12.2f}{each_ms / total_ms:>8.0%}")
    print(f"{'write, read back, CRC, flush':<32}{rest:>12.2f}{rest / total_ms:>8.0%}")


def _weigh(setting: BuildConfig, samples: list[Sample]) -> tuple[dict[str, float], list[float]]:
    """Mean bytes of a sample by column, and the PSNR in dB of every crop after its codec."""
    sizes, psnr_db = Counter(), []
    for sample in samples:
        image = read_image(setting.images / sample.file_name, (sample.width, sample.height))
        for variant in range(setting.variants):
            _, crop = make_crop(setting, sample, image, masks.ignore_mask(sample), variant)
            row = setting.format.encode(crop, image_id=sample.image_id, variant=variant, license=sample.license)
            sizes.update({name: len(row[name]) for name, kind in codec.COLUMNS.items() if kind == "bytes"})
            error = np.square(setting.format.decode_image(row["image"]).astype(np.float32) - crop.image).mean()
            psnr_db.append(float(10 * np.log10(255**2 / max(error, 1e-9))))
    return {name: size / len(psnr_db) for name, size in sizes.items()}, psnr_db


def _print_sizes(config: BenchBuildConfig, sizes: dict[str, float], psnr_db: list[float]) -> None:
    listed = ", ".join(f"{name} {size / 1000:.1f}" for name, size in sizes.items())
    print(f"\n{sum(sizes.values()) / 1000:.1f} KB a sample: {listed}")
    if config.image_codec == "jpeg":
        print(
            f"PSNR of the crops at JPEG quality {config.jpeg_quality}: mean {np.mean(psnr_db):.1f} dB, least {min(psnr_db):.1f} dB"
        )


def _print_coco(once_ms: float, sample_ms: float, sample_bytes: float) -> None:
    """once_ms: CPU of an image, whatever the number of variants; sample_ms: of every variant."""
    print(f"\nCOCO train2017, {COCO_IMAGES:,} images with keypoints:")
    print(f"{'variants':>8}{'samples':>12}{'GB':>8}{'core hours':>12}{'minutes on 32 cores':>21}")
    for variants in COCO_VARIANTS:
        hours = COCO_IMAGES * (once_ms + variants * sample_ms) / 3.6e6
        size_gb = COCO_IMAGES * variants * sample_bytes / 1e9
        print(f"{variants:>8}{COCO_IMAGES * variants:>12,}{size_gb:>8.1f}{hours:>12.2f}{hours * 60 / 32:>21.1f}")
