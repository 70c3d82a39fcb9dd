"""Readers of annotation tools' files, and all readers of documents against damaged ones."""

import json
from pathlib import Path

import format_files as made
import numpy as np
import pytest
import yaml
from document_fuzz import damaged
from format_files import convert, faults
from hypothesis import HealthCheck, given, settings
from pipeline_data import PUPPET

from pipeline.datasets.formats.config import ConvertConfig
from pipeline.datasets.formats.convert import run
from pipeline.errors import UserError

NUM_EXAMPLES = 12


@pytest.fixture
def puppet(tmp_path) -> Path:
    """The skeleton puppet5, whose keypoints are right_string, left_string, right_hook, left_hook."""
    (tmp_path / "puppet.yaml").write_text(yaml.safe_dump(PUPPET))
    return tmp_path / "puppet.yaml"


def test_labelme(tmp_path, puppet):
    source = tmp_path / "source"
    made.write_images(source, "a.jpg", "deep/b.jpg")
    (source / "a.json").write_text(json.dumps(made.LABELME))
    loose = [{**shape, "group_id": None} for shape in made.LABELME["shapes"][:2] + made.LABELME["shapes"][3:4]]
    (source / "deep" / "b.json").write_text(json.dumps({**made.LABELME, "imagePath": "..\\elsewhere\\b.jpg", "shapes": loose}))
    _, people = convert(tmp_path, "labelme", source, skeleton=puppet)
    person, unlabeled, crowd = people["a.jpg"]
    assert person.keypoints.tolist() == [[0, 0, 0], [10, 11, 1], [0, 0, 0], [12, 13, 2]] and person.bbox == (5, 6, 25, 25)
    assert unlabeled.bbox == (40, 2, 20, 18) and not unlabeled.labeled.any() and not unlabeled.iscrowd
    assert crowd.iscrowd and crowd.segmentation == [[1, 30, 20, 30, 20, 40]]
    (alone,) = people["deep/b.jpg"]
    assert alone.labeled.sum() == 2 and alone.bbox == (5, 6, 25, 25)
    assert faults(tmp_path) == ["unknown label, left out"]


@pytest.mark.parametrize("minimal", [False, True])
def test_label_studio(tmp_path, puppet, minimal):
    made.write_images(tmp_path / "images", "a.jpg")
    (tmp_path / "s.json").write_text(json.dumps(made.label_studio(minimal)))
    _, people = convert(tmp_path, "label-studio", tmp_path / "s.json", skeleton=puppet)
    large, small, region = people["a.jpg"]
    assert large.bbox == pytest.approx((6.4, 9.6, 32, 28.8)) and small.bbox == pytest.approx((12.8, 19.2, 12.8, 14.4))
    assert small.keypoints.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0], [16, 24, 2]], "the smallest box around the point"
    assert large.keypoints[2].tolist() == ([0, 0, 0] if minimal else [51.2, 43.2, 2]), "the point's parent"
    assert region.iscrowd and region.bbox == pytest.approx((44.8, 0, 6.4, 4.8))


def test_cvat(tmp_path, puppet):
    made.write_images(tmp_path / "images", "a.jpg")
    (tmp_path / "annotations.xml").write_text(made.CVAT)
    _, people = convert(tmp_path, "cvat", tmp_path / "annotations.xml", skeleton=puppet)
    skeleton, outline, grouped, region = people["a.jpg"]
    assert skeleton.keypoints.tolist() == [[20, 21, 2], [10.5, 11.5, 1], [0, 0, 0], [0, 0, 0]]
    assert outline.segmentation == [[1, 1, 9, 1, 9, 9]] and not outline.labeled.any()
    assert grouped.keypoints[2].tolist() == [30, 31, 2] and grouped.bbox == (25, 26, 20, 20)
    assert region.iscrowd and region.bbox == (50, 2, 10, 10)


BOMB = '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]><annotations>&y;</annotations>'


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (BOMB.encode(), "document types"),
        (b'<?xml version="1.0" encoding="utf-16"?>' + BOMB.encode(), "document types"),
        (BOMB.encode("utf-16"), "not UTF-8"),
        (b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE a><a/>', "not XML"),
        (b"<annotations><image/", "not XML"),
        (b"<annotations><track/></annotations>", "CVAT for images 1.1"),
        (b'<annotations><image name="a" width="b" height="3"/></annotations>', "width must be a number, got 'b'"),
        (b'<annotations><image name="a" width="nan" height="3"/></annotations>', "width must be an integer"),
        (b'<annotations><image name="a" width="inf" height="3"/></annotations>', "width must be an integer"),
        (
            b'<annotations><image name="a" width="5" height="3"><points points="1,2,3"/></image></annotations>',
            "points must be x,y",
        ),
    ],
)
def test_dangerous_and_damaged_xml_is_refused(tmp_path, data, named):
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(UserError, match=rf"a\.xml.*{named}"):
        convert(tmp_path, "cvat", tmp_path / "a.xml")


def yolo(folder: Path, lines: dict[str, str], **data) -> Path:
    """Write a data.yaml with the images and label files of `lines`."""
    made.write_images(folder / "images/train", *(f"{name}.jpg" for name in lines))
    (folder / "labels/train").mkdir(parents=True)
    for name, text in lines.items():
        if text:
            (folder / f"labels/train/{name}.txt").write_text(text)
    (folder / "data.yaml").write_text(yaml.safe_dump({"path": str(folder), "train": "images/train", **data}))
    return folder / "data.yaml"


def test_yolo_pose(tmp_path, puppet):
    three = "0 0.5 0.5 0.25 0.5 " + "0.25 0.5 2 0.5 0.25 1 0 0 0 0.5 0.5 2"
    two = "0 0.5 0.5 0.25 0.5 " + "0.25 0.5 0 0 0.5 0.5 0.75 0.75"
    source = yolo(
        tmp_path / "y",
        {"a": f"{three}\n1{two[1:]}\n", "b": f"{two}\n0 0.5 0.5 nan 0.5\n0 0.5 0.5 1 1 3\n", "c": ""},
        names={0: "person", 1: "dog"},
    )
    document, people = convert(tmp_path, "yolo-pose", source, skeleton=puppet, max_faulty=0.5)
    assert [person.keypoints.tolist() for person in people["train/a.jpg"]] == [[[16, 24, 2], [32, 12, 1], [0, 0, 0], [32, 24, 2]]]
    assert people["train/a.jpg"][0].bbox == (24, 12, 16, 24)
    assert [person.keypoints[:, 2].tolist() for person in people["train/b.jpg"]] == [[2, 0, 2, 2]]
    assert people["train/c.jpg"] == [] and len(document["images"]) == 3
    assert faults(tmp_path) == ["not a finite number", "wrong number of joints"]


def test_yolo_pose_without_a_data_file(tmp_path, puppet):
    folder = yolo(tmp_path / "y", {"a": "0 0.5 0.5 0.25 0.5 0.25 0.5 0 0 0.5 0.5 0.75 0.75"}).parent
    (folder / "data.yaml").unlink()
    _, people = convert(tmp_path, "yolo-pose", folder, skeleton=puppet)
    assert people["train/a.jpg"][0].labeled.sum() == 3


def test_yolo_pose_needs_the_skeleton(tmp_path):
    source = yolo(tmp_path / "y", {"a": "0 0.5 0.5 0.25 0.5"}, kpt_shape=[4, 3])
    with pytest.raises(
        UserError, match=r"kpt_shape: 4 keypoints, but skeleton 'coco18' has 17; give the skeleton with --skeleton"
    ):
        convert(tmp_path, "yolo-pose", source)


def test_a_joint_labeled_twice_is_a_fault(tmp_path, puppet):
    made.write_images(tmp_path, "a.jpg")
    shapes = [made.LABELME["shapes"][0]] * 2 + [{**made.LABELME["shapes"][0], "group_id": 2}]
    (tmp_path / "a.json").write_text(json.dumps({**made.LABELME, "shapes": shapes}))
    with pytest.raises(UserError, match=r"1 of 2 annotations are faulty \(1 joint labeled twice\)"):
        convert(tmp_path, "labelme", tmp_path / "a.json", skeleton=puppet)


PERSON = {"image_id": 1, "id": 1, "bbox": [1, 2, 30, 40.5], "area": 50.0, "iscrowd": 0, "segmentation": [[1, 1, 9, 1, 9, 9]]}
IMAGE = {"id": 1, "file_name": "1.jpg", "width": 64, "height": 48, "license": 1, "crowdIndex": 0.5, "is_labeled": True}
DOCUMENTS = {
    "crowdpose": {"images": [IMAGE], "annotations": [PERSON | {"keypoints": made.flat(14)}], "licenses": [{"id": 1, "name": "a"}]},
    "posetrack18": {
        "images": [IMAGE | {"ignore_regions_x": [[1, 2, 3]], "ignore_regions_y": [[1, 2, 4]], "vid_id": "1"}],
        "annotations": [PERSON | {"keypoints": made.flat(17), "bbox_head": [1, 2, 3, 4], "track_id": 2}],
    },
    "coco-wholebody": {
        "images": [IMAGE],
        "annotations": [PERSON | {"keypoints": made.flat(17), "foot_kpts": made.flat(6), "foot_valid": True}],
    },
    "jhmdb": {"images": [IMAGE], "annotations": [PERSON | {"keypoints": made.flat(15)}]},
    "aic": [{"image_id": "1", "human_annotations": {"human1": [1, 2, 30, 40]}, "keypoint_annotations": {"human1": made.flat(14)}}],
    "ochuman": {
        "keypoint_names": ["nose", "left_eye"],
        "images": [{"file_name": "1.jpg", "width": 64, "height": 48, "annotations": [{"bbox": [1, 2, 3, 4], "segms": {"outer": []}}]}],
    },
    "mpii": [{"image": "1.jpg", "joints": [[5.0, 6]] * 16, "joints_vis": [1] * 16}],
    "labelme": {**made.LABELME, "imagePath": "1.jpg"},
    "label-studio": made.label_studio(),
}  # fmt: skip


@pytest.mark.parametrize("format", DOCUMENTS)
def test_a_damaged_document_is_read_or_refused_by_name(tmp_path, format):
    """Whatever a file contains: a UserError that names it, or a COCO file that `build` can read (checked by `convert`)."""
    made.write_images(tmp_path, "1.jpg", "a.jpg")
    places = iter(range(10**6))

    @settings(max_examples=NUM_EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(document=damaged(DOCUMENTS[format]).map(lambda damage: damage.document))
    def try_all(document):
        folder = tmp_path / str(next(places))
        folder.mkdir()
        try:
            (folder / "document.json").write_text(json.dumps(document))
        except (ValueError, RecursionError):  # cannot be written
            return
        try:
            convert(folder, format, folder / "document.json", images=tmp_path, max_faulty=1)
        except UserError as error:
            assert "document" in str(error)

    try_all()


def test_every_person_of_the_output_is_that_of_the_input(tmp_path):
    """Positions of random people survive the conversion to a thousandth of a pixel."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(0, 47, (20, 14, 2)), rng.integers(0, 3, (20, 14, 1))], axis=2)
    points[:, 0, 2] = 2
    source = made.coco(tmp_path / "c.json", [{"keypoints": person.ravel().tolist()} for person in points])
    run(ConvertConfig(source=source, source_format="crowdpose", out=tmp_path / "out"))
    written = json.loads((tmp_path / "out/annotations.json").read_text())["annotations"]
    read = np.array([entry["keypoints"] for entry in written]).reshape(20, 14, 3)
    np.testing.assert_allclose(read, points * (points[..., 2:] > 0), atol=1e-3)
    assert [entry["num_keypoints"] for entry in written] == (points[..., 2] > 0).sum(axis=1).tolist()
