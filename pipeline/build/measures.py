"""Statistics of each sample for samples.parquet, computed during the build so that nothing else has to read the rows.

Joints are counted under their names in the original image, in the skeleton's order J, even if the crop is mirrored.
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.datasets.selection import Sample, joint_boxes
from pipeline.samples.augment import Crop, Transform
from pipeline.skeleton import Skeleton

PIXEL_HASH_BYTES = 16
PIXEL_HASH_ROWS = 4  # hashing every fourth row is enough to tell images apart and takes a quarter of the time
FIELDS = (
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("pixels", pa.binary(PIXEL_HASH_BYTES)),
    ("boxes", pa.list_(pa.float32())),
    ("person_joints", pa.list_(pa.int32())),
    ("labeled", pa.list_(pa.int32())),
    ("visible", pa.list_(pa.int32())),
    ("person_joints_inside", pa.list_(pa.int32())),
    ("cut", pa.list_(pa.int32())),
    ("masked", pa.float32()),
)


def of_image(sample: Sample, image: np.ndarray) -> dict[str, Any]:
    """Return the statistics that all variants of an image share. image: uint8 (H, W, 3) RGB, the original.

    width, height: pixels. pixels: hash of the pixels, not of the file (`pixel_hash`). boxes (4 P): minimum x, y and maximum x, y
    of each target person's labeled joints. person_joints (P): number of labeled joints of each target person. labeled, visible
    (J): number of target people whose joint is labeled (v > 0), and visible (v = 2).
    """
    v = sample.keypoints[..., 2]
    boxes = np.concatenate(joint_boxes(sample.keypoints), axis=1) if len(v) else np.zeros((0, 4), np.float32)
    return {
        "width": sample.width,
        "height": sample.height,
        "pixels": pixel_hash(image),
        "boxes": boxes.ravel().tolist(),
        "person_joints": (v > 0).sum(axis=1).tolist(),
        "labeled": (v > 0).sum(axis=0).tolist(),
        "visible": (v == 2).sum(axis=0).tolist(),
    }


def of_crop(transform: Transform, crop: Crop, skeleton: Skeleton) -> dict[str, Any]:
    """Return the statistics of one variant. crop: with its final ignore mask.

    person_joints_inside (P): number of labeled joints of each target person inside the crop. cut (J): number of target people
    whose joint is labeled but outside the crop. masked: share of the cells that are ignored.
    """
    keypoints = crop.keypoints[:, skeleton.mirror] if transform.mirrored else crop.keypoints
    labeled = keypoints[..., 2] > 0
    # The crop extends to the outer edges of its pixels, half a pixel beyond their centers.
    inside = labeled & ((keypoints[..., :2] >= -0.5) & (keypoints[..., :2] < len(crop.image) - 0.5)).all(axis=-1)
    return {
        "person_joints_inside": inside.sum(axis=1).tolist(),
        "cut": (labeled & ~inside).sum(axis=0).tolist(),
        "masked": float(crop.ignore.mean()),
    }


def pixel_hash(image: np.ndarray) -> bytes:
    """Hash the shape and every PIXEL_HASH_ROWS-th row of an image, uint8 (H, W, 3): the first bytes of a SHA-256."""
    digest = hashlib.sha256(np.array(image.shape, "<u4").tobytes())
    digest.update(np.ascontiguousarray(image[::PIXEL_HASH_ROWS]).data)
    return digest.digest()[:PIXEL_HASH_BYTES]
