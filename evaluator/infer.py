"""Image -> fields -> people in pixels of the image: resize, pad, network, decode, map back."""

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from evaluator.decode import DecodeConfig, People, decode
from pipeline import geometry
from pipeline.augment import PADDING_GREY
from pipeline.skeleton import Skeleton

MAX_ASPECT = 8  # a longer image is made smaller still, or a strip of paper would fill the memory


class FieldNetwork(Protocol):
    """What `trainer.checkpoint.LoadedNetwork` offers: uint8 RGB (B, H, W, 3) -> heatmaps and PAFs float32 (B, C, h, w)."""

    skeleton: Skeleton
    insize: int
    stride_px: int

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


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
    size_wh: tuple[int, int]


def input_size(width: int, height: int, insize: int) -> tuple[int, int]:
    """Width and height after resizing so that the shorter side is `insize`, the aspect kept to the pixel."""
    scale = min(insize / min(width, height), MAX_ASPECT * insize / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def grid_size(width: int, height: int, stride_px: int) -> tuple[int, int]:
    """(h, w): cells that it takes to cover that many pixels."""
    return -(-height // stride_px), -(-width // stride_px)


def prepare(image: np.ndarray, insize: int, stride_px: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 RGB (H, W, 3) -> the network's input, uint8 (H', W', 3), and the matrix from the image's pixels to its.

    Padded in grey, right and below, to whole cells.
    """
    height, width = image.shape[:2]
    new_width, new_height = input_size(width, height, insize)
    shrinks = new_width * new_height < width * height
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    rows, columns = grid_size(new_width, new_height, stride_px)
    below, right = rows * stride_px - new_height, columns * stride_px - new_width
    padded = cv2.copyMakeBorder(resized, 0, below, 0, right, cv2.BORDER_CONSTANT, value=(PADDING_GREY,) * 3)
    return padded, geometry.resizing(new_width / width, new_height / height)


def image_fields(network: FieldNetwork, image: np.ndarray, insize: int | None = None) -> Fields:
    """Fields of one image, uint8 RGB (H, W, 3); insize defaults to the side of the network's training crops."""
    padded, matrix = prepare(image, insize or network.insize, network.stride_px)
    heatmaps, pafs = network.fields(padded[None])
    return Fields(
        heatmaps=heatmaps[0],
        pafs=pafs[0],
        stride_px=network.stride_px,
        to_image=geometry.invert(matrix),
        size_wh=(image.shape[1], image.shape[0]),
    )


def find_people(fields: Fields, skeleton: Skeleton, config: DecodeConfig) -> People:
    """People in pixels of the image; no joint lies outside of it."""
    people = decode(fields.heatmaps, fields.pafs, skeleton, config)
    pixels = geometry.cells_to_pixels(people.keypoints[..., :2], fields.stride_px)
    pixels = geometry.transform_points(fields.to_image, pixels)
    pixels = np.clip(pixels, 0, np.array(fields.size_wh) - 1)
    keypoints = people.keypoints.copy()
    keypoints[..., :2] = np.where(people.keypoints[..., 2:] > 0, pixels, 0)
    return dataclasses.replace(people, keypoints=keypoints)
