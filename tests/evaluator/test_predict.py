"""The command `predict`: videos, OpenPose's JSON format, bounded memory."""

import json

import cv2
import numpy as np
import pytest
from evaluator_data import PerfectNetwork, write_set
from job_data import NoiseNetwork

from evaluator.decoding import DecodeConfig, People
from evaluator.inference.config import InferConfig
from evaluator.inference.streaming import prefetch
from evaluator.predict import openpose_json
from evaluator.predict import predict as predict_command
from evaluator.predict.config import PredictConfig
from evaluator.predict.video import Video, VideoWriter
from pipeline.images import UnreadableImage
from pipeline.skeletons import COCO18

# https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md, "Keypoint Ordering", POSE_COCO_BODY_PARTS
OPENPOSE_COCO = (
    "Nose", "Neck", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist", "RHip", "RKnee", "RAnkle", "LHip", "LKnee",
    "LAnkle", "REye", "LEye", "REar", "LEar",
)  # fmt: skip


def write_video(path, levels, size=(161, 121), fps=10.0):
    """Write a video of gray frames with these levels."""
    with VideoWriter(path, fps) as writer:
        for level in levels:
            writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    return path


class SpotNetwork(NoiseNetwork):
    """Finds a nose in the cell of the brightest pixel, if it is bright."""

    def fields(self, images):
        count, height, width, _ = images.shape
        heatmaps = np.zeros((count, COCO18.num_heatmaps, height // 8, width // 8), np.float32)
        for image, field in zip(images[..., 0], heatmaps, strict=True):
            y, x = np.unravel_index(image.argmax(), image.shape)
            field[0, y // 8, x // 8] = image[y, x] > 200
        return heatmaps, np.zeros((count, COCO18.num_pafs, *heatmaps.shape[2:]), np.float32)


def predict(out, files, network=None, **options):
    config = PredictConfig(images=tuple(files), checkpoint=out, out=out, **{"inference": InferConfig(size_step_px=1), **options})
    return predict_command.predict(config, predict_command.list_files(files), network or SpotNetwork())


def read(path):
    return json.loads(path.read_text())


def moving_spot(path, count=12):
    with VideoWriter(path, 10.0) as writer:
        for number in range(count):
            frame = np.zeros((128, 128, 3), np.uint8)
            frame[56:72, 8 * number + 8 : 8 * number + 24] = 255
            writer.write(frame)
    return path


@pytest.mark.parametrize("batch_size", [1, 4])
def test_frames_of_a_video_are_annotated_in_order(tmp_path, batch_size):
    video = moving_spot(tmp_path / "dance.mp4")
    assert predict(tmp_path / "out", [video], batch_size=batch_size, draw_min_score=0.1, openpose_json=True) == 0
    images, results = read(tmp_path / "out" / "images.json"), read(tmp_path / "out" / "results.json")
    assert [image["frame"] for image in images] == list(range(12)) and [entry["image_id"] for entry in results] == list(
        range(1, 13)
    )
    places = [entry["keypoints"][0] for entry in results]
    assert all(abs(x - (8 * number + 16)) < 9 for number, x in enumerate(places)) and places == sorted(places)
    annotated = Video(tmp_path / "out" / "dance.mp4")
    assert annotated.num_stated == 12 and annotated.fps == pytest.approx(10)
    assert len({frame.tobytes() for frame in annotated.frames()}) == 12
    files = sorted(file.name for file in (tmp_path / "out" / "openpose").iterdir())
    assert files == [f"dance_{number:012d}_keypoints.json" for number in range(12)]


def test_images_videos_and_folders_can_be_mixed(tmp_path, capsys):
    _, images = write_set(tmp_path)
    write_video(images / "b.mp4", [10, 20])
    (images / "broken.avi").write_bytes(b"not a video")
    cv2.imwrite(str(tmp_path / "odd.png"), np.zeros((33, 47, 3), np.uint8))
    assert predict(tmp_path / "out", [tmp_path / "odd.png", images]) == 1
    listed = read(tmp_path / "out" / "images.json")
    assert [entry["drawing"] for entry in listed] == ["odd.jpg", "a.jpg", "b.mp4", "b.mp4", "b-2.jpg", "c.jpg"]
    assert all((tmp_path / "out" / entry["drawing"]).is_file() for entry in listed)
    assert [entry["id"] for entry in listed] == sorted({entry["id"] for entry in listed})
    error = capsys.readouterr().err
    assert "broken.avi: not a video that OpenCV can decode" in error and "1 image could not be read (skipped)" in error


def test_frames_with_odd_sides_are_not_cropped(tmp_path):
    [frame] = Video(write_video(tmp_path / "v.mp4", [90])).frames()
    assert frame.shape == (122, 162, 3) and abs(float(frame.mean()) - 90) < 3


@pytest.mark.parametrize("content", [None, b"", b"text"])
def test_files_that_are_not_videos_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(UnreadableImage, match="no such file" if content is None else "not a video"):
        Video(tmp_path / "v.mp4")


def test_openpose_json_has_the_layout_of_openpose(tmp_path):
    """The values are computed by hand; the layout is that of the example in OpenPose's doc/02_output.md."""
    keypoints = np.zeros((2, 18, 3), np.float32)
    keypoints[0, COCO18.index("nose")] = 10.5, 20.25, 0.75
    keypoints[0, COCO18.index("left_ear")] = 30, 40, 0.5
    keypoints[1, COCO18.index("right_wrist")] = 1, 2, 0.25
    openpose_json.write(tmp_path, "a", None, People(keypoints=keypoints, scores=np.array([2, 1], np.float32)))
    document = read(tmp_path / "a_keypoints.json")
    assert set(document) == {"version", "people"} and document["version"] == 1.3
    first, second = document["people"]
    assert first["pose_keypoints_2d"] == [10.5, 20.25, 0.75] + [0] * 48 + [30, 40, 0.5]
    assert second["pose_keypoints_2d"][3 * OPENPOSE_COCO.index("RWrist") :][:3] == [1, 2, 0.25]
    assert first["person_id"] == [-1]
    assert all(first[name] == [] for name in ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d",
                                              "pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d",
                                              "hand_right_keypoints_3d"))  # fmt: skip


def test_joints_are_in_the_order_of_openpose():
    short = [joint.replace("right_", "R").replace("left_", "L").title().replace("_", "") for joint in COCO18.joints]
    assert [name.lower() for name in short] == [name.lower() for name in OPENPOSE_COCO]


def test_openpose_json_and_results_contain_the_same_keypoints(tmp_path):
    annotations, images = write_set(tmp_path)
    options = {"openpose_json": True, "decoding": DecodeConfig()}
    assert predict(tmp_path / "out", [images], PerfectNetwork(annotations), **options) == 0
    results = read(tmp_path / "out" / "results.json")
    for image_id, name in ((1, "a"), (2, "b"), (3, "c")):
        people = read(tmp_path / "out" / "openpose" / f"{name}_keypoints.json")["people"]
        entries = [entry for entry in results if entry["image_id"] == image_id]
        assert len(people) == len(entries)
        for person, entry in zip(people, entries, strict=True):
            ours = np.reshape(person["pose_keypoints_2d"], (18, 3))
            theirs = np.reshape(entry["keypoints"], (17, 3))
            found = theirs[:, 2] > 0
            np.testing.assert_allclose(ours[COCO18.source_indices][found, :2], theirs[found, :2], atol=0.01)


def test_few_frames_of_a_long_video_are_in_memory():
    taken = []
    frames = prefetch((taken.append(i) or i for i in range(1000)), 4)
    for expected in range(20):
        assert next(frames) == expected
    assert len(taken) <= 20 + 4 + 1
    frames.close()
    assert list(prefetch(iter(range(50)), 3)) == list(range(50)) and list(prefetch(iter(()), 2)) == []
