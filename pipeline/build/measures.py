"""What is measured of every sample while it is at hand, for its line in samples.parquet: no later step need look at the rows.

Joints are counted by the names of the original image, in the skeleton's order J, also where the crop is mirrored.
"""

import hashlib

import numpy as np
import pyarrow as pa

from pipeline.datasets.selection import Sample, joint_boxes
from pipeline.samples.augment import Crop, Transform
from pipeline.skeleton import Skeleton

PIXEL_HASH_BYTES = 16
PIXEL_HASH_ROWS = 4  # every fourth row tells pictures apart, and costs a quarter
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


def of_image(sample: Sample, image: np.ndarray) -> dict:
    """What all variants of an image share. image: uint8 (H, W, 3) RGB, the original.

    width, height in pixels; pixels: hash of them (the first bytes of SHA-256), equal for equal pixels in whatever file;
    boxes (4 P): least x, y and greatest x, y of each target person's labeled joints; person_joints (P): how many those are;
    labeled, visible (J): target people with that joint labeled (v > 0), and with it visible (v = 2).
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


def of_crop(transform: Transform, crop: Crop, skeleton: Skeleton) -> dict:
    """What is one variant's own, but for `masked`, which is of its row: the share of the cells that do not count in the loss.

    person_joints_inside (P): labeled joints of each target person inside the crop; cut (J): target people whose joint is
    labeled but outside of it.
    """
    keypoints = crop.keypoints[:, skeleton.mirror] if transform.mirrored else crop.keypoints
    labeled = keypoints[..., 2] > 0
    # The crop ends at the outer edges of its pixels, half a pixel beyond their centers.
    inside = labeled & ((keypoints[..., :2] >= -0.5) & (keypoints[..., :2] < len(crop.image) - 0.5)).all(axis=-1)
    return {
        "person_joints_inside": inside.sum(axis=1).tolist(),
        "cut": (labeled & ~inside).sum(axis=0).tolist(),
    }


def pixel_hash(image: np.ndarray) -> bytes:
    """Of the shape and every PIXEL_HASH_ROWS-th row of an image, uint8 (H, W, 3)."""
    digest = hashlib.sha256(np.array(image.shape, "<u4").tobytes())
    digest.update(np.ascontiguousarray(image[::PIXEL_HASH_ROWS]))
    return digest.digest()[:PIXEL_HASH_BYTES]
