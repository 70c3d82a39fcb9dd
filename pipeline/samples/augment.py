"""Scale, rotate, crop and mirror image, mask and keypoints with a single affine warp; then shift the colors.

The defaults are the distributions of the reference implementation. Each image is resampled only once.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline import geometry
from pipeline.datasets.selection import Sample
from pipeline.images import PADDING_GRAY
from pipeline.runtime.timing import Timed, untimed
from pipeline.samples import masks
from pipeline.samples.config import AugmentConfig
from pipeline.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The augmentation of one image.

    matrix: float64 (2, 3), pixels of the image -> pixels of the crop. mirrored: left and right joints are swapped.
    hsv_shift: None = colors unchanged.
    """

    matrix: np.ndarray
    mirrored: bool = False
    hsv_shift: tuple[int, int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Crop:
    """image: uint8 (S, S, 3) RGB. ignore: bool (S / stride, S / stride), True = ignored. keypoints: float32 (P, J, 3), crop pixels."""

    image: np.ndarray
    ignore: np.ndarray
    keypoints: np.ndarray


def plan_transform(
    sample: Sample, config: AugmentConfig, *, insize: int, stride_px: int, variant: int, rng: np.random.Generator
) -> Transform:
    """Choose the transform of one variant of a sample. Depends only on the arguments and the state of `rng`."""
    if config.augment == "none":
        return Transform(matrix=_evaluation_matrix(sample, insize, stride_px, variant))
    low, high = _random_box(sample, rng)
    if config.person_share:
        scale = rng.uniform(config.min_scale, config.max_scale) * config.person_share * insize / max(*(high - low), 1)
    else:
        scale = _random_scale(sample, config, rng)
    degrees = rng.normal(0, config.rotation_sd_degrees)
    if config.rotation_range_degrees:
        degrees = rng.uniform(-config.rotation_range_degrees, config.rotation_range_degrees)
    center = (low + high) / 2
    jitter_px = rng.uniform(-config.center_jitter_px, config.center_jitter_px, 2)
    mirrored = bool(rng.random() < config.mirror_probability)
    matrix = geometry.compose(geometry.resizing(scale, scale), geometry.rotation(degrees))
    to_middle = (insize - 1) / 2 + jitter_px - geometry.transform_points(matrix, center)
    matrix = geometry.compose(matrix, geometry.translation(*to_middle))
    if mirrored:
        matrix = geometry.compose(matrix, geometry.mirroring(insize))
    shift = None
    if rng.random() < config.color_probability:
        hue, saturation, value = (int(rng.integers(-limit, limit + 1)) for limit in config.hsv_shift)
        shift = hue, saturation, value
    return Transform(matrix=matrix, mirrored=mirrored, hsv_shift=shift)


def apply_transform(
    transform: Transform,
    *,
    image: np.ndarray,
    ignore: np.ndarray | None,
    keypoints: np.ndarray,
    skeleton: Skeleton,
    insize: int,
    stride_px: int,
    timed: Timed = untimed,
) -> Crop:
    """Warp image, mask and keypoints with the same matrix.

    image: uint8 (H, W, 3) RGB; ignore: bool (H, W) or None; keypoints: float32 (P, J, 3). Padding around the image is gray and
    counts in the loss, because it is certainly background.
    """
    with timed("warp and color"):
        crop = warp_image(transform, image, insize)
    with timed("ignore mask"):
        cells = masks.warp_to_cells(ignore, transform.matrix, insize=insize, stride_px=stride_px)
    moved = geometry.transform_keypoints(transform.matrix, keypoints)
    if transform.mirrored:
        moved = moved[:, skeleton.mirror]
    return Crop(image=crop, ignore=cells, keypoints=moved)


def warp_image(transform: Transform, image: np.ndarray, insize: int) -> np.ndarray:
    """Warp uint8 (H, W, 3) RGB to a crop, uint8 (S, S, 3), and shift its colors."""
    crop = cv2.warpAffine(
        image,
        transform.matrix,
        (insize, insize),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PADDING_GRAY,) * 3,
    )
    return crop if transform.hsv_shift is None else shift_hsv(crop, transform.hsv_shift)


def shift_hsv(image: np.ndarray, shift: tuple[int, int, int]) -> np.ndarray:
    """Shift uint8 (H, W, 3) RGB in hue (cyclic, in OpenCV's units of 2 degrees), saturation and value (clipped)."""
    levels = np.arange(256)
    hue = ((levels + shift[0]) % 180).astype(np.uint8)
    saturation, value = (np.clip(levels + s, 0, 255).astype(np.uint8) for s in shift[1:])
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv = cv2.LUT(hsv, np.stack([hue, saturation, value], axis=-1)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _evaluation_matrix(sample: Sample, insize: int, stride_px: int, variant: int) -> np.ndarray:
    """Crop at the scale of evaluation (short side = insize), centered on a person as far as the image's edges allow.

    The corner is a multiple of the stride in the resized image, so each pixel has the same position within its cell as in
    evaluation.
    """
    scale = insize / min(sample.width, sample.height)
    matrix = geometry.resizing(scale, scale)
    extent = np.array([sample.width, sample.height]) * scale
    center = extent / 2
    if len(sample.keypoints):
        low, high = sample.boxes
        person = variant % len(sample.keypoints)
        center = geometry.transform_points(matrix, (low[person] + high[person]) / 2) + 0.5
    corner = np.clip(center - insize / 2, 0, extent - insize)
    corner = np.round(corner / stride_px) * stride_px
    return geometry.compose(matrix, geometry.translation(*-corner))


def _random_scale(sample: Sample, config: AugmentConfig, rng: np.random.Generator) -> float:
    low, high = config.min_scale, config.max_scale
    if len(sample.keypoints):
        sizes = sample.sizes
        # The range always includes 1, or the configured limit nearest to 1: an image whose people fit may keep its scale.
        neutral = min(max(1.0, low), high)
        low = min(max(config.min_person_px / sizes.min(), low), neutral)
        high = max(min(config.max_person_px / sizes.max(), high), neutral)
    return float(rng.uniform(low, high))


def _random_box(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (min x, y and max x, y) of a random person's box; in an image without people, of a plausible box."""
    if not len(sample.keypoints):
        spot = rng.uniform((0, 0), (sample.width - 1, sample.height - 1))
        half = rng.uniform(0.05, 0.5) * min(sample.width, sample.height)
        return spot - half, spot + half
    low, high = sample.boxes
    person = rng.integers(len(sample.keypoints))
    return low[person], high[person]
