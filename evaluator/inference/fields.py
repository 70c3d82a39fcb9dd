"""Fields of an image, and the people decoded from them in pixels of the image."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from evaluator.decoding import DecodeConfig, People, decode
from evaluator.inference.sizes import Size
from pipeline import geometry
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class Fields:
    """Fields of one image and their position in it.

    heatmaps: float (J + 1, h, w); pafs: float (2 L, h, w); cells that contain only padding are cropped away.
    to_image: float64 (2, 3), affine map from pixels of the network input to pixels of the image.
    size_wh: width and height of the image in pixels.
    """

    heatmaps: np.ndarray
    pafs: np.ndarray
    stride_px: int
    to_image: np.ndarray
    size_wh: Size


def find_people(fields: Fields, skeleton: Skeleton, config: DecodeConfig) -> People:
    """Decode people in pixels of the image, clipped to it. Raises ValueError as `decode` does."""
    people = decode(fields.heatmaps, fields.pafs, skeleton, config)
    pixels = geometry.cells_to_pixels(people.keypoints[..., :2], fields.stride_px)
    pixels = geometry.transform_points(fields.to_image, pixels)
    pixels = np.clip(pixels, 0, np.array(fields.size_wh) - 1)
    keypoints = people.keypoints.copy()
    keypoints[..., :2] = np.where(people.keypoints[..., 2:] > 0, pixels, 0)
    return dataclasses.replace(people, keypoints=keypoints)


def find_people_or_fail(fields: Fields, skeleton: Skeleton, config: DecodeConfig, name: str) -> People:
    """Call `find_people`. Raises UserError naming the image if its fields have a wrong shape or are not finite."""
    try:
        return find_people(fields, skeleton, config)
    except ValueError as error:
        raise UserError(f"fields of image {name}: {error}") from error
