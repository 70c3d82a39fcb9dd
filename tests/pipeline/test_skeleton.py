"""The skeleton is consistent, and inconsistent definitions are errors."""

import json

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18

THREE = dict(name="three", joints=("a", "b"), limbs=(("a", "b"),), mirror_pairs=(), source_joints=("a", "b"), sigmas=(0.1, 0.1))


def test_sizes_match_the_paper():
    assert (COCO18.num_joints, COCO18.num_limbs, COCO18.num_heatmaps, COCO18.num_pafs) == (18, 19, 19, 38)


def test_mirror_swaps_left_and_right():
    for joint, mirrored in enumerate(COCO18.mirror):
        swapped = COCO18.joints[joint].replace("left", "?").replace("right", "left").replace("?", "right")
        assert COCO18.joints[mirrored] == swapped


def test_limbs_connect_all_joints():
    seen = {0}
    for _ in range(COCO18.num_limbs):
        seen |= {joint for limb in COCO18.limb_joints.tolist() if set(limb) & seen for joint in limb}
    assert seen == set(range(18))


def test_sigmas_match_pycocotools():
    np.testing.assert_allclose(COCO18.sigmas, Params("keypoints").kpt_oks_sigmas)


def test_json_round_trip():
    assert Skeleton.from_dict(json.loads(json.dumps(COCO18.to_dict()))) == COCO18


@pytest.mark.parametrize(
    "change",
    [
        dict(joints=("a", "a")),
        dict(limbs=(("a", "c"),)),
        dict(limbs=(("a", "a"),)),
        dict(sigmas=(0.1,)),
        dict(sigmas=(0.1, -1)),
        dict(joints=("a", "b", "c")),
        dict(mirror_pairs=(("a", "b"), ("b", "a"))),
    ],
)
def test_inconsistent_skeletons_are_errors(change):
    Skeleton(**THREE)
    with pytest.raises(ValueError):
        Skeleton(**{**THREE, **change})
