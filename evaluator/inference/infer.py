"""Image -> fields -> people in pixels of the image: resize, pad, network, average, decode, map back."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from evaluator.decoding.decode import DecodeConfig, People, decode
from evaluator.inference.test_time import average, unmirror
from pipeline import geometry
from pipeline.errors import UserError
from pipeline.samples.augment import PADDING_GRAY
from pipeline.skeleton import Skeleton, mirror_channels

MAX_ASPECT = 8  # a longer image is made smaller still, or a strip of paper would fill the memory

Size = tuple[int, int]


class FieldNetwork(Protocol):
    """What `trainer.run.checkpoint.LoadedNetwork` offers: uint8 RGB (B, H, W, 3) -> heatmaps and PAFs float32 (B, C, h, w)."""

    skeleton: Skeleton
    insize: int
    stride_px: int

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, kw_only=True)
class InferConfig:
    """How the network looks at an image."""

    insize: int | None = None
    """Images are resized so that their shorter side is this long, in pixels. Default: the side of the training crops."""
    scales: tuple[float, ...] = (1.0,)
    """Look at the image at these multiples of insize, and average the fields on the finest grid. CMU's are 0.5 1 1.5 2."""
    mirror: bool = False
    """Look at the mirror image too, and average. Takes twice the time."""
    raw_weights: bool = False
    """Take the weights themselves where the checkpoint also has their averages (--ema-decay of training)."""
    size_step_px: int = 64
    """The longer side is padded so that it exceeds the shorter one by a multiple of this: few input sizes serve all images."""

    def __post_init__(self) -> None:
        if self.insize is not None and not 32 <= self.insize <= 4096:
            raise ValueError(f"insize must be from 32 to 4096 pixels, got {self.insize}")
        if not self.scales or len(set(self.scales)) != len(self.scales) or not all(0.1 <= s <= 8 for s in self.scales):
            raise ValueError(f"scales must be different numbers from 0.1 to 8, got {self.scales}")
        if not 1 <= self.size_step_px <= 4096:
            raise ValueError(f"size_step_px must be from 1 to 4096, got {self.size_step_px}")


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Fields of one image, and where in the image they are.

    heatmaps: float (J + 1, h, w); pafs: float (2 L, h, w); only cells that show something of the image.
    to_image: float64 (2, 3), from pixels of the network's input to pixels of the image. size_wh: of the image.
    """

    heatmaps: np.ndarray
    pafs: np.ndarray
    stride_px: int
    to_image: np.ndarray
    size_wh: Size


def input_size(width: int, height: int, insize: float) -> Size:
    """Width and height after resizing so that the shorter side is `insize`, the aspect kept to the pixel."""
    scale = min(insize / min(width, height), MAX_ASPECT * insize / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def grid_size(width: int, height: int, stride_px: int) -> Size:
    """(h, w): cells that it takes to cover that many pixels."""
    return -(-height // stride_px), -(-width // stride_px)


class Looks:
    """The sizes at which a network looks at images. They follow from the size of an image alone, so that what is found in it
    never depends on the images beside it in a batch."""

    def __init__(self, network: FieldNetwork, config: InferConfig) -> None:
        """Raises UserError where the skeleton has no mirror image."""
        self.network, self.config = network, config
        self.insize = config.insize or network.insize
        if config.mirror:
            try:
                mirror_channels(network.skeleton)
            except ValueError as error:
                raise UserError(f"--mirror: {error}; leave --mirror out") from error

    def sizes(self, size_wh: Size) -> tuple[tuple[Size, Size], ...]:
        """For each scale: (width, height) after resizing, and after padding to whole cells and whole steps."""
        stride, step = self.network.stride_px, self.config.size_step_px
        base = input_size(*size_wh, self.insize)
        shorter = self.insize if min(base) == self.insize else _round_up(min(base), step)
        padded_base = [shorter + _round_up(max(side - shorter, 0), step) for side in base]
        sizes = []
        for scale in self.config.scales:
            resized = input_size(*size_wh, self.insize * scale)
            padded = (_round_up(max(p * scale, r), stride) for p, r in zip(padded_base, resized, strict=True))
            sizes.append((resized, tuple(padded)))
        return tuple(sizes)

    def padded_sizes(self, size_wh: Size) -> tuple[Size, ...]:
        """(width, height) of the network's inputs: images for which they are equal may share a batch."""
        return tuple(padded for _, padded in self.sizes(size_wh))

    def prepare(self, image: np.ndarray) -> list[np.ndarray]:
        """uint8 RGB (H, W, 3) -> the network's input at each scale, padded in gray on the right and below."""
        return [prepare(image, resized, padded) for resized, padded in self.sizes((image.shape[1], image.shape[0]))]

    def compute(self, inputs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of one size, uint8 (H, W, 3) each -> heatmaps and PAFs (B, C, H / stride, W / stride), mirror image included."""
        batch = np.stack(inputs)
        heatmaps, pafs = self.network.fields(batch)
        if self.config.mirror:
            # Padding and all: its fields, turned back, lie on the same cells.
            mirrored = unmirror(*self.network.fields(np.ascontiguousarray(batch[:, :, ::-1])), self.network.skeleton)
            heatmaps, pafs = (heatmaps + mirrored[0]) / 2, (pafs + mirrored[1]) / 2
        return heatmaps, pafs

    def combine(self, outputs: Sequence[tuple[np.ndarray, np.ndarray]], size_wh: Size) -> Fields:
        """Heatmaps and PAFs (C, h, w) of one image at each scale -> its fields, without the cells that are padding alone."""
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


def _round_up(value: float, multiple: int) -> int:
    return int(-(-value // multiple)) * multiple


def prepare(image: np.ndarray, resized: Size, padded: Size) -> np.ndarray:
    """uint8 RGB (H, W, 3) -> resized to (width, height) and padded in gray, on the right and below, to (width, height)."""
    height, width = image.shape[:2]
    shrinks = resized[0] * resized[1] < width * height
    small = cv2.resize(image, resized, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    right, below = padded[0] - resized[0], padded[1] - resized[1]
    return cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(PADDING_GRAY,) * 3)


def image_fields(network: FieldNetwork, image: np.ndarray, config: InferConfig | None = None) -> Fields:
    """Fields of one image, uint8 RGB (H, W, 3). By default one look at the network's own size, padded to whole cells only."""
    looks = Looks(network, config or InferConfig(size_step_px=network.stride_px))
    outputs = [tuple(fields[0] for fields in looks.compute([view])) for view in looks.prepare(image)]
    return looks.combine(outputs, (image.shape[1], image.shape[0]))


def find_people(fields: Fields, skeleton: Skeleton, config: DecodeConfig) -> People:
    """People in pixels of the image; no joint lies outside of it."""
    people = decode(fields.heatmaps, fields.pafs, skeleton, config)
    pixels = geometry.cells_to_pixels(people.keypoints[..., :2], fields.stride_px)
    pixels = geometry.transform_points(fields.to_image, pixels)
    pixels = np.clip(pixels, 0, np.array(fields.size_wh) - 1)
    keypoints = people.keypoints.copy()
    keypoints[..., :2] = np.where(people.keypoints[..., 2:] > 0, pixels, 0)
    return dataclasses.replace(people, keypoints=keypoints)


def find_or_explain(fields: Fields, skeleton: Skeleton, config: DecodeConfig, name: str) -> People:
    """`find_people`; raises UserError naming the image where its fields are of another shape or not finite."""
    try:
        return find_people(fields, skeleton, config)
    except ValueError as error:
        raise UserError(f"fields of image {name}: {error}") from error
