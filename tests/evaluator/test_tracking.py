"""Identities over frames: crossing and hidden people, confirmation, scores; the One-Euro filter; metrics by hand and by a library."""

import json

import numpy as np
import pytest
from evaluator_data import person, write_annotations

from evaluator.__main__ import COMMANDS
from evaluator.ceiling.oracle import perfect_fields
from evaluator.decoding import People
from evaluator.inference.sizes import input_size
from evaluator.metrics.mot import count_crossings, score_identities
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.sequences import track
from evaluator.tracking.smoothing import BETA, MIN_CUTOFF_HZ, SPEED_CUTOFF_HZ, Smoother
from evaluator.tracking.tracker import Tracker
from evaluator.tracking.tracks import UNTRACKED
from pipeline.cli import main
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import add_derived_joints, true_keypoints
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import COCO18

FPS = 25.0


def people(*places, scores=None):
    """Return people, each with the nose at x, y, and if given with a scale, and without some joints."""
    points = [person(*place) for place in places]
    keypoints = add_derived_joints(np.array(points).reshape(-1, 17, 3), COCO18, one_is_enough=True)
    keypoints[..., 2] *= 0.2  # confidences of a weak network
    return People(keypoints=keypoints, scores=np.array(scores or [30.0] * len(points), np.float32))


def follow(frames, **options):
    tracker = Tracker(COCO18, FPS, TrackConfig(**options))
    return [tracker.update(frame).tolist() for frame in frames]


def test_people_who_pass_each_other_keep_their_identities():
    """They meet at the same place; only their motion tells who is who. The order in each frame is random."""
    rng = np.random.default_rng(0)
    tracker, seen = Tracker(COCO18, FPS), []
    for frame in range(60):
        places = [(100 + 6 * frame, 100), (454 - 6 * frame, 106, 0.95)]
        order = rng.permutation(2)
        identities = tracker.update(people(*(places[i] for i in order)))
        seen.append(identities[np.argsort(order)].tolist())
    assert set(map(tuple, seen)) == {(1, 2)}


def test_a_hidden_person_gets_the_same_identity_again_within_the_limit():
    def walk(num_hidden):
        return [people((50 + 5 * n, 80)) if not 20 <= n < 20 + num_hidden else people() for n in range(100)]

    assert {i for frame in follow(walk(40)) for i in frame} == {1}
    after = follow(walk(40), max_lost_s=1.0)
    assert {i for frame in after[:20] for i in frame} == {1} and {i for frame in after[62:] for i in frame} == {2}


def test_identities_are_never_used_again():
    frames = [people((100, 100))] * 5 + [people()] * 60 + [people((100, 100))] * 5 + [people()] * 60 + [people((300, 100))] * 5
    given = [i for frame in follow(frames) for i in frame if i != UNTRACKED]
    assert sorted(set(given)) == [1, 2, 3] and given == sorted(given)


def test_new_people_are_confirmed_and_low_scores_start_nothing():
    first, second = people((100, 100)), people((100, 100), (400, 100))
    assert follow([first, second, second, second]) == [[1], [1, UNTRACKED], [1, 2], [1, 2]]
    assert follow([first, second, first, second, second], confirm_frames=2)[3:] == [[1, UNTRACKED], [1, 2]]
    weak = people((100, 100), (400, 100), scores=[30.0, 0.5])
    assert follow([first, weak, weak, weak])[-1] == [1, UNTRACKED]
    assert follow([people((100, 100), scores=[30.0]), people((103, 100), scores=[0.5])]) == [[1], [1]]


def test_a_person_who_appears_far_away_is_somebody_else():
    assert follow([people((100, 100))] * 3 + [people((400, 100))] * 3) == [[1]] * 3 + [[UNTRACKED], [2], [2]]


def test_half_hidden_people_are_followed():
    legs = ("left_knee", "right_knee", "left_ankle", "right_ankle", "left_hip", "right_hip")
    frames = [people((100 + 4 * n, 100, 1.0, legs if n % 3 else ())) for n in range(30)]
    assert {i for frame in follow(frames) for i in frame} == {1}


def test_equal_frames_give_equal_identities():
    """So that a continued run, which feeds the same people again, writes the same bytes."""
    rng = np.random.default_rng(3)
    frames = [people(*((*rng.uniform(50, 500, 2), rng.uniform(0.3, 1.5)) for _ in range(4))) for _ in range(40)]
    assert follow(frames) == follow(frames)


def test_one_euro_filter_follows_its_equations():
    """Two frames by hand, for one joint that moves 10 pixels in a person of 100 pixels: Casiez et al., equations 1 to 7 and 9."""
    keypoints = np.zeros((1, 18, 3), np.float32)
    keypoints[0, :2] = (0, 0, 1), (0, 100, 1)
    smoother = Smoother(FPS)
    first = smoother.update(keypoints, np.array([1]))
    moved = keypoints.copy()
    moved[0, 0, 0] = 10
    second = smoother.update(moved, np.array([1]))
    assert (first == keypoints).all()

    def alpha(cutoff):
        return 1 / (1 + FPS / (2 * np.pi * cutoff))

    speed = alpha(SPEED_CUTOFF_HZ) * 10 * FPS / 100
    expected = alpha(MIN_CUTOFF_HZ + BETA * speed) * 10
    assert second[0, 0, 0] == pytest.approx(expected, rel=1e-5) and 0 < expected < 10
    assert (second[0, 1] == (0, 100, 1)).all() and (second[0, 2:] == 0).all()


def test_frames_that_were_left_out_count_as_time():
    """Every second frame is smoothed like all frames of a video at half the rate."""
    rng = np.random.default_rng(0)
    frames = [people((50 + 8 * frame, 300)).keypoints + rng.normal(0, 1, (1, 18, 3)) * (1, 1, 0) for frame in range(10)]
    dropping, slow = Smoother(FPS), Smoother(FPS / 2)
    for keypoints in frames:
        found = dropping.update(keypoints.astype(np.float32), np.array([1]), num_frames=2)
        np.testing.assert_array_equal(found, slow.update(keypoints.astype(np.float32), np.array([1])))
    assert np.abs(found - frames[-1]).max() > 0.1


def test_smoothing_removes_jitter_and_follows_motion():
    rng = np.random.default_rng(0)
    smoother, still, moving = Smoother(FPS), [], []
    for frame in range(100):
        both = people((100, 100), (50 + 8 * frame, 300)).keypoints
        both[..., :2] += rng.normal(0, 2, both[..., :2].shape)
        smooth = smoother.update(both, np.array([1, 2]))
        still.append(smooth[0, :, :2] - people((100, 100)).keypoints[0, :, :2])
        moving.append(smooth[1, :, :2] - people((50 + 8 * frame, 300)).keypoints[0, :, :2])
    assert np.std(still[20:]) < 1.2, "noise of 2 pixels"
    assert np.abs(np.mean(moving[20:])) < 4, "half a frame behind"
    unknown = people((1, 1)).keypoints
    assert (smoother.update(unknown, np.array([UNTRACKED])) == unknown).all()


def write_videos(path, frames, others=()):
    """Write annotations of one video: for each frame, people as (track_id, x, y). others: changes of the document."""
    images = {n + 1: (f"{n}.jpg", 640, 480) for n in range(len(frames))}
    write_annotations(path, images, [(n + 1, person(x, y)) for n, frame in enumerate(frames) for _, x, y in frame])
    document = json.loads(path.read_text())
    document["videos"] = [{"id": 5, "name": "street", "fps": FPS}]
    for image in document["images"]:
        image |= {"video_id": 5, "frame_id": image["id"] - 1}
    identities = [identity for frame in frames for identity, _, _ in frame]
    for annotation, identity in zip(document["annotations"], identities, strict=True):
        annotation["track_id"] = identity
    for change in others:
        change(document)
    path.write_text(json.dumps(document))
    return path


FRAMES = [[(70, 100.0 + 5 * n, 90.0), (80, 500.0 - 5 * n, 90.0)] for n in range(10)]


def scores_of(tmp_path, identities):
    document = CocoFile(write_videos(tmp_path / "a.json", FRAMES), COCO18)
    found = {n + 1: people(*((x, y) for _, x, y in frame)) for n, frame in enumerate(FRAMES)}
    return score_identities(document, found, {n + 1: np.array(own) for n, own in enumerate(identities)}, COCO18)


def test_scores_are_those_computed_by_hand(tmp_path):
    """20 people in 10 frames. An exchange after 6 frames: two switches, MOTA 1 - 2/20, IDF1 2·12/(20 + 20)."""
    perfect = scores_of(tmp_path, [[1, 2]] * 10)["all"]
    assert (perfect["MOTA"], perfect["IDF1"], perfect["switches"], perfect["people"]) == (1, 1, 0, 20)
    swapped = scores_of(tmp_path, [[1, 2]] * 6 + [[2, 1]] * 4)
    assert swapped["street"] == swapped["all"]
    assert swapped["all"]["switches"] == 2
    assert swapped["all"]["MOTA"] == pytest.approx(0.9) and swapped["all"]["IDF1"] == pytest.approx(0.6)
    missed = scores_of(tmp_path, [[1, 2]] * 5 + [[1, UNTRACKED]] * 5)["all"]
    assert missed["misses"] == 5 and missed["MOTA"] == pytest.approx(0.75) and missed["IDF1"] == pytest.approx(30 / 35)


def test_crossings_are_counted():
    def box(x, y=0):
        return np.array([x, y, 10, 100])

    assert count_crossings([{1: box(4 * n), 2: box(41 - 4 * n)} for n in range(12)]) == 1
    assert count_crossings([{1: box(4 * n), 2: box(41 - 4 * n, y=200)} for n in range(12)]) == 0
    hidden = [{1: box(4 * n), **({2: box(41 - 4 * n)} if n not in (4, 5, 6) else {})} for n in range(12)]
    assert count_crossings(hidden) == 1


def test_people_are_followed_through_the_videos_of_a_file(tmp_path):
    """Frames are in the order of frame_id, not of the ids; identities differ between videos."""

    def reverse(document):
        last = len(document["images"]) - 1
        for image in document["images"]:
            image["frame_id"] = last - image["frame_id"]

    document = CocoFile(write_videos(tmp_path / "a.json", FRAMES, [reverse]), COCO18)
    assert [image.id for image in document.frames()[5]] == list(range(10, 0, -1))
    found = {n + 1: people(*((x, y) for _, x, y in frame)) for n, frame in enumerate(FRAMES)}
    assert {tuple(own) for own in track(document, found, COCO18, TrackConfig()).identities.values()} == {(1, 2)}


def oracle(*words):
    return main("evaluator", "", COMMANDS, ["oracle", *map(str, words)])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.pop("videos"), "has no list `videos`"),
        (lambda d: d["images"][3].pop("frame_id"), "image 4: needs video_id and frame_id"),
        (lambda d: d["images"][3].update(frame_id=0), "image 4: frame_id must be unique in its video, got 0"),
        (lambda d: d["images"][3].update(video_id=6), "image 4: video_id must be the id of a video of this file, got 6"),
        (lambda d: d["annotations"][3].update(track_id="x"), "annotation 3: track_id must be an integer, got 'x'"),
        (lambda d: d["annotations"][3].pop("track_id"), "a person of image 2 has no track_id"),
    ],
)
def test_annotations_that_are_not_of_videos_are_refused(tmp_path, capsys, change, reason):
    path = write_videos(tmp_path / "a.json", FRAMES, [change])
    assert oracle("--video", "--annotations", path) == 1
    error = capsys.readouterr().err
    assert str(path) in error and reason in error


def test_fields_of_videos_mean_nothing_in_a_file_without_videos(tmp_path):
    def without(document):
        document.pop("videos")
        document["images"][0]["video_id"] = "a text"
        document["annotations"][0]["track_id"] = [1]

    assert len(CocoFile(write_videos(tmp_path / "a.json", FRAMES, [without]), COCO18).images) == 10


def test_oracle_scores_identities(tmp_path, capsys):
    path = write_videos(tmp_path / "a.json", FRAMES)
    assert oracle("--video", "--annotations", path, "--out", tmp_path / "out") == 0
    assert (
        "identities by motion alone (the clothes need --images), over 1 video: {'MOTA': 1.0, 'IDF1': 1.0, 'switches': 0"
        in capsys.readouterr().out
    )
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["tracking"]["street"]["IDF1"] == 1
    assert {entry["track_id"] for entry in json.loads((tmp_path / "out" / "results.json").read_text())} == {1, 2}


def write_fields(path, annotations):
    """Write the fields of the true keypoints of all images to an .npz file."""
    document, arrays = CocoFile(annotations, COCO18), {}
    sizes = [image.size_wh for image in document.images]
    for image in document.images:
        keypoints = true_keypoints(document.annotations.get(image.id, []), COCO18)
        fields = perfect_fields(keypoints, image.size_wh, COCO18, TargetConfig())
        arrays |= {f"hm_{image.id}": fields.heatmaps, f"paf_{image.id}": fields.pafs}
    ids = [image.id for image in document.images]
    np.savez(path, image_id=ids, orig_wh=sizes, input_wh=[input_size(*size, 368) for size in sizes], **arrays)
    return path


def test_run_and_merge_score_identities(tmp_path, capsys):
    path = write_videos(tmp_path / "a.json", FRAMES)
    fields = write_fields(tmp_path / "fields.npz", path)

    def command(name, *words):
        return main("evaluator", "", COMMANDS, [name, *map(str, words)])

    def figures(out):
        return json.loads((tmp_path / out / "metrics.json").read_text())["tracking"]["all"]

    one = ("run", "--fields", fields, "--annotations", path, "--out", tmp_path / "one")
    assert command(*one, "--video") == 0 and figures("one")["IDF1"] == 1
    first = capsys.readouterr().out
    assert command(*one, "--video") == 0
    again = capsys.readouterr().out
    assert "already complete" in again and again.splitlines()[-1] in first
    assert command(*one) == 1 and "video: True before, False now" in capsys.readouterr().err
    assert command(*one, "--video", "--max-lost-s", 1) == 1 and "max_lost_s: 4.0 before, 1.0 now" in capsys.readouterr().err
    folder = tmp_path / "images"
    folder.mkdir()
    assert command(*one, "--video", "--images", folder) == 1 and "clothes: False before, True now" in capsys.readouterr().err
    unreadable = (*one[:-1], tmp_path / "gray", "--video", "--images", folder, "--pictures", 0)
    assert command(*unreadable) == 0 and figures("gray") == figures("one"), "images that cannot be read tell no colors"
    for number in (1, 2):
        shard = ("--shard", f"{number}/2", "--out", tmp_path / f"part{number}")
        assert command("run", "--fields", fields, "--annotations", path, *shard) == 0
    parts = tmp_path / "part1", tmp_path / "part2"
    assert command("merge", *parts, "--annotations", path, "--out", tmp_path / "merged", "--video") == 0
    assert figures("merged") == figures("one")
    results = [json.loads((tmp_path / out / "results.json").read_text()) for out in ("one", "merged")]
    assert results[0] == results[1] and {entry["track_id"] for entry in results[0]} == {1, 2}


def test_options_of_tracking_need_video(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        oracle("--annotations", tmp_path / "a.json", "--min-oks", "0.5")
    assert stop.value.code == 2 and "need --video" in capsys.readouterr().err
