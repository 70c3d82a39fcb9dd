"""The command `predict`: videos, OpenPose's JSON format, bounded memory."""

import contextlib
import errno
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluator_data import PerfectNetwork, write_set
from job_data import NoiseNetwork, write_images
from pipeline_data import tree
from volumes import mounted

from evaluator.decoding import People
from evaluator.decoding.scores import SelectConfig
from evaluator.inference.config import InferConfig
from evaluator.inference.decoder_options import DecodeOptions
from evaluator.inference.streaming import prefetch
from evaluator.jobs.partial import Unfinished
from evaluator.predict import openpose_json
from evaluator.predict import predict as predict_command
from evaluator.predict.config import PredictConfig
from evaluator.predict.encoding import VideoWriter
from evaluator.predict.listing import is_video, list_sources
from evaluator.predict.names import output_names
from evaluator.predict.video import Video
from pipeline.errors import UserError
from pipeline.images import UnreadableImage
from pipeline.skeletons import COCO18
from pipeline.tolerance import Tolerance

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


EVERYBODY = SelectConfig(min_score=0)


def predict(out, files, network=None, **options):
    options = {"inference": InferConfig(size_step_px=1), "select": EVERYBODY, **options}
    config = PredictConfig(images=tuple(files), checkpoint=out, out=out, **options)
    return predict_command.predict(config, list_sources(files), network or SpotNetwork())


def read(path):
    return json.loads(path.read_text())


def moving_spot(path, count=12):
    with VideoWriter(path, 10.0) as writer:
        for number in range(count):
            frame = np.zeros((128, 128, 3), np.uint8)
            frame[56:72, 8 * number + 8 : 8 * number + 24] = 255
            writer.write(frame)
    return path


def noise_video(path, count):
    with VideoWriter(path, 10.0) as writer:
        for _ in range(count):
            writer.write(np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize("batch_size", [1, 4])
def test_frames_of_a_video_are_annotated_in_order(tmp_path, batch_size):
    video = moving_spot(tmp_path / "dance.mp4")
    assert predict(tmp_path / "out", [video], batch_size=batch_size, openpose_json=True) == 0
    images, results = read(tmp_path / "out" / "images.json"), read(tmp_path / "out" / "results.json")
    assert [image["frame"] for image in images] == list(range(12)) and [entry["image_id"] for entry in results] == list(
        range(1, 13)
    )
    places = [entry["keypoints"][0] for entry in results]
    assert all(abs(x - (8 * number + 16)) < 9 for number, x in enumerate(places)) and places == sorted(places)
    annotated = Video(tmp_path / "out" / "dance.mp4")
    assert annotated.num_stated == 12 and annotated.fps == pytest.approx(10)
    assert len({frame.tobytes() for _, frame in annotated.frames()}) == 12
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
    [(_, frame)] = Video(write_video(tmp_path / "v.mp4", [90])).frames()
    assert frame.shape == (122, 162, 3) and abs(float(frame.mean()) - 90) < 3


@pytest.mark.parametrize("content", [None, b"", b"text"])
def test_files_that_are_not_videos_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "v.mp4").write_bytes(content)
    with pytest.raises(UnreadableImage, match="No such file" if content is None else "not a video"):
        Video(tmp_path / "v.mp4")


def test_openpose_json_has_the_layout_of_openpose(tmp_path):
    """The values are computed by hand; the layout is that of the example in OpenPose's doc/02_output.md."""
    keypoints = np.zeros((2, 18, 3), np.float32)
    keypoints[0, COCO18.index("nose")] = 10.5, 20.25, 0.75
    keypoints[0, COCO18.index("left_ear")] = 30, 40, 0.5
    keypoints[1, COCO18.index("right_wrist")] = 1, 2, 0.25
    openpose_json.write(tmp_path, "a", None, json.dumps(openpose_json.to_document(keypoints, [None, 7])))
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
    options = {"openpose_json": True, "decoding": DecodeOptions(num_samples=8)}
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


def names_of(*files, folder):
    return output_names([Path(name) for name in files], [is_video(Path(name)) for name in files], folder)


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (("a/x.jpg", "b/x.png", "c/x.mp4"), ("x", "x-2", "x-3")),
        (("x.jpg", "X.jpg", "x-2.jpg"), ("x", "X-2", "x-2-2")),
        (("é.jpg", "e\u0301.jpg"), ("é", "e\u0301-2")),  # one letter, composed in two ways: the same name on macOS
        (("dance.avi", "dance_000000000000.jpg"), ("dance", "dance_000000000000-2")),
        (("dance_000000000007.jpg", "Dance.avi", "dance.avi"), ("dance_000000000007", "Dance-2", "dance-3")),
        (("dance.jpg", "dance_000000000000.jpg", "b.avi"), ("dance", "dance_000000000000", "b")),
        (("a\nb.jpg", "a\x1bb.jpg"), ("a_b", "a_b-2")),
    ],
)
def test_outputs_have_different_names(tmp_path, files, names):
    assert names_of(*files, folder=tmp_path) == list(names)


def test_long_names_are_shortened_between_letters(tmp_path):
    names = names_of(f"{'n' * 250}1.jpg", f"{'n' * 250}2.jpg", f"{'ü' * 125}.png", folder=tmp_path)
    assert len(set(names)) == 3 and names[1].endswith("-2") and set(names[2]) == {"ü"}
    for name in names:
        (tmp_path / f"{name}_{10**12 - 1}_keypoints.json").touch()


def test_ten_thousand_files_of_one_name_are_named_quickly(tmp_path):
    names = names_of(*(f"{number}/x.jpg" for number in range(10_000)), folder=tmp_path)
    assert len(set(names)) == 10_000 and names[-1] == "x-10000"


def test_names_that_the_file_system_does_not_accept_are_refused_before_the_work(tmp_path, monkeypatch):
    def touch(self):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(UserError, match=r"image who\?\.jpg: the file system of --out does not accept this name \(Invalid arg"):
        names_of("who?.jpg", folder=tmp_path)
    assert names_of("who.jpg", folder=tmp_path) == ["who"]


def test_inputs_of_one_name_lose_nothing(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    moving_spot(folder / "dance.mp4", count=2).rename(folder / "dance.avi")
    for name in ("dance_000000000000.jpg", "dance_000000000001.png", f"{'n' * 250}.jpg", "Dance.jpg"):
        cv2.imwrite(str(folder / name), np.zeros((64, 64, 3), np.uint8))
    assert predict(tmp_path / "out", [folder], openpose_json=True) == 0
    images = read(tmp_path / "out" / "images.json")
    documents = {entry["openpose_json"] for entry in images}
    assert len(documents) == len(images) == 6
    assert documents == {path.name for path in (tmp_path / "out" / "openpose").iterdir()}
    assert {entry["drawing"] for entry in images} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_what_is_no_image_file_is_skipped_and_listed(tmp_path, capsys):
    """A pipe without a writer would block its reader for ever."""
    _, images = write_set(tmp_path)
    os.mkfifo(images / "pipe.jpg")
    os.mkfifo(images / "pipe.mp4")
    (images / "folder.jpg").mkdir()
    (images / "gone.png").symlink_to("nowhere")
    (images / "zero.jpg").symlink_to("/dev/zero")
    socket.socket(socket.AF_UNIX).bind(str(images / "socket.avi"))
    Path(os.fsdecode(os.fsencode(images) + b"/\xff.jpg")).write_bytes(b"x")
    (images / "two\nlines.jpg").write_bytes(b"text")
    good, encoded = images / "half.jpg", cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (99, 99, 3)))[1].tobytes()
    good.write_bytes(encoded[: len(encoded) // 2] + b"\xff\xd9")
    assert predict(tmp_path / "out", [images]) == 1
    skipped = {Path(entry["file_name"]).name: entry["reason"] for entry in read(tmp_path / "out" / "skipped.json")}
    special = "is a pipe, socket or device, not a file"
    assert all(skipped.pop(name) == special for name in ("pipe.jpg", "pipe.mp4", "zero.jpg", "socket.avi"))
    assert skipped.pop("folder.jpg") == "is a folder, not a file" and skipped.pop("gone.png") == "No such file or directory"
    assert skipped.pop("\\udcff.jpg") == "its name is not UTF-8; rename the file"
    assert skipped.keys() == {"half.jpg", "two\\nlines.jpg"}
    assert len(read(tmp_path / "out" / "images.json")) == 3
    error = capsys.readouterr().err
    assert (
        "9 images could not be read (skipped)" in error
        and "9 of 12 images are unreadable, more than --max-unreadable 0.01" in error
    )
    assert predict(tmp_path / "all", [images], tolerance=Tolerance(max_unreadable=0.75)) == 0


def test_frames_that_cannot_be_decoded_count_as_unreadable_images(tmp_path, capsys):
    video = noise_video(tmp_path / "dance.avi", 40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    stated = Video(video).num_stated
    assert predict(tmp_path / "out", [video]) == 1
    num_read = len(read(tmp_path / "out" / "images.json"))
    [entry] = read(tmp_path / "out" / "skipped.json")
    assert 0 < num_read < stated and entry["reason"] == f"only {num_read} of {stated} frames can be decoded"
    assert f"{stated - num_read} of {stated} images are unreadable" in capsys.readouterr().err


@pytest.mark.parametrize("has_ffmpeg", [True, False])
def test_a_video_that_does_not_fit_on_the_disk_is_an_error(tmp_path, monkeypatch, has_ffmpeg):
    """OpenCV ignores that."""
    if not has_ffmpeg:
        monkeypatch.setattr(predict_command, "find_ffmpeg", lambda: None)
    video = noise_video(tmp_path / "noise.mp4", 20)
    with (
        mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=60k", "none") as small,
        pytest.raises(UserError, match=r"video noise.mp4: .*; free space|cannot be written: No space left") as error,
    ):
        predict(small / "out", [video])
    assert "free space" in str(error.value)


class Killed(BaseException):
    """Ends a command as a signal would, without its cleaning up being asked for."""


def outputs(folder):
    return {name: data for name, data in tree(folder).items() if name != "config.yaml"}  # which contains --out


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_stopped_prediction_continues_to_the_same_bytes(tmp_path, batch_size):
    """Batches are whole, so an image that is computed again has the same neighbors."""
    _, images = write_images(tmp_path, count=7)
    moving_spot(images / "5b.mp4", count=8)
    (images / "6.png").write_bytes(b"text")
    options = {"openpose_json": True, "batch_size": batch_size, "tolerance": Tolerance(max_unreadable=0.5)}
    assert predict(tmp_path / "whole", [images], NoiseNetwork(), **options) == 0
    out, num_calls = tmp_path / "out", 0
    for stop_after in (6, 3, 0, 100):
        network = NoiseNetwork()
        compute = network.fields

        def fields(batch, network=network, compute=compute, stop_after=stop_after):
            if len(network.shapes) == stop_after:
                raise Killed
            return compute(batch)

        network.fields = fields
        with contextlib.suppress(Killed):
            assert predict(out, [images], network, **options) == 0
        num_calls += len(network.shapes)
        assert out.exists() == (stop_after == 100) and (tmp_path / "out.unfinished").exists() == (stop_after < 100)
    assert outputs(out) == outputs(tmp_path / "whole")
    whole = NoiseNetwork()
    predict(tmp_path / "again", [images], whole, **options)
    assert num_calls <= len(whole.shapes) + 4 * 5, "what was found is not computed again"


def test_an_unfinished_prediction_of_other_inputs_is_refused(tmp_path):
    _, images = write_images(tmp_path, count=3)
    network = NoiseNetwork()
    network.fields = None
    files = sorted(images.iterdir())
    work = Unfinished(tmp_path / "out", {"command": "predict"}, 18)
    with work:
        work.append({1: People(keypoints=np.zeros((0, 18, 3), np.float32), scores=np.zeros(0, np.float32))})
    with pytest.raises(UserError, match="started with other inputs or settings"):
        predict(tmp_path / "out", files, NoiseNetwork())


def test_a_finished_prediction_is_not_repeated_and_others_are_refused(tmp_path, capsys):
    """A command that was killed after it completed its output, too."""
    _, images = write_images(tmp_path, count=3)
    (images / "bad.png").touch()
    assert predict(tmp_path / "out", [images], NoiseNetwork()) == 1
    before, work = tree(tmp_path / "out"), tmp_path / "out.unfinished"
    work.mkdir()
    unused = NoiseNetwork()
    for share, code in ((0.01, 1), (0.25, 0)):
        assert predict(tmp_path / "out", [images], unused, tolerance=Tolerance(max_unreadable=share)) == code
    said = capsys.readouterr()
    assert "already complete" in said.out and said.err.count("bad.png: the file is empty") >= 3
    assert tree(tmp_path / "out") == before and not work.exists() and not unused.shapes
    with pytest.raises(UserError, match=r"finished prediction with other inputs or options .*min_score: 0 before, 0.5 now"):
        predict(tmp_path / "out", [images], unused, select=SelectConfig())


PREDICT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from job_data import NoiseNetwork
from evaluator.predict import predict
from evaluator.predict.config import PredictConfig
from evaluator.predict.listing import list_sources
files = list_sources([Path(sys.argv[2])])
config = PredictConfig(images=(Path(sys.argv[2]),), checkpoint=Path("c"), out=Path(sys.argv[3]), openpose_json=True)
sys.exit(predict.predict(config, files, NoiseNetwork(delay_s=0.02)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("exists", [pytest.param(False, marks=pytest.mark.long), True])
def test_a_prediction_killed_at_random_moments_writes_the_same_bytes(tmp_path, exists):
    _, images = write_images(tmp_path, count=20)
    moving_spot(images / "5b.mp4", count=30)
    command = [sys.executable, "-c", PREDICT, str(Path(__file__).parents[1] / "support"), str(images)]
    assert subprocess.run([*command, str(tmp_path / "whole")]).returncode == 0
    out, rng, num_kills = tmp_path / "out", random.Random(0), 0
    if exists:
        out.mkdir()
    for _ in range(12):
        process = subprocess.Popen([*command, str(out)])
        while process.poll() is None and not list(tmp_path.glob("**/people.jsonl")):
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.wait(rng.uniform(0.02, 0.8)) == 0
            break
        process.kill()
        process.wait()
        num_kills += 1
    else:
        assert subprocess.run([*command, str(out)]).returncode == 0
    assert num_kills > 1 and outputs(out) == outputs(tmp_path / "whole")
    assert not list(tmp_path.glob("**/.unfinished*")) and not list(tmp_path.glob("*.unfinished"))


def test_drawings_and_files_have_the_people_that_the_options_choose(tmp_path, capsys):
    annotations, images = write_set(tmp_path)
    network = PerfectNetwork(annotations)
    counts, drawings = {}, {}
    for name, options in {
        "default": SelectConfig(),
        "strict": SelectConfig(min_score=0.902),
        "single": SelectConfig(max_people=1),
        "complete": SelectConfig(min_joints=19),
    }.items():
        out = tmp_path / name
        assert predict(out, [images], network, select=options, inference=InferConfig(), openpose_json=True) == 0
        results = read(out / "results.json")
        counts[name] = len(results)
        assert all(options.min_score <= entry["score"] < 1 for entry in results)
        documents = [read(file) for file in (out / "openpose").iterdir()]
        assert sum(len(document["people"]) for document in documents) == counts[name]
        drawings[name] = (out / "a.jpg").read_bytes()
        assert f"{counts[name]} people" in capsys.readouterr().out or counts[name] == 1
    assert counts["default"] == 4 and counts["single"] == 2 and counts["complete"] == 0 and 0 < counts["strict"] < 4
    assert drawings["single"] != drawings["default"] != drawings["complete"]
    first = read(tmp_path / "default" / "results.json")[0]
    assert first["score"] == pytest.approx(first["raw_score"] / (first["raw_score"] + 3.7))
    assert len(first["confidences"]) == 17 and min(first["confidences"]) > 0.7
