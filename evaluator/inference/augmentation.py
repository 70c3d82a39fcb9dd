"""Test-time augmentation: a network that is run at several scales and on the mirrored image."""

from collections.abc import Sequence

import numpy as np

from evaluator.inference.averaging import average, unmirror
from evaluator.inference.config import InferConfig
from evaluator.inference.exported import fixed_sides
from evaluator.inference.fields import Fields
from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.sizes import Size, grid_size, input_size, resize_and_pad, round_up
from pipeline import geometry
from pipeline.errors import UserError
from pipeline.skeleton import mirror_channels


class AugmentedNetwork:
    """A network with input sizes and test-time augmentation (scales, flip).

    Input sizes follow from the size of the image only, so that the other images of a batch never change its result.
    """

    def __init__(self, network: FieldNetwork, config: InferConfig) -> None:
        """Raises UserError if `config.mirror` is set and the skeleton cannot be mirrored, or if the input size is fixed, but scales vary."""
        self.network, self.config = network, config
        self.insize = config.insize or network.insize
        self.fixed_wh = fixed_sides(network)
        if self.fixed_wh != (None, None) and len(config.scales) > 1:
            raise UserError("--scales: the exported network has a fixed input size; export it without --height and --width")
        if config.mirror:
            try:
                mirror_channels(network.skeleton)
            except ValueError as error:
                raise UserError(f"--mirror: {error}; omit --mirror") from error

    def sizes(self, size_wh: Size) -> tuple[tuple[Size, Size], ...]:
        """Return, for each scale, the (width, height) after resizing and after padding to whole cells and steps."""
        stride, step = self.network.stride_px, self.config.size_step_px
        base = input_size(*size_wh, self.insize)
        shorter = self.insize if min(base) == self.insize else round_up(min(base), step)
        base_width, base_height = (shorter + round_up(max(side - shorter, 0), step) for side in base)
        sizes = []
        for scale in self.config.scales:
            width, height = input_size(*size_wh, self.insize * scale, self.fixed_wh)
            padded = round_up(max(base_width * scale, width), stride), round_up(max(base_height * scale, height), stride)
            sizes.append(((width, height), (self.fixed_wh[0] or padded[0], self.fixed_wh[1] or padded[1])))
        return tuple(sizes)

    def padded_sizes(self, size_wh: Size) -> tuple[Size, ...]:
        """Return the (width, height) of the network input at each scale. Images with equal sizes can share a batch."""
        return tuple(padded for _, padded in self.sizes(size_wh))

    def prepare(self, image: np.ndarray, size_wh: Size | None = None) -> list[np.ndarray]:
        """Resize and pad an image, uint8 RGB (H, W, 3), to the network input at each scale.

        size_wh: width and height of the image, if that given is a reduced one.
        """
        return [resize_and_pad(image, *sizes) for sizes in self.sizes(size_wh or (image.shape[1], image.shape[0]))]

    def compute(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on inputs of one size, uint8 (H, W, 3) each, and on their mirror images if configured.

        Returns heatmaps and PAFs (B, C, H / stride, W / stride).
        """
        batch = np.stack(inputs)
        heatmaps, pafs = self.network.fields(batch)
        if self.config.mirror:
            # The padding is mirrored too, so that the mirrored-back fields fall on the same cells.
            mirrored = unmirror(*self.network.fields(np.ascontiguousarray(batch[:, :, ::-1])), self.network.skeleton)
            heatmaps, pafs = (heatmaps + mirrored[0]) / 2, (pafs + mirrored[1]) / 2
        return heatmaps, pafs

    def combine(self, outputs: Sequence[tuple[np.ndarray, np.ndarray]], size_wh: Size) -> Fields:
        """Average heatmaps and PAFs, (C, h, w) at each scale, into the fields of one image, without the padding."""
        stride = self.network.stride_px
        resized = [size for size, _ in self.sizes(size_wh)]
        grids = [grid_size(*size, stride) for size in resized]
        heatmaps, pafs = ([output[kind][:, :h, :w] for output, (h, w) in zip(outputs, grids, strict=True)] for kind in (0, 1))
        width, height = max(resized)
        return Fields(
            heatmaps=average(heatmaps, resized),
            pafs=average(pafs, resized),
            stride_px=stride,
            to_image=geometry.invert(geometry.resizing(width / size_wh[0], height / size_wh[1])),
            size_wh=size_wh,
        )


def image_fields(network: FieldNetwork, image: np.ndarray, config: InferConfig | None = None) -> Fields:
    """Compute the fields of one image, uint8 RGB (H, W, 3). By default at one scale, padded to whole cells only."""
    augmented = AugmentedNetwork(network, config or InferConfig(size_step_px=network.stride_px))
    outputs = []
    for view in augmented.prepare(image):
        heatmaps, pafs = augmented.compute([view])
        outputs.append((heatmaps[0], pafs[0]))
    return augmented.combine(outputs, (image.shape[1], image.shape[0]))
