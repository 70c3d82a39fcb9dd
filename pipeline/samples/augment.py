"""Scale, rotation, crop and mirror as ONE affine warp of image, mask and keypoints; then color.

The distributions are those of the reference (`reference` settings are the defaults); the crop is resampled once.
"""

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from pipeline import geometry
from pipeline.datasets.selection import Sample
from pipeline.samples import masks
from pipeline.skeleton import Skeleton

PADDING_GRAY = 128  # around the image: the middle of 0 and 255, 127.5, rounded to even


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How a training crop is taken from an image."""

    augment: Literal["reference", "none"] = "reference"
    """reference: random crops as set below. none: plain crops at the scale that evaluation sees, variant v centered on person v."""
    min_scale: float = 0.5
    """Least magnification of the image."""
    max_scale: float = 2.0
    """Greatest magnification of the image."""
    min_person_px: float = 64.0
    """The scale is chosen so that the smallest person's box diagonal stays above this where the limits allow."""
    max_person_px: float = 512.0
    """The scale is chosen so that the largest person's box diagonal stays below this where the limits allow."""
    person_share: float = 0.0
    """If above 0, min_scale and max_scale magnify not the image but the person in the middle, whose box has this share of the
    crop's side at magnification 1 (CMU's target_dist); min_person_px and max_person_px do not count then."""
    rotation_sd_degrees: float = 40 / 3
    """Standard deviation of the normal rotation."""
    rotation_range_degrees: float = 0.0
    """If above 0, the rotation is not normal but uniform between minus and plus so many degrees."""
    center_jitter_px: float = 40.0
    """The crop is centered on a random person, give or take so many pixels of the crop in x and y."""
    mirror_probability: float = 0.5
    """Share of the crops that are mirrored."""
    color_probability: float = 0.5
    """Share of the crops whose color is shifted."""
    hsv_shift: tuple[int, int, int] = (10, 40, 30)
    """Greatest shift of hue (in 2 degrees), saturation and value (of 255)."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.min_scale <= self.max_scale <= 100:
            raise ValueError(
                f"min_scale must be in [0.01, max_scale], max_scale at most 100, got {self.min_scale}, {self.max_scale}"
            )
        if not 0 < self.min_person_px <= self.max_person_px:
            raise ValueError(f"min_person_px must be in (0, max_person_px], got {self.min_person_px} and {self.max_person_px}")
        for name in ("mirror_probability", "color_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("person_share", "rotation_sd_degrees", "rotation_range_degrees", "center_jitter_px"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not all(0 <= shift <= 127 for shift in self.hsv_shift):
            raise ValueError(f"hsv_shift must be three numbers from 0 to 127, got {self.hsv_shift}")


@dataclass(frozen=True, kw_only=True)
class Transform:
    """What is done to one image.

    matrix: float64 (2, 3), original pixels -> crop pixels. mirrored: left and right change names. hsv_shift: None = no color.
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
    """Choose the transform of one variant of one sample. A pure function of its arguments and the state of `rng`."""
    if config.augment == "none":
        return Transform(matrix=_plain_matrix(sample, insize, stride_px, variant))
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
        shift = tuple(int(rng.integers(-limit, limit + 1)) for limit in config.hsv_shift)
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
) -> Crop:
    """Warp image, mask and keypoints through the same matrix.

    image: uint8 (H, W, 3) RGB; ignore: bool (H, W) or None; keypoints: float32 (P, J, 3). Outside the image the crop is gray and
    counts in the loss (it is background for certain).
    """
    size = (insize, insize)
    gray = (PADDING_GRAY,) * 3
    crop = cv2.warpAffine(image, transform.matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=gray)
    if transform.hsv_shift is not None:
        crop = shift_hsv(crop, transform.hsv_shift)
    if ignore is None:
        cells = np.zeros((insize // stride_px, insize // stride_px), bool)
    else:
        cells = masks.warp_to_cells(ignore, transform.matrix, insize=insize, stride_px=stride_px)
    moved = geometry.transform_keypoints(transform.matrix, keypoints)
    if transform.mirrored:
        moved = moved[:, skeleton.mirror]
    return Crop(image=crop, ignore=cells, keypoints=moved)


def shift_hsv(image: np.ndarray, shift: tuple[int, int, int]) -> np.ndarray:
    """uint8 (H, W, 3) RGB shifted in hue (cyclic, OpenCV's units of 2 degrees), saturation and value (clipped)."""
    levels = np.arange(256)
    hue = ((levels + shift[0]) % 180).astype(np.uint8)
    saturation, value = (np.clip(levels + s, 0, 255).astype(np.uint8) for s in shift[1:])
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv = cv2.LUT(hsv, np.stack([hue, saturation, value], axis=-1)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _plain_matrix(sample: Sample, insize: int, stride_px: int, variant: int) -> np.ndarray:
    """The scale of evaluation (short side = insize), centered on a person, moved no further than the image's edge.

    The corner lies on whole cells of the resized image, so that the network sees every pixel in the place of its cell where
    evaluation will show it.
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
        # Both limits stay on their side of 1, or of the bound next to it: an image that fits as it is may stay as it is.
        neutral = min(max(1.0, low), high)
        low = min(max(config.min_person_px / sizes.min(), low), neutral)
        high = max(min(config.max_person_px / sizes.max(), high), neutral)
    return float(rng.uniform(low, high))


def _random_box(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest x, y of a random person, or, without people, of a box that might be one."""
    if not len(sample.keypoints):
        spot = rng.uniform((0, 0), (sample.width - 1, sample.height - 1))
        half = rng.uniform(0.05, 0.5) * min(sample.width, sample.height)
        return spot - half, spot + half
    low, high = sample.boxes
    person = rng.integers(len(sample.keypoints))
    return low[person], high[person]
