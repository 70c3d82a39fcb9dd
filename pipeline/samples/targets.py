"""Training targets: render keypoints as heatmaps and part affinity fields (PAFs), and quantize them.

Formulas: Cao et al., "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", CVPR 2017, sections 2.2 and 2.3.
A heatmap channel is the maximum over people of exp(-d^2 / (2 sigma^2)); the last channel is 1 - max over joints. A limb's PAF is
its unit vector in each cell whose center is inside the limb's rectangle, averaged where limbs of several people overlap.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.geometry import cell_centers
from pipeline.skeleton import Skeleton

HEATMAP_LEVELS = 255  # uint8: quantization step 1 / 255
PAF_LEVELS = 127  # int8: quantization step 1 / 127
MAX_INSIZE = 4_096


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """Size and shape of the training targets."""

    insize: int = 368
    """Side of the square training crop in pixels."""
    stride_px: int = 8
    """Input pixels per cell of the fields."""
    heatmap_sigma_px: float = 7.0
    """Standard deviation of a heatmap peak in input pixels."""
    paf_half_width_px: float = 8.0
    """Half the width of a limb's PAF in input pixels."""

    def __post_init__(self) -> None:
        if self.stride_px < 1 or self.insize < self.stride_px or self.insize % self.stride_px:
            raise ValueError(f"stride_px must divide insize, got {self.stride_px} and {self.insize}")
        if self.insize > MAX_INSIZE:
            raise ValueError(f"insize must be at most {MAX_INSIZE}, got {self.insize}")
        for name in ("heatmap_sigma_px", "paf_half_width_px"):
            if not 0 < getattr(self, name) < self.insize:
                raise ValueError(f"{name} must be in (0, insize={self.insize}), got {getattr(self, name)}")

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of the fields of a training crop, in cells."""
        return self.insize // self.stride_px, self.insize // self.stride_px


def render_heatmaps(keypoints: np.ndarray, *, skeleton: Skeleton, grid_hw: tuple[int, int], config: TargetConfig) -> np.ndarray:
    """Render heatmaps.

    keypoints: float32 (P, J, 3), x and y in input pixels, v in {0, 1, 2}; joints with v = 0 are skipped.
    Returns float32 (J + 1, h, w) in [0, 1]; the last channel is the background.
    """
    height, width = grid_hw
    heatmaps = np.zeros((skeleton.num_heatmaps, height, width), np.float32)
    centers_x, centers_y = cell_centers(width, config.stride_px), cell_centers(height, config.stride_px)
    people, joints = np.nonzero(keypoints[..., 2] > 0)
    points = keypoints[people, joints]
    # The Gaussian is separable: one exponential per row and per column instead of one per cell.
    scale = -0.5 / config.heatmap_sigma_px**2
    along_x = np.exp(scale * np.square(centers_x - points[:, 0:1]))
    along_y = np.exp(scale * np.square(centers_y - points[:, 1:2]))
    for joint, column, row in zip(joints, along_y, along_x, strict=True):
        np.maximum(heatmaps[joint], np.multiply.outer(column, row), out=heatmaps[joint])
    heatmaps[-1] = 1 - heatmaps[:-1].max(axis=0)
    return heatmaps


def render_pafs(keypoints: np.ndarray, *, skeleton: Skeleton, grid_hw: tuple[int, int], config: TargetConfig) -> np.ndarray:
    """Render PAFs.

    keypoints: float32 (P, J, 3), x and y in input pixels, v in {0, 1, 2}; limbs without both joints or of length 0 are skipped.
    Returns float32 (2 L, h, w) in [-1, 1]; channels 2k and 2k + 1 are x and y of limb k.
    """
    height, width = grid_hw
    centers_x, centers_y = cell_centers(width, config.stride_px), cell_centers(height, config.stride_px)
    ends = keypoints[:, skeleton.limb_joints].astype(np.float64)
    people, limbs = np.nonzero((ends[..., 2] > 0).all(axis=-1))
    start, end = ends[people, limbs, 0, :2], ends[people, limbs, 1, :2]
    length = np.hypot(*(end - start).T)
    owner, x, y = _box_cells(start, end, config.paf_half_width_px, centers_x, centers_y)
    unit = (end - start) / np.where(length > 0, length, 1)[:, None]
    (unit_x, unit_y), dx, dy = unit[owner].T, centers_x[x] - start[owner, 0], centers_y[y] - start[owner, 1]
    along, across = unit_x * dx + unit_y * dy, unit_x * dy - unit_y * dx
    inside = (along >= 0) & (along <= length[owner]) & (np.abs(across) <= config.paf_half_width_px) & (length[owner] > 0)
    owner, x, y = owner[inside], x[inside], y[inside]
    cell = (limbs[owner] * height + y) * width + x
    size = skeleton.num_limbs * height * width
    share = 1 / np.bincount(cell, minlength=size)[cell]
    pafs = np.empty((skeleton.num_limbs, 2, height, width), np.float32)
    for axis in range(2):
        sums = np.bincount(cell, weights=unit[owner, axis] * share, minlength=size)
        pafs[:, axis] = sums.reshape(skeleton.num_limbs, height, width)
    return pafs.reshape(skeleton.num_pafs, height, width)


def _box_cells(
    start: np.ndarray, end: np.ndarray, margin_px: float, centers_x: np.ndarray, centers_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List the cells inside the bounding boxes of N lines, widened by the margin. start, end: (N, 2) in pixels.

    Returns the index of the line, the column and the row of each cell, int (C,) each.
    """
    low, high = np.minimum(start, end) - margin_px, np.maximum(start, end) + margin_px
    x0, x1 = np.searchsorted(centers_x, low[:, 0]), np.searchsorted(centers_x, high[:, 0], "right")
    y0, y1 = np.searchsorted(centers_y, low[:, 1]), np.searchsorted(centers_y, high[:, 1], "right")
    width, num_cells = x1 - x0, (x1 - x0) * (y1 - y0)
    owner = np.repeat(np.arange(len(start)), num_cells)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(num_cells) - num_cells, num_cells)
    row, column = np.divmod(number, width[owner])
    return owner, x0[owner] + column, y0[owner] + row


def render_targets(keypoints: np.ndarray, *, skeleton: Skeleton, config: TargetConfig) -> tuple[np.ndarray, np.ndarray]:
    """Render and quantize the targets of a training crop. keypoints: float32 (P, J, 3) in pixels of the crop.

    Returns heatmaps, uint8 (J + 1, h, w), and PAFs, int8 (2 L, h, w).
    """
    heatmaps = render_heatmaps(keypoints, skeleton=skeleton, grid_hw=config.grid_hw, config=config)
    pafs = render_pafs(keypoints, skeleton=skeleton, grid_hw=config.grid_hw, config=config)
    return quantize_heatmaps(heatmaps), quantize_pafs(pafs)


def shown_cells(heatmaps: np.ndarray, pafs: np.ndarray) -> np.ndarray:
    """Return the cells that contain a joint (heatmap at least half its peak) or a limb, bool (h, w). Takes quantized targets."""
    return (heatmaps[:-1] > HEATMAP_LEVELS // 2).any(axis=0) | pafs.any(axis=0)


def quantize_heatmaps(heatmaps: np.ndarray) -> np.ndarray:
    """Quantize float32 in [0, 1] to uint8, in steps of 1 / 255."""
    return np.rint(heatmaps * HEATMAP_LEVELS).astype(np.uint8)


def quantize_pafs(pafs: np.ndarray) -> np.ndarray:
    """Quantize float32 in [-1, 1] to int8, in steps of 1 / 127."""
    return np.rint(pafs * PAF_LEVELS).astype(np.int8)


def dequantize_heatmaps(heatmaps: np.ndarray) -> np.ndarray:
    """Convert uint8 to float32 in [0, 1], accurate to half a step."""
    return heatmaps.astype(np.float32) * np.float32(1 / HEATMAP_LEVELS)


def dequantize_pafs(pafs: np.ndarray) -> np.ndarray:
    """Convert int8 to float32 in [-1, 1], accurate to half a step."""
    return pafs.astype(np.float32) * np.float32(1 / PAF_LEVELS)
