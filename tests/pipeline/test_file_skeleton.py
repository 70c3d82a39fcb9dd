"""A network's skeleton seen through an annotation file with other keypoints."""

import dataclasses

import numpy as np
import pytest

from pipeline.datasets.file_skeleton import shipped_skeleton, view_of_file
from pipeline.datasets.joints import union
from pipeline.errors import UserError
from pipeline.skeletons import COCO18, SHIPPED, read_skeleton

CROWDPOSE = read_skeleton("crowdpose14")


def category(names):
    return [{"id": 1, "name": "person", "keypoints": list(names)}]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_skeleton_is_its_own_view(name):
    skeleton = read_skeleton(name)
    assert view_of_file(category(skeleton.source_joints), skeleton, "f") is skeleton


@pytest.mark.parametrize("own", [COCO18, CROWDPOSE], ids=lambda skeleton: skeleton.name)
def test_a_union_is_seen_through_each_of_its_sources(own):
    """Joints, limbs and channels are those of the network, keypoints and OKS constants those of the source."""
    whole = union([CROWDPOSE, COCO18])
    seen = view_of_file(category(own.source_joints), whole, "f")
    assert (seen.joints, seen.limbs) == (whole.joints, whole.limbs)
    assert (seen.source_joints, seen.sigmas) == (own.source_joints, own.sigmas)
    assert [whole.joints[place] for place in seen.source_indices] == list(own.source_joints)


def test_another_order_has_the_constants_of_its_joints():
    names = COCO18.source_joints[::-1]
    seen = view_of_file(category(names), COCO18, "f")
    assert dict(zip(names, seen.sigmas, strict=True)) == dict(zip(COCO18.source_joints, COCO18.sigmas, strict=True))
    np.testing.assert_array_equal(seen.source_indices, COCO18.source_indices[::-1])


def test_keypoints_that_the_network_lacks_have_no_index():
    names = [*COCO18.source_joints[:-2], "left_big_toe", "right_big_toe"]
    seen = view_of_file(category(names), COCO18, "f")
    assert seen.source_indices[-2:].tolist() == [-1, -1] and (seen.source_indices[:-2] >= 0).all()
    assert (
        seen.sigmas[-1]
        == dict(zip(*(getattr(read_skeleton("body25"), n) for n in ("source_joints", "sigmas")), strict=True))["right_big_toe"]
    )


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            [*COCO18.source_joints[:5], "tail", "wing", "beak", "claw", "fin"],
            "5 of 10 keypoints are not joints .* 'coco18': tail, wing, beak",
        ),
        ([*COCO18.source_joints, "tail"], "no skeleton has an OKS constant for keypoint 'tail'"),
        (COCO18.source_joints[1:-1], "of the mirror pair"),
    ],
)
def test_what_cannot_be_matched_is_named(names, reason):
    with pytest.raises(UserError, match=f"^f: categories: .*{reason}"):
        view_of_file(category(names), COCO18, "f")


def test_shipped_skeletons_are_found_by_their_keypoints():
    assert shipped_skeleton(COCO18.source_joints) == COCO18 and shipped_skeleton(CROWDPOSE.source_joints) == CROWDPOSE
    assert shipped_skeleton(dataclasses.replace(CROWDPOSE).source_joints[:-1]) is None
