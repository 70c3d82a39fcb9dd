"""`predict` on videos: frames, identities, sound, drawings, table and COCO video file."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pyarrow.parquet
import pytest
from evaluator_data import PerfectNetwork, person, write_annotations, write_set
from pipeline_data import tree

from evaluator.predict import predict as predict_command
from evaluator.predict.config import DrawConfig, PredictConfig, VideoConfig
from evaluator.predict.encoding import Sound, VideoWriter, find_ffmpeg
from evaluator.predict.listing import list_sources
from evaluator.predict.prediction import to_prediction
from evaluator.predict.styles import draw_styled
from evaluator.predict.tables import angle_degrees, limb_angles
from evaluator.predict.video import Video
from pipeline import skeletons
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.images import UnreadableImage
from pipeline.skeletons import COCO18, read_skeleton
from pipeline.tolerance import Tolerance

BODY25 = read_skeleton(Path(skeletons.__file__).with_name("body25.yaml"))
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*words):
    return subprocess.run([FFMPEG, "-hide_banner", "-y", *map(str, words)], capture_output=True, text=True, check=False).stderr


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A video of 20 frames, 10 per second, 160 x 120: frame n has the gray level 10 n and a white spot at the upper left; with sound."""
    folder = tmp_path_factory.mktemp("video")
    with VideoWriter(folder / "silent.mp4", 10.0, FFMPEG) as writer:
        for number in range(20):
            frame = np.full((120, 160, 3), 10 * number, np.uint8)
            frame[:20, :20] = 255
            writer.write(frame)
    sound = ("-f", "lavfi", "-i", "sine=frequency=440:duration=2")
    ffmpeg("-i", folder / "silent.mp4", *sound, "-c:v", "copy", "-c:a", "aac", folder / "loud.mp4")
    return folder / "loud.mp4"


def frames_of(path, **options):
    return list(Video(path, VideoConfig(**options)).frames())


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, range(20)),
        ({"frames": "5:9"}, range(5, 9)),
        ({"frames": "17:"}, range(17, 20)),
        ({"frames": ":8", "step": 3}, (0, 3, 6)),
    ],
)
def test_the_frames_that_are_asked_for_are_read(numbered, options, numbers):
    found = frames_of(numbered, **options)
    assert [number for number, _ in found] == list(numbers)
    assert all(abs(frame[60, 80].mean() - 10 * number) < 6 for number, frame in found)
    assert Video(numbered, VideoConfig(**options)).num_stated == len(found)


@pytest.mark.parametrize(("angle", "corner"), [(0, (10, 10)), (90, (10, -10)), (180, (-10, -10)), (270, (-10, 10))])
def test_frames_are_turned_clockwise(numbered, angle, corner):
    [(_, frame)] = frames_of(numbered, frames="0:1", rotate=angle)
    assert frame.shape[:2] == ((120, 160) if angle % 180 == 0 else (160, 120))
    assert frame[corner].mean() > 200 and frame[60, 60].mean() < 30


def test_the_rotation_that_a_file_states_is_respected(numbered, tmp_path):
    """Phones store landscape frames and a rotation."""
    ffmpeg("-display_rotation", 90, "-i", numbered, "-c", "copy", tmp_path / "phone.mp4")
    [(_, frame)] = frames_of(tmp_path / "phone.mp4", frames="0:1")
    assert frame.shape[:2] == (160, 120)
    assert frame[-10, 10].mean() > 200, "ffmpeg's angle is counterclockwise"


def test_a_range_without_frames_is_named(numbered):
    with pytest.raises(UnreadableImage, match="has 20 frames, none of --frames 30:40"):
        Video(numbered, VideoConfig(frames="30:40"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("frames", "5"), ("frames", "9:5"), ("frames", "a:b"), ("frames", "-1:"), ("step", 0), ("speed", 0.0)],
)
def test_wrong_options_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*{value}"):
        VideoConfig(**{name: value})
    with pytest.raises(ValueError, match="needs --track"):
        VideoConfig(track=False, smooth=True)


def duration_s(path):
    text = ffmpeg("-i", path).split("Duration: ")[1].split(",")[0]
    hours, minutes, seconds = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def test_sound_is_kept_and_follows_range_and_speed(numbered, tmp_path):
    for name, sound, seconds in (
        ("whole", Sound(source=numbered), 2.0),
        ("part", Sound(source=numbered, start_s=0.5, end_s=1.5), 1.0),
        ("slow", Sound(source=numbered, speed=0.4), 5.0),
    ):
        with VideoWriter(tmp_path / f"{name}.mp4", 10.0, FFMPEG, sound) as writer:
            for number in range(10):
                writer.write(np.full((120, 160, 3), 9 * number, np.uint8))
        about = ffmpeg("-i", tmp_path / f"{name}.mp4")
        assert "Video: h264" in about and "yuv420p" in about and "Audio: aac" in about
        assert duration_s(tmp_path / f"{name}.mp4") == pytest.approx(seconds, abs=0.2)


def test_a_video_without_sound_and_one_without_ffmpeg(tmp_path, monkeypatch):
    for name, program in (("h264", FFMPEG), ("mpeg4", None)):
        with VideoWriter(tmp_path / f"{name}.mp4", 10.0, program) as writer:
            writer.write(np.zeros((31, 33, 3), np.uint8))
        about = ffmpeg("-i", tmp_path / f"{name}.mp4")
        assert f"Video: {name}" in about and "Audio" not in about and "34x32" in about
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert find_ffmpeg() == FFMPEG
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: (_ for _ in ()).throw(RuntimeError))
    assert find_ffmpeg() is None


def test_the_reason_of_ffmpeg_is_shown(tmp_path):
    writer = VideoWriter(tmp_path / "v.mp4", 10.0, FFMPEG, Sound(source=tmp_path / "absent.mp4"))
    with pytest.raises(UserError, match=r"v\.mp4: ffmpeg cannot write it: .*No such file"), writer:
        for _ in range(200):
            writer.write(np.zeros((120, 160, 3), np.uint8))


class WalkNetwork(PerfectNetwork):
    """Recognizes frames by their gray level: one person walks to the right, another one to the left."""

    def __init__(self, folder, num_frames):
        images = {n + 1: (f"{n}.png", 480, 300) for n in range(num_frames)}
        people = [(n + 1, person(100 + 12 * n, 40)) for n in range(num_frames)]
        people += [(n + 1, person(380 - 12 * n, 45, 0.9)) for n in range(num_frames)]
        super().__init__(write_annotations(folder / "walk.json", images, people))
        self.fields_by_gray = dict(enumerate(self.fields_by_gray.values()))

    def fields(self, images):
        numbers = np.rint(images[:, 100, 100, 0] / 10).astype(int).tolist()
        grid = images.shape[1] // 8, images.shape[2] // 8
        known = [self.fields_by_gray[number] for number in numbers]
        pads = [[(0, 0), (0, grid[0] - f.heatmaps.shape[1]), (0, grid[1] - f.heatmaps.shape[2])] for f in known]
        return tuple(
            np.stack([np.pad(getattr(f, name), pad) for f, pad in zip(known, pads, strict=True)]) for name in ("heatmaps", "pafs")
        )


NUM_FRAMES = 20


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """A network, and the video of which it knows the frames."""
    folder = tmp_path_factory.mktemp("walk")
    with VideoWriter(folder / "walk.mp4", 10.0, FFMPEG) as writer:
        for number in range(NUM_FRAMES):
            writer.write(np.full((300, 480, 3), 10 * number, np.uint8))
    return WalkNetwork(folder, NUM_FRAMES), folder / "walk.mp4"


def predict(out, file, network, **options):
    config = PredictConfig(images=(file,), checkpoint=file, out=out, tolerance=Tolerance(), **options)
    return predict_command.predict(config, list_sources(config.images), network)


def read(path):
    return json.loads(path.read_text())


def test_people_in_a_video_have_identities_in_all_formats(walk, tmp_path):
    network, video = walk
    out = tmp_path / "out"
    assert predict(out, video, network, openpose_json=True, coco_video=True, table="parquet") == 0
    results = read(out / "results.json")
    assert len(results) == 2 * NUM_FRAMES and {entry["track_id"] for entry in results} == {1, 2}
    last = [read(out / "openpose" / f"walk_{n:012d}_keypoints.json") for n in (0, NUM_FRAMES - 1)]
    assert all(sorted(p["person_id"][0] for p in document["people"]) == [1, 2] for document in last)
    document = CocoFile(out / "videos.json", COCO18)
    assert [image.frame_id for image in document.frames()[1]] == list(range(NUM_FRAMES))
    assert document.videos[1].fps == pytest.approx(10)
    assert {entry.track_id for entries in document.annotations.values() for entry in entries} == {1, 2}
    rows = pyarrow.parquet.read_table(out / "people.parquet").to_pylist()
    noses = {identity: [row["nose_x"] for row in rows if row["person_id"] == identity] for identity in (1, 2)}
    rising = [bool(np.all(np.diff(places) > 6)) for places in noses.values()]
    assert sorted(rising) == [False, True], "each identity walks in one direction"
    assert [row["seconds"] for row in rows[::2]] == pytest.approx([n / 10 for n in range(NUM_FRAMES)])
    assert cv2.VideoCapture(str(out / "walk.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == NUM_FRAMES


def test_frames_step_and_speed_of_the_annotated_video(walk, tmp_path):
    network, video = walk
    options = VideoConfig(frames="4:16", step=3, speed=0.5)
    assert predict(tmp_path / "out", video, network, video=options, table="csv") == 0
    assert [image["frame"] for image in read(tmp_path / "out" / "images.json")] == [4, 7, 10, 13]
    annotated = Video(tmp_path / "out" / "walk.mp4")
    assert annotated.num_stated == 4 and annotated.fps == pytest.approx(10 / 3 * 0.5, rel=1e-3)
    with (tmp_path / "out" / "people.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["4", "4", "7", "7", "10", "10", "13", "13"]


def test_tracking_can_be_switched_off_and_smoothing_on(walk, tmp_path):
    network, video = walk
    predict(tmp_path / "plain", video, network, video=VideoConfig(track=False), table="csv")
    predict(tmp_path / "smooth", video, network, video=VideoConfig(smooth=True), table="csv")
    plain, smooth = (read(tmp_path / name / "results.json") for name in ("plain", "smooth"))
    assert all("track_id" not in entry for entry in plain) and all(entry["track_id"] in (1, 2) for entry in smooth)
    apart = np.abs([np.subtract(a["keypoints"], b["keypoints"]) for a, b in zip(plain, smooth, strict=True)])
    assert 0 < apart.max() < 12, "less than one frame behind"


def test_a_continued_run_writes_the_same_bytes(walk, tmp_path):
    """Identities and smoothing are computed again from the people that were found before."""
    network, video = walk
    options = {"video": VideoConfig(smooth=True), "openpose_json": True, "coco_video": True, "table": "csv"}
    assert predict(tmp_path / "once", video, network, **options) == 0

    class Stopping(WalkNetwork):
        def __init__(self):
            self.calls = 0

        skeleton, insize, stride_px = network.skeleton, network.insize, network.stride_px

        def fields(self, images):
            self.calls += 1
            if self.calls > 9:
                raise KeyboardInterrupt
            return network.fields(images)

    with pytest.raises(KeyboardInterrupt):
        predict(tmp_path / "twice", video, Stopping(), **options)
    assert not (tmp_path / "twice").exists()
    assert predict(tmp_path / "twice", video, network, **options) == 0
    once, twice = (tree(tmp_path / name) for name in ("once", "twice"))
    assert once.keys() == twice.keys()
    assert [name for name in once if once[name] != twice[name] and name != "config.yaml"] == []


@pytest.mark.parametrize("table", ["csv", "parquet"])
def test_table_and_videos_grow_with_the_output(walk, tmp_path, table):
    """As if a command that adds a video had been killed before it wrote the last three lists; then the command again."""
    network, video = walk
    album, out, options = tmp_path / "album", tmp_path / "out", {"table": table, "coco_video": True}
    album.mkdir()
    shutil.copy(video, album / "a.mp4")
    assert predict(out, album, network, **options) == 0
    before = {name: (out / name).read_bytes() for name in ("images.json", "prediction.json")}
    shutil.copy(video, album / "b.mp4")
    assert predict(out, album, network, **options, skip_existing=True) == 0
    for name, data in before.items():
        (out / name).write_bytes(data)
    assert predict(out, album, network, **options, skip_existing=True) == 0
    assert predict(tmp_path / "at-once", album, network, **options) == 0
    assert read(out / "videos.json") == read(tmp_path / "at-once" / "videos.json")
    tables = [folder / f"people.{table}" for folder in (out, tmp_path / "at-once")]
    if table == "csv":
        assert tables[0].read_bytes() == tables[1].read_bytes()
    else:
        assert pyarrow.parquet.read_table(tables[0]).equals(pyarrow.parquet.read_table(tables[1]))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("people.csv", b"file_name,image_id\n", "people.csv: its first line"),
        ("people.csv", None, "people.csv: .*No such file"),
        ("videos.json", b'{"videos": [], "images": [{"id": 1}], "annotations": []}', "videos.json: .*video_id"),
    ],
)
def test_a_damaged_table_or_list_of_videos_is_named_before_files_are_added(walk, tmp_path, name, data, message):
    network, video = walk
    album, out, options = tmp_path / "album", tmp_path / "out", {"table": "csv", "coco_video": True}
    album.mkdir()
    shutil.copy(video, album / "a.mp4")
    assert predict(out, album, network, **options) == 0
    (out / name).unlink() if data is None else (out / name).write_bytes(data)
    shutil.copy(video, album / "b.mp4")
    with pytest.raises(UserError, match=message):
        predict(out, album, network, **options, skip_existing=True)
    assert "b.mp4" not in (out / "images.json").read_text() and not list(out.glob(".unfinished*/videos*"))


def test_people_in_images_have_no_identity(tmp_path):
    annotations, images = write_set(tmp_path)
    network = PerfectNetwork(annotations)
    config = PredictConfig(images=(images,), checkpoint=images, out=tmp_path / "out", table="csv")
    assert predict_command.predict(config, list_sources(config.images), network) == 0
    assert all("track_id" not in entry for entry in read(tmp_path / "out" / "results.json"))
    header, *rows = (tmp_path / "out" / "people.csv").read_text().splitlines()
    assert len(rows) == 4 and header.startswith("file_name,image_id,frame,seconds,person_id,score,x,y,width,height,nose_x")


def test_angles_are_those_between_limbs():
    names = [name for name, *_ in limb_angles(COCO18)]
    assert {"left_elbow_degrees", "right_knee_degrees", "left_hip_degrees", "left_shoulder_to_left_elbow_degrees"} <= set(names)
    assert {"left_ankle_to_left_heel_degrees", "right_hip_degrees"} <= {name for name, *_ in limb_angles(BODY25)}
    keypoints = np.zeros((18, 3), np.float32)
    for joint, place in {"left_shoulder": (0, 0, 1), "left_elbow": (10, 0, 1), "left_wrist": (10, 10, 1)}.items():
        keypoints[COCO18.index(joint)] = place
    [elbow] = [angle for angle in limb_angles(COCO18) if angle[0] == "left_elbow_degrees"]
    assert angle_degrees(keypoints, elbow) == pytest.approx(90)
    keypoints[COCO18.index("left_wrist")] = 20, 0, 1
    assert angle_degrees(keypoints, elbow) == pytest.approx(180)
    keypoints[COCO18.index("left_wrist"), 2] = 0
    assert angle_degrees(keypoints, elbow) is None


def drawing(image, identity=None, **options):
    from evaluator.decoding import People
    from evaluator.decoding.scores import SelectConfig, score_map
    from pipeline.datasets.selection import add_derived_joints

    keypoints = add_derived_joints(person(160, 60)[None], COCO18, one_is_enough=True)
    people = People(keypoints=keypoints, scores=np.array([9.0], np.float32))
    prediction = to_prediction(people, (320, 340), COCO18, score_map(COCO18))
    if identity:
        object.__setattr__(prediction.people[0], "identity", identity)
    return draw_styled(image, prediction, SelectConfig(), DrawConfig(**options))


def test_drawing_options():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (340, 320, 3), np.uint8)
    plain, before = drawing(image), image.copy()
    assert (image == before).all() and plain.shape == image.shape
    black = drawing(image, background="black")
    assert (black[200:, :60] == 0).mean() > 0.9 and (black != 0).any(axis=2).sum() > 500
    thick = drawing(image, background="black", thickness_px=9)
    assert (thick != 0).any(axis=2).sum() > 1.5 * (black != 0).any(axis=2).sum()
    for options in ({"identity": 12}, {"joint_names": True}):
        assert (drawing(image, background="black", **options) != black).any()
    assert (drawing(image, identity=12, draw_ids=False, background="black") == black).all()
    blurred = drawing(image, blur_faces=True)
    face = (slice(52, 56), slice(168, 172))
    assert (blurred[40:50, 135:142] != plain[40:50, 135:142]).any() and (blurred[250:] == plain[250:]).all(), face


def test_left_and_right_have_colors_of_their_own():
    for skeleton in (COCO18, BODY25):
        for joint, (red, _, blue) in zip(skeleton.joints, skeleton.joint_colors, strict=True):
            assert {"left": blue > red, "right": red > blue, "middle": True}[skeleton.side(joint)], joint
        assert len(set(skeleton.joint_colors)) == skeleton.num_joints
