"""New views of stored samples, made on the device: mirrored, and in other colors, as `trainer.data.order.draw_changes` says."""

import mindspore as ms
import numpy as np
from mindspore import ops

from pipeline.errors import UserError
from pipeline.skeleton import Skeleton, mirror_channels
from trainer.config import JitterConfig

LUMA = (0.299, 0.587, 0.114)  # how bright red, green and blue look: ITU-R BT.601
MIDDLE = 127.5  # the brightness that contrast leaves as it is


def color_matrices(factors: np.ndarray) -> np.ndarray:
    """Factors of brightness, contrast and saturation (B, 3) -> float32 (B, 3, 4): what to multiply (R, G, B, 1) by.

    Saturation scales the distance from the pixel's gray of the same luma, brightness all, contrast the distance from MIDDLE.
    """
    brightness, contrast, saturation = np.asarray(factors, np.float32).T[:, :, None, None]
    gray = np.tile(np.array(LUMA, np.float32), (3, 1))
    scaled = contrast * brightness * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * gray)
    offset = MIDDLE * (1 - contrast) * np.ones((1, 3, 1), np.float32)
    return np.concatenate([scaled, offset], axis=2)


class Jitter:
    """Applies changes to batches, compiled for the device; only what `config` asks for is computed there.

    Raises UserError where mirror images are asked for and the skeleton has none.
    """

    def __init__(self, config: JitterConfig, skeleton: Skeleton) -> None:
        self.config, self.work = config, None
        if not (config.mirror or config.color_jitter):
            return
        mirror = _mirror(skeleton) if config.mirror else None
        recolor = bool(config.color_jitter)

        @ms.jit
        def work(images, heatmaps, pafs, mask, mirrored, colors):
            images = ops.cast(images, ms.float32)
            if recolor:
                images = _recolor(images, colors)
            if mirror is not None:
                images, heatmaps, pafs, mask = mirror(images, heatmaps, pafs, mask, mirrored)
            return ops.cast(images, ms.uint8), heatmaps, pafs, mask

        self.work = work

    def __call__(self, images, heatmaps, pafs, mask, changes) -> tuple[ms.Tensor, ...]:
        """Arrays of a `trainer.data.stream.Batch` -> images, heatmaps, PAFs and mask as tensors of the same shapes and types."""
        tensors = tuple(map(ms.Tensor, (images, heatmaps, pafs, mask)))
        if self.work is None:
            return tensors
        return self.work(*tensors, ms.Tensor(changes[:, 0]), ms.Tensor(color_matrices(changes[:, 1:])))


def _recolor(images, colors):
    """float32 (B, H, W, 3), (B, 3, 4) -> float32 (B, H, W, 3) of whole numbers from 0 to 255."""
    pixels = images.reshape((images.shape[0], -1, 3))
    pixels = ops.BatchMatMul(transpose_b=True)(pixels, colors[:, :, :3]) + colors[:, :, 3].expand_dims(1)
    return ops.floor(ops.clip_by_value(pixels, 0.0, 255.0) + 0.5).reshape(images.shape)


def _mirror(skeleton: Skeleton):
    """A function for compiled code that mirrors those samples of a batch whose number in `mirrored` is 1."""
    try:
        heatmap_channels, paf_channels, signs = mirror_channels(skeleton)
    except ValueError as error:
        raise UserError(f"--mirror: {error}; train without it") from error
    heatmap_channels, paf_channels = (ms.Tensor(c.astype(np.int32)) for c in (heatmap_channels, paf_channels))
    signs = ms.Tensor(signs.reshape(1, -1, 1, 1))
    columns_2, columns_3 = ops.ReverseV2([2]), ops.ReverseV2([3])

    def mirror(images, heatmaps, pafs, mask, mirrored):
        one, two = mirrored.reshape((-1, 1, 1, 1)) > 0, mirrored.reshape((-1, 1, 1)) > 0
        true_heatmaps, true_pafs, true_mask = (ops.cast(x, ms.float32) for x in (heatmaps, pafs, mask))
        other_pafs = ops.gather(columns_3(true_pafs), paf_channels, 1) * signs
        return (
            ops.select(one, columns_2(images), images),
            ops.cast(ops.select(one, ops.gather(columns_3(true_heatmaps), heatmap_channels, 1), true_heatmaps), ms.uint8),
            ops.cast(ops.select(one, other_pafs, true_pafs), ms.int8),
            ops.cast(ops.select(two, columns_2(true_mask), true_mask), ms.uint8),
        )

    return mirror
