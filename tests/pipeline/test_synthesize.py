"""The synthetic data set: valid COCO, correct anatomy, the same bytes for any number of jobs, complete or absent."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from pipeline.cli import parse
from pipeline.datasets.selection import PersonFilter, read_annotations
from pipeline.errors import UserError
from pipeline.skeletons import COCO18
from pipeline.synthetic.annotations import annotate, mask_to_polygons, run_lengths
from pipeline.synthetic.body import random_figure
from pipeline.synthetic.config import SceneConfig, SynthesizeConfig
from pipeline.synthetic.drawing import PlacedFigure, figure_numbers
from pipeline.synthetic.figure import JOINTS, PARTS, Figure, ellipsoid, turn
from pipeline.synthetic.scene import Scene, make_scene
from pipeline.synthetic.synthesize import run

LEFT_RIGHT = [(a, b) for a, b in COCO18.mirror_pairs if a in JOINTS]
SMALL = {"width": 320, "height": 240, "jobs": 1}


def document_of(folder: Path) -> dict:
    return json.loads(next((folder / "annotations").iterdir()).read_bytes())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synthesize") / "people"
    run(SynthesizeConfig(out=out, num_images=150, seed=5, **SMALL))
    return out


@pytest.fixture(scope="module")
def coco(data) -> COCO:
    return COCO(str(data / "annotations" / "person_keypoints_train2017.json"))


def people(coco: COCO) -> list[dict]:
    return [annotation for annotation in coco.anns.values() if not annotation["iscrowd"]]


def placed_figure(seed, yaw_degrees: float, *, height_px: float = 300) -> PlacedFigure:
    figure = random_figure(np.random.default_rng(seed), yaw_degrees=yaw_degrees)
    return PlacedFigure(figure, (200, 200), height_px)


def drawn(placed: PlacedFigure) -> tuple[np.ndarray, np.ndarray]:
    image, owner = np.full((400, 400, 3), 127, np.uint8), np.zeros((400, 400), np.int32)
    placed.draw(image, owner, 0, (-0.6, -0.8))
    return image, owner


def test_bytes_do_not_depend_on_jobs_or_on_other_images(tmp_path):
    for name, jobs, count in (("one", 1, 6), ("two", 2, 6), ("fewer", 1, 2)):
        run(SynthesizeConfig(out=tmp_path / name, num_images=count, seed=3, width=160, height=128, jobs=jobs))
    one, two, fewer = (bytes_of(tmp_path / name) for name in ("one", "two", "fewer"))
    assert one == two and len(one) == 7
    pictures = {name: content for name, content in fewer.items() if name.endswith(".jpg")}
    assert len(pictures) == 2 and pictures.items() <= one.items()


def test_seeds_and_splits_give_different_images(tmp_path):
    settings_of = {"a": {}, "b": {"seed": 1}, "c": {"split": "val"}}
    pictures = set()
    for name, options in settings_of.items():
        run(SynthesizeConfig(out=tmp_path / name, num_images=1, width=96, height=96, jobs=1, **options))
        pictures |= {content for path, content in bytes_of(tmp_path / name).items() if path.endswith(".jpg")}
    assert len(pictures) == 3
    assert document_of(tmp_path / "a")["images"][0]["id"] != document_of(tmp_path / "c")["images"][0]["id"]


@pytest.mark.parametrize(
    ("year", "split", "first"),
    [("2014", "train", "train2014/COCO_train2014_000000000001.jpg"), ("2017", "val", "val2017/000000500001.jpg")],
)
def test_file_names_follow_the_year(tmp_path, year, split, first):
    run(SynthesizeConfig(out=tmp_path / "o", num_images=1, year=year, split=split, width=64, height=64, jobs=1))
    assert sorted(bytes_of(tmp_path / "o")) == [f"annotations/person_keypoints_{split}{year}.json", first]


def test_image_files_match_the_annotation_file(data, coco):
    files = sorted(path.name for path in (data / "train2017").iterdir())
    assert files == sorted(image["file_name"] for image in coco.imgs.values())
    for image in list(coco.imgs.values())[:10]:
        assert cv2.imread(str(data / "train2017" / image["file_name"])).shape == (image["height"], image["width"], 3)
    assert (
        {image["license"] for image in coco.imgs.values()}
        == {entry["id"] for entry in coco.dataset["licenses"]}
        == set(range(1, 9))
    )


def test_category_is_that_of_coco(coco):
    (category,) = coco.cats.values()
    assert category["keypoints"] == list(COCO18.source_joints)
    assert len(category["skeleton"]) == 19 and category["skeleton"][0] == [16, 14] and category["skeleton"][-1] == [5, 7]


def test_area_and_box_match_the_mask(coco):
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert annotation["area"] == mask.sum() > 0
        x, y, width, height = cv2.boundingRect(mask)
        assert np.abs(np.array(annotation["bbox"]) - (x, y, width, height)).max() <= 1
        assert all(len(polygon) >= 6 for polygon in annotation["segmentation"]) or annotation["iscrowd"]


def test_mask_covers_the_visible_pixels_of_the_person():
    overlaps = []
    for seed in range(12):
        scene = make_scene(np.random.default_rng(seed), 240, 320)
        numbers = figure_numbers(scene.owner)
        seen = [numbers == n for n in range(len(scene.figures)) if n not in scene.crowd]
        for annotation in annotate(scene, np.random.default_rng(0)):
            if not annotation["iscrowd"] and annotation["area"] > 200:
                rle = coco_masks.merge(coco_masks.frPyObjects(annotation["segmentation"], 240, 320))
                mask = coco_masks.decode(rle).astype(bool)
                overlaps.append(max((mask & other).sum() / (mask | other).sum() for other in seen))
    # The figures are small here. As in COCO, polygons have no holes, for example between body and bent arm.
    assert len(overlaps) > 10 and np.median(overlaps) > 0.94 and min(overlaps) > 0.7


def test_polygon_follows_the_edges_of_the_pixels():
    mask = np.zeros((12, 12), np.uint8)
    mask[5:7, 4:7] = 1
    (polygon,) = mask_to_polygons(mask)
    assert {tuple(corner) for corner in np.reshape(polygon, (-1, 2))} == {(4, 5), (7, 5), (7, 7), (4, 7)}


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1)))
def test_run_lengths_decode_to_the_mask(mask):
    counts = run_lengths(mask)
    assert sum(counts) == mask.size and all(length > 0 for length in counts[1:])
    compressed = coco_masks.frPyObjects({"counts": counts, "size": list(mask.shape)}, *mask.shape)
    assert (coco_masks.decode(compressed) == mask).all()


def test_keypoints_are_inside_the_image_and_on_the_person(coco):
    visible, on_person = 0, 0
    for annotation in people(coco):
        points = np.reshape(annotation["keypoints"], (17, 3))
        labeled = points[:, 2] > 0
        assert annotation["num_keypoints"] == labeled.sum()
        assert (points[~labeled] == 0).all()
        assert ((points[labeled, :2] >= -0.5) & (points[labeled, :2] <= (319.5, 239.5))).all()
        near = cv2.dilate(coco.annToMask(annotation), np.ones((5, 5), np.uint8))
        columns, rows = np.rint(points[points[:, 2] == 2, :2]).astype(int).T
        visible, on_person = visible + len(rows), on_person + near[rows, columns].sum()
    assert visible > 500 and on_person >= 0.995 * visible


def test_data_set_has_the_variety_of_coco(coco):
    ids = {annotation["image_id"] for annotation in coco.anns.values()}
    assert 0.05 < 1 - len(ids) / len(coco.imgs) < 0.25
    crowds = [annotation for annotation in coco.anns.values() if annotation["iscrowd"]]
    assert crowds and all(isinstance(crowd["segmentation"]["counts"], list) and crowd["num_keypoints"] == 0 for crowd in crowds)
    areas = np.array([annotation["area"] for annotation in people(coco)])
    assert (areas <= 32**2).any() and (areas > 96**2).any()
    assert any(annotation["num_keypoints"] == 0 for annotation in people(coco))
    flags = np.concatenate([annotation["keypoints"][2::3] for annotation in people(coco)])
    assert {0, 1, 2} == set(flags.tolist()) and (flags == 1).mean() > 0.05 and (flags == 2).mean() > 0.4


def test_the_annotation_reader_accepts_the_file(data):
    path = data / "annotations" / "person_keypoints_train2017.json"
    selection = read_annotations(path, skeleton=COCO18, person_filter=PersonFilter())
    assert len(selection.samples) > 50


@given(st.integers(0, 10**6), st.floats(-60, 60))
@settings(max_examples=60, deadline=None)
def test_left_and_right_are_those_of_the_person(seed, turned):
    """In a front view, the left side of the body is clockwise of its upward direction; in a back view it is not."""
    for yaw, sign in ((turned, 1), (180 + turned, -1)):
        figure = random_figure(np.random.default_rng(seed), yaw_degrees=yaw)
        left_x, left_y, _ = figure.camera @ (figure.joints["left_hip"] - figure.joints["right_hip"])
        up_x, up_y, _ = figure.camera @ np.array([0, -1, 0])
        assert sign * (up_x * left_y - up_y * left_x) > 0


def test_faces_are_visible_only_from_the_front():
    eyes = {0: [], 180: []}
    for seed in range(40):
        for yaw, seen in eyes.items():
            placed = placed_figure(seed, yaw, height_px=250)
            visible = dict(zip(JOINTS, placed.visible(drawn(placed)[1], 0), strict=True))
            seen += [visible["nose"], visible["left_eye"], visible["right_eye"]]
    assert np.mean(eyes[0]) > 0.75 and np.mean(eyes[180]) < 0.05


def test_in_a_side_view_near_limbs_hide_far_limbs():
    """A body that faces the right of the image shows its right side."""
    seen = []
    for seed in range(40):
        placed = placed_figure(seed, 90)
        visible = dict(zip(JOINTS, placed.visible(drawn(placed)[1], 0), strict=True))
        seen.append([[visible[left], visible[right]] for left, right in LEFT_RIGHT])
    left, right = np.mean(seen, axis=(0, 1))
    assert right > left + 0.3


def test_midpoint_of_two_joints_is_on_the_limb_between_them():
    """The midpoint belongs to the limb that joins the two joints unless another part is in front of it."""
    hits = []
    for seed in range(20):
        placed = placed_figure(seed, 0)
        owner = drawn(placed)[1]
        points = dict(zip(JOINTS, placed.joints(), strict=True))
        for side in ("left", "right"):
            for part, ends in (("upper_arm", ("shoulder", "elbow")), ("shin", ("knee", "ankle"))):
                x, y = np.rint((points[f"{side}_{ends[0]}"] + points[f"{side}_{ends[1]}"]) / 2).astype(int)
                if 0 <= x < 400 and 0 <= y < 400:
                    hits.append(PARTS[owner[y, x] % len(PARTS)] == f"{side}_{part}" and figure_numbers(owner)[y, x] == 0)
    assert np.mean(hits) > 0.8


def test_an_object_in_front_hides_the_joints():
    placed = placed_figure(1, 0)
    image, owner = drawn(placed)
    assert placed.visible(owner, 0).sum() >= 8
    wall = Figure(camera=np.eye(3))
    wall.add("bag", (0, 0, 0), [ellipsoid(np.zeros(3), 3.0)])
    PlacedFigure(wall, (200, 200), 300).draw(image, owner, -1, (0, -1))
    assert not placed.visible(owner, 0).any() and (figure_numbers(owner) == -1).all()
    scene = Scene(image=image, owner=owner, light=np.array([0, -1]), figures=[placed])
    assert annotate(scene, np.random.default_rng(0)) == []


@pytest.mark.parametrize("seed", range(30))
def test_without_variety_people_are_upright_and_complete(seed):
    scene = make_scene(np.random.default_rng(seed), 240, 320, SceneConfig(max_people=2, min_person_height=0.6, variety=0))
    people = [placed for number, placed in enumerate(scene.figures) if number not in scene.crowd]
    assert len(people) <= 2
    for placed in people:
        joints = placed.joints()
        assert joints[JOINTS.index("nose"), 1] < joints[JOINTS.index("left_hip"), 1] < joints[JOINTS.index("left_ankle"), 1]
        assert (joints[:, 0] >= 0).all() and (joints[:, 0] <= 319).all()
        facing = placed.figure.camera[2, 2]
        assert abs(facing) > np.cos(np.radians(85)), "front or back view"


def test_turn_rotates_about_the_given_axis():
    left, down, forward = np.eye(3)
    for axis, start, end in ((0, down, forward), (1, forward, left), (2, left, down)):
        assert np.allclose(turn(axis, 90) @ start, end)


def test_options_come_from_the_command_line(tmp_path):
    words = ["--out", str(tmp_path), "--num-images", "7", "--seed", "2", "--year", "2014", "--split", "val"]
    config = parse(SynthesizeConfig, words, prog="synthesize")
    assert config == SynthesizeConfig(out=tmp_path, num_images=7, seed=2, year="2014", split="val")


@pytest.mark.parametrize(
    ("name", "value"), [("num_images", 0), ("width", 63), ("height", 5000), ("jpeg_quality", 0), ("jobs", 0), ("seed", -1)]
)
def test_invalid_options_are_named(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"{name} .*{value}"):
        SynthesizeConfig(out=tmp_path, **{name: value})


@pytest.mark.parametrize(("name", "value"), [("max_people", 0), ("min_person_height", 0.95), ("clutter", 101), ("variety", 1.5)])
def test_invalid_scene_options_are_named(name, value):
    with pytest.raises(ValueError, match=rf"{name} .*{value}"):
        SceneConfig(**{name: value})


@pytest.mark.parametrize(("num_images", "images"), [(1, "1 image,"), (2, "2 images,")])
def test_the_summary_has_singular_and_plural(tmp_path, capsys, num_images, images):
    run(SynthesizeConfig(out=tmp_path / "out", num_images=num_images, width=64, height=64, jobs=1))
    assert images in capsys.readouterr().out


def test_a_nonempty_folder_is_refused(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UserError, match="empty"):
        run(SynthesizeConfig(out=tmp_path, num_images=1, jobs=1))
    with pytest.raises(UserError, match="empty"):
        run(SynthesizeConfig(out=tmp_path / "kept.txt", num_images=1, jobs=1))
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_an_empty_folder_is_accepted(tmp_path):
    (tmp_path / "out").mkdir()
    run(SynthesizeConfig(out=tmp_path / "out", num_images=1, width=64, height=64, jobs=1))
    assert len(document_of(tmp_path / "out")["images"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_nothing(tmp_path, signal_number):
    options = ("--out", str(tmp_path / "out"), "--num-images", "20000", "--jobs", "2")
    command = [sys.executable, "-m", "pipeline", "synthesize", *options]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob("*.jpg")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal_number)
        assert process.wait(60) == 128 + signal_number
    finally:
        process.kill()
    assert list(tmp_path.iterdir()) == []
