"""Test-time augmentation: an equivariant network yields the same people at every scale and on the mirrored image."""

import dataclasses

import cv2
import numpy as np
import pytest
from pipeline_data import PUPPET

from evaluator.decoding import DecodeConfig
from evaluator.inference.augmentation import AugmentedNetwork, image_fields
from evaluator.inference.averaging import average, interpolation, unmirror
from evaluator.inference.config import InferConfig
from evaluator.inference.fields import find_people
from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig, render_heatmaps, render_pafs
from pipeline.skeleton import Skeleton, mirror_channels
from pipeline.skeletons import COCO18

PUPPET5 = Skeleton.from_dict(PUPPET)
# A limb that mirrors onto itself in the opposite direction, and two mirrored limbs of opposite directions.
CRISSCROSS = dataclasses.replace(
    PUPPET5,
    name="crisscross",
    limbs=(("left_hook", "right_hook"), ("middle", "left_hook"), ("right_hook", "middle"), ("left_string", "left_hook"),
           ("right_string", "right_hook")),
)  # fmt: skip
# Joint positions in an image of 200 x 260. The left joint of each pair is on the right, as for a person facing the camera.
PLACES = {
    "middle": (97, 60), "left_hook": (121, 75), "right_hook": (72, 79), "left_string": (150, 180), "right_string": (40, 161),
    "nose": (101, 30), "neck": (100, 60), "left_eye": (111, 24), "right_eye": (90, 22), "left_ear": (126, 31),
    "right_ear": (77, 28), "left_shoulder": (130, 62), "right_shoulder": (71, 58), "left_elbow": (150, 90),
    "right_elbow": (48, 95), "left_wrist": (168, 118), "right_wrist": (30, 125), "left_hip": (121, 140), "right_hip": (78, 138),
    "left_knee": (128, 185), "right_knee": (66, 181), "left_ankle": (133, 232), "right_ankle": (60, 238),
}  # fmt: skip


def picture(skeleton):
    """An image with a dot for each joint; the two joints of a mirror pair have the same color."""
    image = np.zeros((260, 200, 3), np.uint8)
    for joint, mirrored in zip(range(skeleton.num_joints), skeleton.mirror, strict=True):
        x, y = PLACES[skeleton.joints[joint]]
        cv2.circle(image, (x, y), 4, (255, 10 * min(joint, int(mirrored)), 0), -1)
    return image


class DotNetwork:
    """Finds the dots, assigns left and right by position, and returns the targets of these joints."""

    insize, stride_px = 208, 8

    def __init__(self, skeleton):
        self.skeleton = skeleton

    def fields(self, images):
        render = {"skeleton": self.skeleton, "grid_hw": (images.shape[1] // 8, images.shape[2] // 8), "config": TargetConfig()}
        people = [self._person(image)[None] for image in images]
        return tuple(np.stack([draw(person, **render) for person in people]) for draw in (render_heatmaps, render_pafs))

    def _person(self, image):
        count, _, _, centers = cv2.connectedComponentsWithStats((image[..., 0] > 200).astype(np.uint8))
        places = {}
        for x, y in sorted(centers[1:count].tolist()):
            places.setdefault(round(image[round(y), round(x), 1] / 10), []).append((x, y, 2))
        keypoints = np.zeros((self.skeleton.num_joints, 3), np.float32)
        for joint, found in places.items():
            pair = sorted((joint, int(self.skeleton.mirror[joint])), key=lambda j: self.skeleton.joints[j], reverse=True)
            for at, place in zip(pair, found, strict=len(found) == 2):
                keypoints[at] = place
        return keypoints


@pytest.mark.parametrize("skeleton", [COCO18, PUPPET5, CRISSCROSS], ids=lambda skeleton: skeleton.name)
def test_flip_does_not_change_the_fields(skeleton):
    network, image = DotNetwork(skeleton), picture(skeleton)
    plain, both = (image_fields(network, image, InferConfig(mirror=mirror)) for mirror in (False, True))
    assert plain.heatmaps[:-1].max() > 0.9 and np.abs(plain.pafs).max() > 0.9
    np.testing.assert_allclose(both.heatmaps, plain.heatmaps, atol=1e-4)
    np.testing.assert_allclose(both.pafs, plain.pafs, atol=1e-4)


@pytest.mark.parametrize("skeleton", [COCO18, PUPPET5, CRISSCROSS], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("mirror", [False, True])
def test_scales_and_flip_do_not_move_people(skeleton, mirror):
    config = InferConfig(scales=(0.5, 1.0, 1.5, 2.0), mirror=mirror)
    network, image = DotNetwork(skeleton), picture(skeleton)
    fields = image_fields(network, image, config)
    assert fields.heatmaps.shape[1:] == (68, 52)  # twice 208 x 270 pixels, in cells
    people = find_people(fields, skeleton, DecodeConfig())
    assert len(people) == 1
    expected = np.array([PLACES[joint] for joint in skeleton.joints])
    # At half the size a dot is 3 pixels wide, and an error of half a pixel there is one pixel here.
    assert np.abs(people.keypoints[0, :, :2] - expected).max() < 1.5


def test_unmirror_is_self_inverse_and_swaps_left_and_right():
    rng = np.random.default_rng(0)
    heatmaps, pafs = rng.random((2, 19, 4, 5), np.float32), rng.random((2, 38, 4, 5), np.float32)
    once = unmirror(heatmaps, pafs, COCO18)
    for again, before in zip(unmirror(*once, COCO18), (heatmaps, pafs), strict=True):
        np.testing.assert_array_equal(again, before)
    left, right = COCO18.index("left_knee"), COCO18.index("right_knee")
    np.testing.assert_array_equal(once[0][:, left], heatmaps[:, right, :, ::-1])
    np.testing.assert_array_equal(once[0][:, -1], heatmaps[:, -1, :, ::-1])
    thigh, other = (COCO18.limbs.index((f"{side}_hip", f"{side}_knee")) for side in ("left", "right"))
    np.testing.assert_array_equal(once[1][:, 2 * thigh], -pafs[:, 2 * other, :, ::-1])
    np.testing.assert_array_equal(once[1][:, 2 * thigh + 1], pafs[:, 2 * other + 1, :, ::-1])


def test_skeleton_that_cannot_be_mirrored_is_rejected():
    asymmetric = dataclasses.replace(PUPPET5, limbs=PUPPET5.limbs[:-1])
    with pytest.raises(ValueError, match="limb left_hook-left_string of skeleton 'puppet5' has no mirrored limb"):
        mirror_channels(asymmetric)
    with pytest.raises(UserError, match="omit --mirror"):
        AugmentedNetwork(DotNetwork(asymmetric), InferConfig(mirror=True))


@pytest.mark.parametrize(("num_out", "num_in"), [(40, 20), (20, 40), (31, 23), (7, 1)])
def test_interpolation_preserves_constants_and_slopes(num_out, num_in):
    ratio = num_in / num_out
    weights = interpolation(num_out, num_in, ratio)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    place = (np.arange(num_out) + 0.5) * ratio - 0.5
    inside = (place >= 1) & (place <= num_in - 2)
    np.testing.assert_allclose((weights @ np.arange(num_in))[inside], place[inside], atol=1e-5)


def test_average_of_equal_fields_is_exact():
    fields = np.random.default_rng(0).random((3, 4, 5), np.float32)
    np.testing.assert_array_equal(average([fields], [(40, 32)]), fields)
    np.testing.assert_array_equal(average([fields, fields], [(40, 32)] * 2), fields)
