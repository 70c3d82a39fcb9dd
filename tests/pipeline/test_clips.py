"""Clips of `synthesize --video`: annotations with identities, motion of bodies, the same bytes for any number of jobs."""

import json
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest
from pipeline_data import tree

from pipeline.cli import parse
from pipeline.datasets.coco import CocoFile
from pipeline.skeletons import COCO18
from pipeline.synthetic.body import random_figure
from pipeline.synthetic.clips import Clip
from pipeline.synthetic.config import ClipConfig, SynthesizeConfig
from pipeline.synthetic.motion import crossing
from pipeline.synthetic.synthesize import run

SMALL = {"video": True, "width": 160, "height": 128, "seed": 3}


@pytest.fixture(scope="module")
def document(clips):
    return json.loads((clips / "annotations" / "person_keypoints_train2017.json").read_text())


def test_bytes_do_not_depend_on_jobs(tmp_path):
    for jobs in (1, 2):
        run(SynthesizeConfig(out=tmp_path / str(jobs), jobs=jobs, clips=ClipConfig(num_clips=2, num_frames=3), **SMALL))
    one, two = (tree(tmp_path / str(jobs)) for jobs in (1, 2))
    assert one == two and len(one) == 7 and "train2017/000002/000001.jpg" in one


def test_the_layout_is_that_of_coco_video_files(clips, document):
    videos = {video["id"]: video for video in document["videos"]}
    frames = defaultdict(list)
    for image in document["images"]:
        frames[image["video_id"]].append(image["frame_id"])
        shape = (image["height"], image["width"], 3)
        if image["frame_id"] == 0:
            assert cv2.imread(str(clips / "train2017" / image["file_name"])).shape == shape
    assert frames.keys() == videos.keys() and all(numbers == list(range(40)) for numbers in frames.values())
    video_of = {image["id"]: image["video_id"] for image in document["images"]}
    for annotation in document["annotations"]:
        assert annotation["instance_id"] == annotation["track_id"]
        assert annotation["video_id"] == video_of[annotation["image_id"]]
    pairs = Counter((annotation["image_id"], annotation["track_id"]) for annotation in document["annotations"])
    assert max(pairs.values()) == 1, "nobody is twice in a frame"
    per_track = {annotation["track_id"]: annotation["video_id"] for annotation in document["annotations"]}
    assert len(per_track) >= 2 * len(videos)
    assert CocoFile(clips / "annotations" / "person_keypoints_train2017.json", COCO18).frames().keys() == videos.keys()


def test_people_move_and_do_not_jump(document):
    frame_of = {image["id"]: image["frame_id"] for image in document["images"]}
    places = defaultdict(dict)
    for annotation in document["annotations"]:
        points = np.reshape(annotation["keypoints"], (17, 3))
        hips = points[11:13]
        if (hips[:, 2] > 0).all():
            height = np.ptp(points[points[:, 2] > 0, 1])
            places[annotation["track_id"]][frame_of[annotation["image_id"]]] = hips[:, :2].mean(axis=0), height
    steps, tracks_that_move = [], 0
    for own in places.values():
        pairs = [(own[n], own[n + 1]) for n in own if n + 1 in own]
        steps += [np.linalg.norm(b[0] - a[0]) / max(a[1], 1) for a, b in pairs]
        if len(own) > 5:
            first, last = own[min(own)][0], own[max(own)][0]
            tracks_that_move += np.linalg.norm(last - first) > 20
    assert len(steps) > 200 and max(steps) < 0.5, "of the visible height, in a tenth of a second"
    assert tracks_that_move >= 4


def test_hidden_people_and_crossings_occur(document):
    seen = defaultdict(set)
    for annotation in document["annotations"]:
        if annotation["num_keypoints"]:
            seen[annotation["track_id"]].add(annotation["image_id"])
    gaps = [max(np.diff(sorted(ids)), default=1) for ids in seen.values() if len(ids) > 3]
    assert max(gaps) > 2, "somebody is hidden and appears again"


def test_people_of_a_crossing_meet_once():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = crossing(rng, 100, 25.0, 1.0)
        apart = one.route.x_m / one.route.z_m - other.route.x_m / other.route.z_m
        assert (np.diff(np.sign(apart)) != 0).sum() == 1


def test_a_person_keeps_body_and_clothes_and_walks():
    config = SynthesizeConfig(out="unused", clips=ClipConfig(num_frames=30), **SMALL)
    walker = next(walker for number in range(1, 9) for walker in Clip(config, number).walkers if walker.route.stride.min() > 0.9)
    colors, thighs = set(), []
    for frame in range(0, 30, 3):
        figure = random_figure(np.random.default_rng(walker.body), upright=True, yaw_degrees=0.0, posture=walker.posture(frame))
        colors.add(tuple(np.concatenate([shape.color for shape in figure.shapes if shape.part in ("torso", "pelvis")])))
        joints = figure.joints
        lengths = [np.linalg.norm(joints[f"left_{a}"] - joints[f"left_{b}"]) for a, b in (("hip", "knee"), ("knee", "ankle"))]
        assert lengths == pytest.approx([0.245, 0.235])
        thighs.append([(joints[f"{side}_knee"] - joints[f"{side}_hip"])[2] for side in ("left", "right")])
    assert len(colors) == 1
    left, right = np.transpose(thighs)
    assert np.corrcoef(left, right)[0, 1] < -0.8, "the legs swing in turn"


def test_labels_of_a_frame_are_what_is_visible_or_hidden_by_the_own_body(document):
    flags = np.concatenate([annotation["keypoints"][2::3] for annotation in document["annotations"]])
    assert {0, 1, 2} == set(flags.tolist())
    for annotation in document["annotations"]:
        visible = sum(v == 2 for v in annotation["keypoints"][2::3])
        assert annotation["num_keypoints"] == 0 or visible >= 5


def test_options_of_clips_need_video_and_num_images_goes_with_images(tmp_path, capsys):
    for words, reason in ((["--num-frames", "7"], "need --video"), (["--video", "--num-images", "7"], "use num_clips")):
        with pytest.raises(SystemExit):
            parse(SynthesizeConfig, ["--out", str(tmp_path), *words], prog="synthesize")
        assert reason in capsys.readouterr().err
    for name, value in (("num_clips", 0), ("num_frames", 20_000), ("fps", 0.0), ("max_walkers", 0)):
        with pytest.raises(ValueError, match=rf"{name} .*{value}"):
            ClipConfig(**{name: value})
