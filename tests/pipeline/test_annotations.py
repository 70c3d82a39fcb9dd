"""Reading COCO files: which people are targets, what is ignored, and errors for bad files."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from pipeline.datasets.coco import CocoFile
from pipeline.datasets.segmentation import decompress_rle
from pipeline.datasets.selection import PersonFilter, add_derived_joints, read_annotations
from pipeline.errors import UserError
from pipeline.samples import masks
from pipeline.skeletons import COCO18

FULL = [v for i in range(17) for v in (20 + i, 30 + i, 2)]
MOVED = [v for i in range(17) for v in (50 + i, 30 + i, 2)]
NONE = [0] * 51


def person(id=1, image_id=1, keypoints=FULL, area=2000.0, **more) -> dict:
    x0 = 10
    box = [[x0, 10, x0 + 40, 10, x0 + 40, 60, x0, 60]]
    fields = dict(id=id, image_id=image_id, category_id=1, iscrowd=0, area=area, bbox=[x0, 10, 40, 50], segmentation=box)
    return {**fields, "keypoints": list(keypoints), **more}


def document(*people, num_images=1) -> dict:
    images = [dict(id=i + 1, file_name=f"{i + 1}.jpg", width=100, height=80, license=4) for i in range(num_images)]
    category = dict(id=1, name="person", keypoints=list(COCO18.source_joints))
    return dict(images=images, annotations=list(people), categories=[category], licenses=[dict(id=4, name="BY")])


def read(tmp_path, content, **options):
    path = tmp_path / "a.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_annotations(path, skeleton=COCO18, person_filter=PersonFilter(**options))


def test_neck_is_the_midpoint_of_the_shoulders(tmp_path):
    (sample,) = read(tmp_path, document(person())).samples
    left, right, neck = (sample.keypoints[0, COCO18.index(name)] for name in ("left_shoulder", "right_shoulder", "neck"))
    np.testing.assert_array_equal(neck, [(left[0] + right[0]) / 2, (left[1] + right[1]) / 2, 2])


def test_missing_boxes_and_areas_are_derived_and_counted(tmp_path):
    """The box of the pixels of the labeled keypoints, else of the polygons; the area is 0.53 times the box."""
    people = [
        person(1),
        person(2, keypoints=MOVED),
        person(3, keypoints=NONE, iscrowd=1),
        person(4, bbox=[1, 2, 10, 20], keypoints=FULL[::-1]),
    ]
    del people[1]["bbox"], people[1]["area"], people[2]["bbox"], people[3]["area"]
    people[3]["keypoints"] = [0] * 48 + [5, 6, 2]
    selection = read(tmp_path, document(*people), min_joints=1, min_area_px=100)
    read_people = CocoFile(tmp_path / "a.json", COCO18).annotations[1]
    assert [entry.bbox for entry in read_people] == [(10, 10, 40, 50), (50, 30, 17, 17), (10, 10, 40, 50), (1, 2, 10, 20)]
    assert [entry.area for entry in read_people] == pytest.approx([2000, 0.53 * 289, 2000, 0.53 * 200])
    assert (selection.counts["people_without_bbox"], selection.counts["people_without_area"]) == (2, 2)
    complete = read(tmp_path, document(person())).counts
    assert "people_without_bbox" not in complete and "people_without_area" not in complete


def test_neck_with_one_shoulder():
    source = np.array(FULL, float).reshape(1, 17, 3)
    source[0, COCO18.source_joints.index("left_shoulder")] = 0
    neck = COCO18.index("neck")
    assert add_derived_joints(source, COCO18, one_is_enough=False)[0, neck].tolist() == [0, 0, 0]
    right = source[0, COCO18.source_joints.index("right_shoulder")]
    assert add_derived_joints(source, COCO18, one_is_enough=True)[0, neck].tolist() == right.tolist()


def test_keypoints_are_not_rounded(tmp_path):
    points = list(FULL)
    points[0] = 20.375
    (sample,) = read(tmp_path, document(person(keypoints=points))).samples
    assert sample.keypoints[0, COCO18.index("nose"), 0] == 20.375 and sample.keypoints.dtype == np.float32


def test_targets_have_at_least_five_joints_and_more_than_the_minimum_area(tmp_path):
    five, four = FULL[:15] + [0] * 36, FULL[:12] + [0] * 39
    people = [
        person(1, keypoints=five),
        person(2, keypoints=four),
        person(3, area=1024.0),
        person(4, keypoints=MOVED, area=1024.5),
    ]
    selection = read(tmp_path, document(*people))
    assert len(selection.samples[0].keypoints) == 2 and len(selection.samples[0].ignored) == 2
    assert (selection.counts["people_few_joints"], selection.counts["people_small"]) == (1, 1)


def test_min_diagonal_px_excludes_small_people(tmp_path):
    # The keypoints of FULL range from 20, 30 to 36, 46: 17 x 17 pixels.
    diagonal = np.hypot(17, 17)
    for least, count in ((diagonal - 0.01, 1), (diagonal + 0.01, 0)):
        selection = read(tmp_path, document(person(), person(2, image_id=2, area=5e3), num_images=2), min_diagonal_px=least)
        assert selection.counts.get("people_target", 0) == 2 * count and selection.counts.get("people_small", 0) == 2 * (
            1 - count
        )


def test_images_without_target_are_dropped_and_images_without_people_kept_by_share(tmp_path):
    content = document(person(1, 1), person(2, 2, keypoints=NONE), num_images=10)
    assert [s.image_id for s in read(tmp_path, content).samples] == [1]
    selection = read(tmp_path, content, people_free_share=0.75)
    assert len(selection.samples) == 4 and selection.counts["images_without_people_kept"] == 3
    assert 2 not in [s.image_id for s in selection.samples], "it shows an unlabeled person"


def test_ignore_mask_covers_unlabeled_people_and_crowds_except_targets(tmp_path):
    def square(x, y):
        return [[x, y, x + 20, y, x + 20, y + 20, x, y + 20]]

    crowd = {"size": [80, 100], "counts": [80 * 50, 80 * 50]}  # the right half
    target = person(1, segmentation=square(60, 10))
    unlabeled = person(2, keypoints=NONE, segmentation=square(10, 10))
    crowd_region = person(3, keypoints=NONE, iscrowd=1, segmentation=crowd)
    (sample,) = read(tmp_path, document(target, unlabeled, crowd_region)).samples
    mask = masks.ignore_mask(sample)
    expected = np.zeros((80, 100), bool)
    expected[:, 50:] = True
    expected[10:30, 60:80] = False
    expected[10:30, 10:30] = True
    np.testing.assert_array_equal(mask, expected)


def test_there_is_no_mask_if_nothing_is_ignored(tmp_path):
    assert masks.ignore_mask(read(tmp_path, document(person())).samples[0]) is None


@given(st.integers(0, 2**31), st.floats(0, 1))
def test_compressed_rle_of_pycocotools_is_decoded(seed, density):
    rng = np.random.default_rng(seed)
    mask = rng.random((80, 100)) < density
    mask[:, rng.integers(100) :] = False  # makes a long run
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(int), prepend=0, append=2))
    expected = np.diff(edges, prepend=0)
    assert decompress_rle(code) == expected.tolist()


@pytest.mark.parametrize("counts", ["@", "0", "00o", "\x00", "\u00ff", "P" * 1000, "`2" * 4000])
def test_invalid_compressed_rle_is_reported(tmp_path, counts):
    crowd = person(2, keypoints=NONE, iscrowd=1, segmentation={"size": [80, 100], "counts": counts})
    with pytest.raises(UserError, match=r"annotation .*: segmentation must be an RLE whose counts add up to 8000 pixels"):
        read(tmp_path, document(person(), crowd))


def changed(path: list, value) -> dict:
    content = document(person())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not JSON"),
        ("[]", "not COCO"),
        ({"images": []}, "not COCO"),
        (changed(["categories", 0, "keypoints"], ["nose"]), "skeleton"),
        (changed(["categories"], []), "skeleton"),
        (changed(["annotations", 0, "keypoints"], FULL[:-1]), "annotation 1: keypoints must be 51"),
        (changed(["annotations", 0, "keypoints", 3], float("nan")), r"annotations\[0\].keypoints\[3\]: NaN and Infinity are not"),
        (changed(["annotations", 0, "segmentation"], [[0.0] * 7 + [-float("inf")]]), r"0\].segmentation\[0\]\[7\]: NaN and"),
        (
            changed(["images", 0, "width"], float("nan")),
            r"images\[0\].width: NaN and Infinity are not JSON; write a finite number",
        ),
        (json.dumps(changed(["images", 0, "width"], float("nan")))[:-1], "not JSON: expected value"),
        (
            json.dumps(changed(["annotations", 0, "keypoints", 3], 1e9)).replace("1000000000.0", "1e400"),
            "keypoints.3.: expected a number",
        ),
        (changed(["annotations", 0, "keypoints", 3], 1e9), "annotation 1: keypoints.3.: expected a number <= 100000"),
        (changed(["annotations", 0, "keypoints", 3], 2**70), "annotation 1: keypoints.3.: expected a number <= 100000"),
        (changed(["images", 0, "license"], 2**31), "image 1: license: expected an integer <= 2147483647, got 2147483648"),
        (changed(["licenses", 0, "id"], 2**31), r"licenses: \[0\].id: expected an integer <= 2147483647"),
        (json.dumps(changed(["images", 0, "file_name"], "é.jpg")).replace("u00e9", "ud800"), "not JSON"),
        (json.dumps(document(person())).replace('"width"', '"id": 2, "width"'), 'duplicate key "id"'),
        ("[" * 100_000, "recursion limit"),
        (changed(["annotations", 0, "keypoints", 2], 3), "v of keypoints"),
        (changed(["annotations", 0, "image_id"], 77), "image_id"),
        (changed(["annotations", 0, "area"], -1), "area"),
        (
            changed(["annotations", 0], person(bbox=None, keypoints=[0] * 51, segmentation=None)),
            "annotation 1: missing required field `bbox`",
        ),
        (changed(["annotations", 0, "bbox"], [1, 2, 3]), "bbox"),
        (changed(["annotations", 0, "segmentation"], [[1, 2]]), "segmentation"),
        (changed(["annotations", 0, "segmentation"], {"size": [1, 1], "counts": [1]}), "segmentation"),
        (changed(["annotations", 0, "segmentation"], [[0, 0, 1e8, 1e8, 10, 0]]), "segmentation"),
        (changed(["annotations", 0, "bbox"], [0, 0, 1e8, 1e8]), "bbox"),
        (changed(["images", 0, "width"], 10**9), "width"),
        (changed(["images", 0, "file_name"], "../secret.jpg"), "file_name"),
        (changed(["images", 0, "file_name"], "/etc/passwd"), "file_name"),
        (changed(["images", 0, "width"], 0), "width"),
        (changed(["images", 0, "id"], "one"), "id"),
        (changed(["images"], document(num_images=1)["images"] * 2), "image id 1 occurs twice"),
    ],
)
def test_bad_files_are_errors_that_name_file_and_field(tmp_path, content, named):
    with pytest.raises(UserError, match=named) as error:
        read(tmp_path, content)
    assert "a.json" in str(error.value)


REVERSED = list(reversed(COCO18.source_joints))


def with_categories(*more: dict) -> dict:
    """People of category 1 and, moved, of category 2 in one image."""
    content = document(person(), person(2, keypoints=MOVED, category_id=2))
    content["categories"] += more
    return content


def test_people_of_all_categories_with_the_keypoints_are_targets(tmp_path):
    rider = dict(id=2, name="rider", keypoints=list(COCO18.source_joints))
    selection = read(tmp_path, with_categories(rider, dict(id=3, name="dog", keypoints=["tail"]), dict(id=4, name="car")))
    assert len(selection.samples[0].keypoints) == 2 and selection.counts["people_target"] == 2
    assert selection.origin["categories"] == {"1": "person", "2": "rider"}
    assert "categories" not in read(tmp_path, document(person())).origin, "as before for files with one category"


@pytest.mark.parametrize(
    ("category", "named"),
    [
        (dict(id=2, name="rider", keypoints=REVERSED), "category 2 .'rider'. has the keypoints of the skeleton in another order"),
        (dict(id=2, name="person", keypoints=["head"]), "category 2 .'person'. has the name of a category with other keypoints"),
        (dict(id=2, name="person"), "category 2 .'person'. has the name of a category with other keypoints"),
        (dict(id=1, name="rider", keypoints=REVERSED), "categories: id 1 occurs twice"),
        (dict(id="2", name="rider"), r"categories: \[1\].id: expected an integer"),
        (dict(id=3, name="rider"), "annotation 2: category_id must be the id of a category of this file, got 2"),
    ],
)
def test_categories_that_conflict_are_named(tmp_path, category, named):
    with pytest.raises(UserError, match=named):
        read(tmp_path, with_categories(category))


def test_a_person_who_is_annotated_twice_is_one_target_and_counted(tmp_path):
    selection = read(tmp_path, document(person(1), person(2), person(3, keypoints=MOVED), person(4, keypoints=NONE)))
    assert len(selection.samples[0].keypoints) == 2
    assert (selection.counts["people_target"], selection.counts["people_duplicate"]) == (2, 1)
    assert "people_duplicate" not in read(tmp_path, document(person())).counts


def test_an_annotation_id_that_occurs_twice_is_named(tmp_path):
    with pytest.raises(UserError, match="annotation 1: id must be unique, but occurs twice, got 1"):
        read(tmp_path, document(person(1), person(1, keypoints=MOVED)))


@pytest.mark.parametrize("name", ["1.jpg", "./1.jpg", "a/../1.jpg"])
def test_two_images_with_one_file_are_named(tmp_path, name):
    content = document(person(), num_images=2)
    content["images"][1]["file_name"] = name
    with pytest.raises(UserError, match=r"images 1 and 2 have the same file_name '1.jpg'|file_name must be a path inside"):
        read(tmp_path, content)


def places(node, path=()):
    """Yield every path into a JSON document."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


BASE = document(person(), person(2, keypoints=NONE, iscrowd=1, segmentation={"size": [80, 100], "counts": [4000, 4000]}))
PATHS = [path for path in places(BASE) if path]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just("\0"),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PATHS), VALUES)
def test_mutated_files_are_read_or_are_user_errors(tmp_path, path, value):
    content = copy.deepcopy(BASE)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        selection = read(tmp_path, content)
    except UserError:
        return
    for sample in selection.samples:
        assert np.isfinite(sample.keypoints).all()
        mask = masks.ignore_mask(sample)
        assert mask is None or mask.shape == (sample.height, sample.width)


@pytest.mark.parametrize(("factor", "shift"), [(1, 5_000), (20, 0), (-1, 0)])
def test_keypoints_that_mostly_lie_outside_their_images_are_refused(people, tmp_path, factor, shift):
    """As from another unit, or of other images. Single keypoints may lie outside."""
    document = json.loads((people / "annotations" / "person_keypoints_train2017.json").read_text())
    for number, annotation in enumerate(document["annotations"]):
        points = np.array(annotation["keypoints"]).reshape(-1, 3)
        seen = points[:, 2] > 0
        if number % 4 == 0:
            points[seen, 0] = -500
        annotation["keypoints"] = points.ravel().tolist()
        points[seen, :2] = points[seen, :2] * factor + shift
        annotation["moved"] = points.ravel().tolist()
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document))
    CocoFile(path, COCO18)
    document["annotations"] = [{**entry, "keypoints": entry["moved"]} for entry in document["annotations"]]
    path.write_text(json.dumps(document))
    with pytest.raises(
        UserError, match=r"a.json: [\d,]+ of [\d,]+ labeled keypoints lie outside their images; give keypoints in pix"
    ):
        CocoFile(path, COCO18)


def test_a_missing_file_is_a_message_and_exit_code_1(tmp_path):
    words = ["build", "--annotations", str(tmp_path / "no.json"), "--images", str(tmp_path), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-m", "pipeline", *words], capture_output=True, text=True)
    assert done.returncode == 1 and "no.json" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
