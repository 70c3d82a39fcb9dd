"""Augmentation on the device: mirror and color jitter, as drawn by `trainer.data.order.draw_augmentation`."""

from collections.abc import Callable, Mapping

import mindspore as ms
import numpy as np
from mindspore import ops

from pipeline.errors import UserError
from pipeline.skeleton import Skeleton, mirror_channels
from trainer.data.config import JitterConfig

LUMA = (0.299, 0.587, 0.114)  # brightness of red, green and blue: ITU-R BT.601
MID_GRAY = 127.5  # the brightness that contrast does not change

Tensors = tuple[ms.Tensor, ...]


def color_matrices(factors: np.ndarray) -> np.ndarray:
    """Convert factors of brightness, contrast and saturation (B, 3) to matrices for (R, G, B, 1): float32 (B, 3, 4).

    Saturation scales the distance from the gray of the same luma, brightness scales all values, and contrast scales the distance
    from MID_GRAY.
    """
    brightness, contrast, saturation = np.asarray(factors, np.float32).T[:, :, None, None]
    gray = np.tile(np.array(LUMA, np.float32), (3, 1))
    scaled = contrast * brightness * (saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * gray)
    offset = MID_GRAY * (1 - contrast) * np.ones((1, 3, 1), np.float32)
    return np.concatenate([scaled, offset], axis=2)


class Jitter:
    """Augments batches in compiled code. Operations that `config` does not enable are not computed.

    Raises UserError if `config.mirror` is set and the skeleton cannot be mirrored.
    """

    def __init__(self, config: JitterConfig, skeleton: Skeleton) -> None:
        self.config = config
        self._augment: Callable[..., Tensors] | None = None
        if not (config.mirror or config.color_jitter):
            return
        mirror = _mirror(skeleton) if config.mirror else None
        recolor = bool(config.color_jitter)

        @ms.jit
        def augment(
            images: ms.Tensor,
            heatmaps: ms.Tensor,
            pafs: ms.Tensor,
            mask: ms.Tensor,
            labeled: ms.Tensor,
            mirrored: ms.Tensor,
            colors: ms.Tensor,
        ) -> Tensors:
            images = ops.cast(images, ms.float32)
            if recolor:
                images = _recolor(images, colors)
            if mirror is not None:  # changes nothing in `labeled`: a source labels both joints of a mirror pair, or neither
                images, heatmaps, pafs, mask = mirror(images, heatmaps, pafs, mask, mirrored)
            return ops.cast(images, ms.uint8), heatmaps, pafs, mask, labeled

        self._augment = augment

    def inputs(self, arrays: Mapping[str, np.ndarray]) -> Tensors:
        """Convert the arrays of a `trainer.data.stream.Batch` to tensors on the device. Threads of the stream may call this."""
        names = ["images", "heatmaps", "pafs", "mask", "labeled"]
        samples = tuple(device_tensor(arrays[name]) for name in names)
        if self._augment is None:
            return samples
        mirrored, factors = arrays["augmentation"][:, 0], arrays["augmentation"][:, 1:]
        return (*samples, device_tensor(mirrored), device_tensor(color_matrices(factors)))

    def __call__(self, *inputs: ms.Tensor) -> Tensors:
        """Augment the result of `inputs`. Returns images, heatmaps, PAFs, mask and `labeled` in the same shapes and types."""
        return inputs if self._augment is None else self._augment(*inputs)


def device_tensor(array: np.ndarray) -> ms.Tensor:
    """Return a tensor that shares the memory of the array; on Ascend, start to copy it to the device without waiting.

    Keep the array, unchanged, until a result computed from the tensor is known.
    """
    tensor = ms.Tensor.from_numpy(np.ascontiguousarray(array))
    return tensor.to("Ascend", non_blocking=True) if ms.get_context("device_target") == "Ascend" else tensor


def _recolor(images: ms.Tensor, colors: ms.Tensor) -> ms.Tensor:
    """float32 (B, H, W, 3) and color matrices (B, 3, 4) -> float32 (B, H, W, 3), rounded to integers in 0..255."""
    pixels = images.reshape((images.shape[0], -1, 3))
    pixels = ops.BatchMatMul(transpose_b=True)(pixels, colors[:, :, :3]) + colors[:, :, 3].expand_dims(1)
    return ops.floor(ops.clip_by_value(pixels, 0.0, 255.0) + 0.5).reshape(images.shape)


def _mirror(skeleton: Skeleton) -> Callable[..., Tensors]:
    """Return a function for compiled code that mirrors the samples of a batch for which `mirrored` is 1."""
    try:
        heatmap_channels, paf_channels, signs = mirror_channels(skeleton)
    except ValueError as error:
        raise UserError(f"--mirror: {error}; train without --mirror") from error
    heatmap_channels, paf_channels = (ms.Tensor(c.astype(np.int32)) for c in (heatmap_channels, paf_channels))
    signs = ms.Tensor(signs.reshape(1, -1, 1, 1))
    flip_axis_2, flip_axis_3 = ops.ReverseV2([2]), ops.ReverseV2([3])

    def mirror(images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, mirrored: ms.Tensor) -> Tensors:
        flags_4d, flags_3d = mirrored.reshape((-1, 1, 1, 1)) > 0, mirrored.reshape((-1, 1, 1)) > 0
        heatmaps, pafs, mask = (ops.cast(x, ms.float32) for x in (heatmaps, pafs, mask))
        flipped_heatmaps = ops.gather(flip_axis_3(heatmaps), heatmap_channels, 1)
        flipped_pafs = ops.gather(flip_axis_3(pafs), paf_channels, 1) * signs
        return (
            ops.select(flags_4d, flip_axis_2(images), images),
            ops.cast(ops.select(flags_4d, flipped_heatmaps, heatmaps), ms.uint8),
            ops.cast(ops.select(flags_4d, flipped_pafs, pafs), ms.int8),
            ops.cast(ops.select(flags_3d, flip_axis_2(mask), mask), ms.uint8),
        )

    return mirror
