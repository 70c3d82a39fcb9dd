"""Readers of data sets: hand-made files of each format, field by field."""

import json

import format_files as made
import numpy as np
import pytest
from format_files import convert, faults

from pipeline.skeletons import read_skeleton


def test_lsp_extended(tmp_path):
    joints = np.full((14, 3, 2), 7.0)
    joints[:, 1] = np.arange(14)[:, None] + 20
    joints[:, 2, 0] = 1
    joints[3, :, 1] = -26.1, 500, 0  # as in the data: coordinates without meaning
    joints[4, :, 1] = 200, 20, 1
    joints[5, 2, 1] = 1
    document, people = convert(tmp_path, "lsp", made.lsp(tmp_path / "lsp", joints), ignore_unlabeled=False)
    (first,), (second,) = people["im00001.jpg"], people["im00002.jpg"]
    assert first.keypoints.tolist() == [[7, 20 + joint, 2] for joint in range(14)]
    assert first.bbox == (7, 20, 1, 14) and first.area == pytest.approx(0.53 * 14)
    assert np.flatnonzero(second.labeled).tolist() == [5]
    assert faults(tmp_path) == ["joint outside the image, now unlabeled"]
    assert document["licenses"][0]["name"].startswith("images from Flickr") and document["images"][0]["license"] == 1
    assert "CVPR 2011" in document["info"]["citation"] and "2 annotations without an area" in document["info"]["note"]


def test_lsp_has_the_opposite_flags(tmp_path):
    joints = np.full((3, 14, 2), 9.0)
    joints[2] = 0
    joints[2, 4] = 1
    _, people = convert(tmp_path, "lsp", made.lsp(tmp_path / "lsp", joints, digits=4), ignore_unlabeled=False)
    assert [person.keypoints[:, 2].tolist() for person in people["im0002.jpg"]] == [[2, 2, 2, 2, 1, *[2] * 9]]


def test_mpii_from_matlab(tmp_path):
    document, people = convert(tmp_path, "mpii", made.mpii(tmp_path / "mpii"))
    person, body, head = people["a.jpg"]
    assert person.keypoints.tolist() == [[10 + i, 20, 1 if i == 3 else 2] for i in range(16)]
    assert document["annotations"][0]["head_box"] == [10, 5, 10, 10]
    assert body.iscrowd and body.bbox == (22, 14, 20, 20), "20 px around objpos, pixels counted from 0"
    assert head.iscrowd and head.bbox == (10, 5, 10, 10)
    assert len(document["images"]) == 1 and "1 test images and images without annotations" in document["info"]["note"]


def test_mpii_from_json(tmp_path):
    entry = {
        "image": "a.jpg",
        "joints": [[11.0 + i, 21] for i in range(16)],
        "joints_vis": [1] * 15 + [0],
        "center": [1, 1],
        "scale": 1,
    }
    entry["joints"][15] = [-1, -1]
    (tmp_path / "m.json").write_text(json.dumps([entry, {**entry, "joints": entry["joints"][:3]}, {"image": "test.jpg"}]))
    made.write_images(tmp_path, "a.jpg")
    _, people = convert(tmp_path, "mpii", tmp_path / "m.json", max_faulty=0.5, ignore_unlabeled=False)
    assert [person.keypoints[[0, 14, 15]].tolist() for person in people["a.jpg"]] == [[[10, 20, 2], [24, 20, 2], [0, 0, 0]]]
    assert faults(tmp_path) == ["wrong number of joints"]


def test_ai_challenger(tmp_path):
    made.write_images(tmp_path, "ab.jpg")
    points = [9, 9, 1, 8, 8, 2, 0, 0, 3] + [7, 7, 1] * 11
    entry = {
        "image_id": "ab",
        "human_annotations": {"human1": [2, 3, 22, 43], "human2": [30, 3, 40, 13]},
        "keypoint_annotations": {"human1": points},
    }
    (tmp_path / "aic.json").write_text(json.dumps([entry]))
    _, people = convert(tmp_path, "aic", tmp_path / "aic.json")
    person, unlabeled = people["ab.jpg"]
    assert person.keypoints[:4].tolist() == [[9, 9, 2], [8, 8, 1], [0, 0, 0], [7, 7, 2]]
    assert (person.bbox, person.area) == ((2, 3, 20, 40), 800) and not unlabeled.labeled.any() and not unlabeled.iscrowd


def test_crowdpose_keeps_the_crowd_index(tmp_path):
    image = {"id": 4, "file_name": "1.jpg", "width": 64, "height": 48, "crowdIndex": 0.33}
    people = [
        {"image_id": 4, "keypoints": made.flat(14, v=1), "bbox": [1, 2, 30, 40]},
        {"image_id": 4, "keypoints": [0] * 36 + [9, 9, 1] * 2, "num_keypoints": 0, "bbox": [5, 6, 7, 8]},
        {"image_id": 9, "keypoints": made.flat(14)},
    ]
    people += [{"image_id": 4, "keypoints": made.flat(14)[:-3]}, {"image_id": 4, "keypoints": [0] * 42, "bbox": [0, 0, 0, 0]}]
    document, read = convert(tmp_path, "crowdpose", made.coco(tmp_path / "c.json", people, [image]), max_faulty=0.75)
    assert document["images"][0]["crowdIndex"] == 0.33 and document["images"][0]["id"] == 4
    first, guessed = read["1.jpg"]
    assert first.area == pytest.approx(0.53 * 1200) and set(first.keypoints[:, 2]) == {1}
    assert guessed.bbox == (5, 6, 7, 8) and not guessed.labeled.any(), "head and neck are guessed"
    assert sorted(faults(tmp_path)) == ["annotation without image", "neither keypoints nor a box", "wrong number of joints"]


def test_ochuman(tmp_path):
    made.write_images(tmp_path, "1.jpg")
    names = ["top_head", *reversed(read_skeleton("coco18").source_joints)]
    points = [[3, 4, 1], *[[10 + place, 20, place % 4] for place in range(17)]]
    person = {
        "bbox": [5, 6, 45, 40],
        "keypoints": [n for point in points for n in point],
        "segms": {"outer": [[5, 6, 45, 6, 45, 40]], "inner": []},
    }
    image = {"file_name": "1.jpg", "width": 64, "height": 48, "annotations": [person, {"bbox": [1, 2, 3, 4], "keypoints": None}]}
    (tmp_path / "ochuman.json").write_text(json.dumps({"keypoint_names": names, "images": [image]}))
    _, people = convert(tmp_path, "ochuman", tmp_path / "ochuman.json")
    first, unlabeled = people["1.jpg"]
    # v of the file: 16, 15, … modulo 4 from nose to ankle; 0 missing, 1 and 2 visible, 3 hidden
    assert first.keypoints[:5, 2].tolist() == [0, 1, 2, 2, 0] and first.keypoints[1].tolist() == [25, 20, 1]
    assert first.bbox == (5, 6, 40, 34) and first.segmentation == [[5, 6, 45, 6, 45, 40]] and not unlabeled.labeled.any()


def test_posetrack_reads_a_folder_and_its_ignore_regions(tmp_path):
    for video in ("000001", "000002"):
        name = f"images/val/{video}/0.jpg"
        made.write_images(tmp_path, name)
        image = {"id": int(video), "file_name": name, "width": 64, "height": 48, "is_labeled": True, "vid_id": video}
        image |= {"ignore_regions_x": [[1, 30, 30], [5]], "ignore_regions_y": [[1, 1, 20], [5]]}
        person = {"image_id": int(video), "keypoints": made.flat(17, v=1), "bbox_head": [1, 2, 3, 4], "track_id": 6}
        unlabeled = {**image, "id": 10 + int(video), "file_name": "absent.jpg", "is_labeled": False}
        (tmp_path / "annotations/val").mkdir(parents=True, exist_ok=True)
        made.coco(tmp_path / f"annotations/val/{video}.json", [person], [image, unlabeled])
    document, people = convert(tmp_path, "posetrack18", tmp_path / "annotations/val")
    assert len(people) == 2 and document["annotations"][1]["head_box"] == [1, 2, 3, 4]
    region, person = people["images/val/000001/0.jpg"]
    assert region.iscrowd and region.segmentation == [[1, 1, 30, 1, 30, 20]] and set(person.keypoints[:, 2]) == {2}
    assert read_skeleton(tmp_path / "out/skeleton.yaml").num_joints == 15


def test_whole_body_joins_the_parts(tmp_path):
    person = {"keypoints": made.flat(17), "foot_kpts": made.flat(6, v=1), "face_kpts": made.flat(68, v=0.3), "area": 77.5}
    person |= {
        "lefthand_kpts": made.flat(21, first=8),
        "righthand_kpts": made.flat(21),
        "righthand_valid": False,
        "bbox": [1, 2, 30, 40],
    }
    license = {"id": 4, "name": "BY", "url": "u"}
    images = [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48, "license": 4}]
    document, people = convert(tmp_path, "coco-wholebody", made.coco(tmp_path / "w.json", [person], images, licenses=[license]))
    (read,) = people["1.jpg"]
    assert read.keypoints[:, 2].tolist() == [2] * 17 + [1] * 6 + [1] * 68 + [2] * 21 + [0] * 21
    assert read.keypoints[91].tolist() == [8, 10, 2] and read.area == 77.5
    assert document["licenses"] == [license] and document["images"][0]["license"] == 4


@pytest.mark.parametrize(
    ("format", "given", "kept", "labeled"),
    [("coco-foot", 23, 23, 23), ("coco-foot", 17, 23, 17), ("halpe", 136, 26, 26), ("halpe", 26, 26, 26)],
)
def test_feet(tmp_path, format, given, kept, labeled):
    _, people = convert(tmp_path, format, made.coco(tmp_path / "f.json", [{"keypoints": made.flat(given)}]))
    (person,) = people["1.jpg"]
    assert (
        len(person.keypoints) == kept
        and person.labeled.sum() == labeled
        and person.keypoints[kept - 1, 0] == (5 + (kept - 1)) * (labeled == kept)
    )


def test_jhmdb_from_matlab(tmp_path):
    from scipy.io import savemat

    folder = tmp_path / "jhmdb/joint_positions/catch/v1"
    folder.mkdir(parents=True)
    positions = np.stack([np.full((15, 2), 11.0), np.tile(np.arange(15.0)[:, None] + 5, (1, 2))])
    positions[0, 2, 1] = 900
    savemat(folder / "joint_positions.mat", {"pos_img": positions})
    made.write_images(tmp_path / "jhmdb/Rename_Images/catch/v1", "00001.png", "00002.png")
    _, people = convert(tmp_path, "jhmdb", tmp_path / "jhmdb")
    assert people["catch/v1/00001.png"][0].keypoints.tolist() == [[10, joint + 4, 2] for joint in range(15)]
    assert people["catch/v1/00002.png"][0].labeled.sum() == 14 and len(faults(tmp_path)) == 1


def test_jhmdb_from_json(tmp_path):
    _, people = convert(tmp_path, "jhmdb", made.coco(tmp_path / "j.json", [{"keypoints": made.flat(15), "bbox": [5, 6, 20, 30]}]))
    assert people["1.jpg"][0].keypoints[0].tolist() == [4, 9, 2] and people["1.jpg"][0].bbox == (4, 5, 20, 30)
