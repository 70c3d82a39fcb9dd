"""Colors of clothes: their values, who is recognized by them, exchanged joints, and the bar on clips of unseen seeds."""

import json

import cv2
import numpy as np
import pytest
from evaluator_data import person

from evaluator.__main__ import COMMANDS
from evaluator.decoding import People
from evaluator.decoding.scores import score_map
from evaluator.tracking.appearance import Appearance
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.tracker import Tracker
from evaluator.tracking.tracks import UNTRACKED
from pipeline.cli import main
from pipeline.datasets.selection import add_derived_joints
from pipeline.skeletons import COCO18
from pipeline.synthetic import synthesize
from pipeline.synthetic.config import ClipConfig, SynthesizeConfig

FPS = 25.0
RED, BLUE, GREEN = (200, 30, 40), (30, 40, 190), (40, 150, 60)


def people(*places, scores=None):
    """People with the nose at x, y, and if given with a scale, and without some joints."""
    keypoints = add_derived_joints(np.array([person(*place) for place in places]).reshape(-1, 17, 3), COCO18, one_is_enough=True)
    keypoints[..., 2] *= 0.2  # confidences of a weak network
    return People(keypoints=keypoints, scores=np.array(scores or [30.0] * len(places), np.float32))


def picture(found, clothes):
    """Draw people in clothes of one color each, the first one in front: uint8 (360, 640, 3)."""
    image = np.full((360, 640, 3), 128, np.uint8)
    for keypoints, color in reversed(list(zip(found.keypoints, clothes, strict=True))):
        for start, end in COCO18.limb_joints:
            if keypoints[start, 2] and keypoints[end, 2]:
                cv2.line(image, *(np.rint(keypoints[joint, :2]).astype(int).tolist() for joint in (start, end)), color, 13)
    return image


def colors_of(found, clothes):
    return Appearance(COCO18)(found.keypoints, np.full(len(found), 250.0), picture(found, clothes))


def lab(color):
    return cv2.cvtColor(np.array([[color]], np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]


def test_colors_are_those_of_the_clothes():
    [red, blue] = colors_of(people((100, 60), (400, 60)), (RED, BLUE))
    assert red == pytest.approx(np.tile(lab(RED), (len(red), 1)), abs=1e-3)
    assert blue == pytest.approx(np.tile(lab(BLUE), (len(blue), 1)), abs=1e-3)


def test_limbs_that_are_hidden_outside_or_absent_have_no_color():
    """Two people at one place cover each other; of a person at the border, only what is inside counts."""
    both = colors_of(people((100, 60), (106, 60)), (RED, BLUE))
    assert np.isnan(both).all(axis=-1).mean() > 0.9
    legs = ("left_knee", "right_knee", "left_ankle", "right_ankle")
    [without] = colors_of(people((100, 60, 1.0, legs)), (RED,))
    assert np.isnan(without[:, 0]).sum() == 2, "thighs and shins"
    [outside] = colors_of(people((100, -900)), (RED,))
    assert np.isnan(outside).all()
    assert Appearance(COCO18)(np.zeros((0, 18, 3)), np.zeros(0), np.zeros((4, 4, 3), np.uint8)).shape == (0, len(outside), 3)


def test_likeness_counts_common_colors_only():
    appearance = Appearance(COCO18)
    red, blue = colors_of(people((100, 60), (400, 60)), (RED, BLUE))
    nothing = appearance.nothing(1)[0]
    assert appearance.likeness(np.stack([red, nothing]), np.stack([red, blue])) == pytest.approx(
        np.array([[1, -1], [0, 0]]), abs=1e-6
    )
    assert np.isinf(appearance.distances(nothing[None], red[None])).all()
    half = np.where(np.arange(len(red))[:, None] < 3, red, np.nan)
    assert 0 < appearance.likeness(half[None], red[None])[0, 0] < 1


def follow(frames, clothes, *, images=True, **options):
    """Return the identities of people of each frame. clothes: the color of each person of a frame."""
    tracker = Tracker(COCO18, FPS, TrackConfig(**options))
    return [
        tracker.update(found, image=picture(found, worn) if images else None).tolist()
        for found, worn in zip(frames, clothes, strict=True)
    ]


def hidden(num_frames, place):
    """Somebody walks, is hidden, and appears at another place; somebody else stands."""
    still = (300, 60, 0.5)
    seen = [people((100 + 2 * n, 60, 0.5), still) for n in range(10)]
    return [*seen, *[people(still)] * num_frames, *[people(place, still)] * 5]


def test_a_person_who_appears_elsewhere_is_recognized_by_the_clothes():
    """Motion alone takes the person for somebody else, and so do other clothes, a place that is too far, and a long time."""
    frames = hidden(10, (420, 60, 0.5))

    def last(new, **options):
        clothes = [(RED, BLUE)] * 10 + [(BLUE,)] * (len(frames) - 15) + [(new, BLUE)] * 5
        return follow(frames, clothes, **options)[-1]

    assert last(RED) == [1, 2]
    assert last(GREEN) == [3, 2]
    assert last(RED, images=False) == last(RED, appearance=False) == [3, 2]
    assert last(BLUE) == [3, 2], "clothes that somebody else wears tell nothing"
    assert last(RED, max_lost_s=0.3) == [3, 2]
    frames = hidden(1, (600, 60, 0.5))
    assert last(RED) == [3, 2], "too far"


def test_a_hidden_person_is_not_the_one_in_other_clothes_at_the_same_place():
    frames = [people((100 + 2 * n, 60)) if not 20 <= n < 30 else people() for n in range(40)]
    clothes = [(RED if n < 20 else GREEN,) if len(frames[n]) else () for n in range(40)]
    assert {i for frame in follow(frames, clothes, images=False) for i in frame} == {1}
    assert follow(frames, clothes)[-1] == [2]


def test_joints_that_the_decoder_mixed_up_are_exchanged():
    """Two people cross; in one frame, one of them has an ankle of the other, and in another one, the upper bodies are exchanged."""
    tracker = Tracker(COCO18, FPS)
    upper = [
        COCO18.index(name) for name in COCO18.joints if name.split("_")[-1] in ("nose", "neck", "shoulder", "elbow", "wrist")
    ]
    ankle = COCO18.index("left_ankle")
    for n in range(20):
        true = people((100 + 6 * n, 60), (230 - 6 * n, 66))
        mixed = true.keypoints.copy()
        if n == 8:
            mixed[:, upper] = mixed[::-1, upper]
        if n == 6:
            mixed[0, ankle], mixed[1, ankle] = mixed[1, ankle], 0
        found = People(keypoints=mixed, scores=true.scores)
        assert tracker.update(found).tolist() == [1, 2]
        if n == 6:
            true.keypoints[0, ankle] = 0
        assert tracker.keypoints == pytest.approx(true.keypoints, abs=1e-4), n
        assert (found.keypoints == mixed).all(), "the input is not modified"


@pytest.mark.parametrize(("knots", "raw", "identity"), [((), 8.0, UNTRACKED), ((), 9.0, 1), (((2, 0.1), (8, 0.9)), 5.5, 1)])
def test_scores_that_start_identities(knots, raw, identity):
    """A score of 0.7 without a calibration, raw 8.6 for coco18, and a probability of 0.5 with one."""
    tracker = Tracker(COCO18, FPS, to_scores=score_map(COCO18, knots))
    assert tracker.update(people((100, 60), scores=[raw])).tolist() == [identity]


def test_half_hidden_people_with_certain_joints_start_identities():
    """Their sums are low, however good the network is. A given --start-score is the only rule."""
    weak, certain = people((100, 60), scores=[6.0]), people((100, 60), scores=[6.0])
    certain.keypoints[:, 5:] = 0
    certain.keypoints[:, :5, 2] = 0.9
    assert Tracker(COCO18, FPS).update(weak).tolist() == [UNTRACKED]
    assert Tracker(COCO18, FPS).update(certain).tolist() == [1]
    assert Tracker(COCO18, FPS, TrackConfig(start_score=0.9)).update(certain).tolist() == [UNTRACKED]


@pytest.fixture(scope="module")
def unseen(tmp_path_factory):
    """Small clips of two seeds: three people per clip and five."""
    folders = []
    for seed, most in ((31, 3), (32, 5)):
        folder = tmp_path_factory.mktemp("unseen") / "clips"
        clips = ClipConfig(num_clips=4, num_frames=32, fps=8.0, max_walkers=most)
        synthesize.run(SynthesizeConfig(out=folder, video=True, seed=seed, width=320, height=240, jobs=1, clips=clips))
        folders.append(folder)
    return folders


def oracle(*words):
    return main("evaluator", "", COMMANDS, ["oracle", "--video", *map(str, words)])


@pytest.mark.slow
def test_bar_on_fields_of_the_true_keypoints(clips, unseen, tmp_path, capsys):
    """IDF1 of at least 0.95 and at most one switch in ten crossings, over the clips of three seeds, and the same bytes twice."""
    switches = crossings = 0
    for number, folder in enumerate([clips, *unseen]):
        words = ["--annotations", folder / "annotations" / "person_keypoints_train2017.json", "--images", folder / "train2017"]
        assert oracle(*words, "--out", tmp_path / str(number)) == 0
        assert "identities by motion and clothes, over" in capsys.readouterr().out
        figures = json.loads((tmp_path / str(number) / "metrics.json").read_text())["tracking"]["all"]
        assert figures["IDF1"] >= 0.95, figures
        switches, crossings = switches + figures["switches"], crossings + figures["crossings"]
    assert crossings >= 20 and switches <= crossings / 10
    assert oracle(*words, "--out", tmp_path / "again") == 0
    results = [(tmp_path / name / "results.json").read_bytes() for name in (str(number), "again")]
    assert results[0] == results[1]
