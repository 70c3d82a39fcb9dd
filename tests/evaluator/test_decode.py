"""The decoder recovers people from the targets of their keypoints, on any grid and with any skeleton."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
from evaluator_data import STANDING as SOURCE_JOINTS
from hypothesis import given, settings
from hypothesis import strategies as st

import evaluator.decoding
from evaluator.decoding import DecodeConfig, decode
from evaluator.decoding.decoder import find_peaks, score_pairs
from evaluator.decoding.grouping import body_reach
from pipeline.geometry import pixels_to_cells
from pipeline.samples.targets import TargetConfig, render_heatmaps, render_pafs
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18

STRIDE_PX = 8
CHAIN = Skeleton(
    name="chain",
    joints=("a", "b", "c"),
    limbs=(("a", "b"), ("b", "c")),
    mirror_pairs=(),
    source_joints=("a", "b", "c"),
    sigmas=(0.05, 0.05, 0.05),
)
NO_LIMBS = Skeleton(name="dots", joints=("dot",), limbs=(), mirror_pairs=(), source_joints=("dot",), sigmas=(0.05,))
STANDING = {**SOURCE_JOINTS, "neck": (0, 30)}


def person(x, y, scale=1.0, without=()):
    keypoints = np.zeros((COCO18.num_joints, 3), np.float32)
    for joint, (dx, dy) in STANDING.items():
        if joint not in without:
            keypoints[COCO18.index(joint)] = x + scale * dx, y + scale * dy, 2
    return keypoints


def fields(people, grid_hw=(46, 46), skeleton=COCO18):
    keypoints = np.array(people, np.float32).reshape(-1, skeleton.num_joints, 3)
    render = dict(skeleton=skeleton, grid_hw=grid_hw, config=TargetConfig())
    return render_heatmaps(keypoints, **render), render_pafs(keypoints, **render)


def cells(keypoints):
    return pixels_to_cells(keypoints[..., :2], STRIDE_PX)


def largest_error_px(found, truth):
    """Largest distance in pixels between a labeled joint and the decoded one; both people have the same joints."""
    assert ((found[:, 2] > 0) == (truth[:, 2] > 0)).all()
    labeled = truth[:, 2] > 0
    return STRIDE_PX * np.hypot(*(found[labeled, :2] - cells(truth)[labeled]).T).max()


@given(x=st.floats(110, 250), y=st.floats(30, 75), scale=st.floats(0.6, 1.2))
@settings(max_examples=40, deadline=None)
def test_one_person_is_recovered_within_a_pixel(x, y, scale):
    truth = person(x, y, scale)
    people = decode(*fields([truth]), COCO18)
    assert len(people) == 1
    assert largest_error_px(people.keypoints[0], truth) < 1


def test_a_low_peak_does_not_take_a_limb_from_a_high_one():
    """The peak at x = 14 is noise on the limb; the PAF is weaker near the true end, so that the pair with the noise scores higher."""
    heatmaps, pafs = np.zeros((4, 9, 30), np.float32), np.zeros((4, 9, 30), np.float32)
    cv2.GaussianBlur(np.eye(1, 30 * 9, 4 * 30 + 5, dtype=np.float32).reshape(9, 30), (0, 0), 1, dst=heatmaps[0])
    heatmaps[0] *= 0.8 / heatmaps[0].max()
    heatmaps[0, 4, 14] = 0.1
    heatmaps[1, 4, 24] = 0.8
    pafs[0, 3:6, 5:25] = 0.9
    pafs[0, 3:6, 5:12] = 0.7
    peaks = find_peaks(heatmaps[:3], DecodeConfig())
    start, end, score = score_pairs(peaks, pafs, CHAIN, DecodeConfig())
    assert peaks.x[start].round().tolist() == [5, 14] and peaks.x[end].round().tolist() == [24, 24]
    assert score[0] < score[1] == pytest.approx(0.9)
    best = decode(heatmaps, pafs, CHAIN).keypoints[0]
    assert best[:2, 0].round().tolist() == [5, 24]


def test_several_people_are_separated_and_sorted_by_score():
    truths = [person(100, 60), person(260, 60, without=("left_ankle", "left_knee", "nose")), person(180, 200, 0.5)]
    people = decode(*fields(truths), COCO18)
    assert len(people) == 3
    assert (np.diff(people.scores) <= 0).all() and people.scores[-1] > 0
    for truth in truths:
        error = min(
            largest_error_px(found, truth) for found in people.keypoints if ((found[:, 2] > 0) == (truth[:, 2] > 0)).all()
        )
        assert error < 1
    assert (people.keypoints[-1, :, 2] > 0).sum() == 15


def test_order_of_people_in_ground_truth_does_not_matter():
    truths = [person(100, 60), person(190, 60, 0.8), person(260, 100)]
    one, other = decode(*fields(truths), COCO18), decode(*fields(truths[::-1]), COCO18)
    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-5)


def test_decoding_is_deterministic_and_does_not_modify_fields():
    heatmaps, pafs = fields([person(100, 60), person(130, 70)])
    before = heatmaps.copy(), pafs.copy()
    one, other = decode(heatmaps, pafs, COCO18), decode(heatmaps, pafs, COCO18)
    assert (heatmaps == before[0]).all() and (pafs == before[1]).all()
    assert (one.keypoints == other.keypoints).all() and (one.scores == other.scores).all()


@pytest.mark.parametrize("x_px, y_px", [(0, 0), (367, 0), (0, 367), (367, 367), (183.5, 0), (1.3, 200.2), (365, 180)])
def test_joint_at_the_border_is_recovered_within_a_pixel(x_px, y_px):
    truth = np.array([[x_px, y_px, 2], [0, 0, 0], [0, 0, 0]], np.float32)
    people = decode(*fields([truth], skeleton=CHAIN), CHAIN)
    assert len(people) == 1
    assert largest_error_px(people.keypoints[0], truth) < 1


@given(dx=st.floats(-0.5, 0.5), dy=st.floats(-0.5, 0.5), sigma_cells=st.floats(0.7, 2.0), height=st.floats(0.1, 1))
def test_peak_of_any_gaussian_is_exact(dx, dy, sigma_cells, height):
    y, x = np.mgrid[:9, :9]
    heatmaps = np.zeros((2, 9, 9), np.float32)
    heatmaps[0] = height * np.exp(-((x - 4 - dx) ** 2 + (y - 4 - dy) ** 2) / (2 * sigma_cells**2))
    people = decode(heatmaps, np.zeros((0, 9, 9), np.float32), NO_LIMBS, DecodeConfig(noise_factor=0))
    floor_reached = height * np.exp(-1.125 * 2 / sigma_cells**2) < 1e-3
    assert len(people) == 1
    if not floor_reached:
        np.testing.assert_allclose(people.keypoints[0, 0, :2], (4 + dx, 4 + dy), atol=0.01)


def dots(heatmap, **options):
    heatmaps = np.stack([heatmap, 1 - heatmap]).astype(np.float32)
    people = decode(heatmaps, np.zeros((0, *heatmap.shape), np.float32), NO_LIMBS, DecodeConfig(**options))
    return people.keypoints[:, 0, :2].tolist()


def test_plateau_yields_one_peak_and_constant_field_none():
    heatmap = np.zeros((9, 12))
    heatmap[4, 5:7] = 1
    assert dots(heatmap) == [[5.5, 4]]
    heatmap[3:6, 4:8] = 1
    assert len(dots(heatmap)) == 1
    assert dots(np.full((9, 12), 0.7), noise_factor=0) == []
    assert dots(np.zeros((9, 12))) == []


def test_thresholds_suppress_noise():
    heatmap = np.zeros((30, 30))
    heatmap[10, 10], heatmap[20, 20] = 0.05, 0.2
    assert len(dots(heatmap)) == 2
    assert dots(heatmap, peak_threshold=0.1) == [[20, 20]]
    noise = np.random.default_rng(0).normal(0, 0.02, heatmap.shape)
    noise[20, 20] = 0.2
    assert 1 <= len(dots(noise)) < 10
    all_of_them = {"noise_factor": 0, "relative_threshold": 0}
    assert len(dots(noise, **all_of_them)) > 30
    assert len(dots(noise, **all_of_them, max_peaks=7)) == 7


def test_a_peak_must_reach_a_fraction_of_the_highest_peaks_of_all_joints():
    """Each joint has a low peak beside a high one; how high these are decides whether the low ones are noise."""
    heatmaps = np.zeros((4, 20, 20), np.float32)
    heatmaps[:3, 10, 15] = 0.1
    for highest, num_peaks in ((0.3, 6), (0.4, 6), (0.6, 3)):
        heatmaps[:3, 10, 5] = highest
        assert len(find_peaks(heatmaps[:3], DecodeConfig()).value) == num_peaks
    heatmaps[0, 10, 5] = 0  # a joint that is not in the image
    assert len(find_peaks(heatmaps[:3], DecodeConfig()).value) == 5
    assert len(find_peaks(heatmaps[:3], DecodeConfig(relative_threshold=0.4)).value) == 2


def test_crossing_limbs_are_assigned_to_the_right_people():
    truths = np.zeros((2, 3, 3), np.float32)
    truths[0, :2] = [(40, 40, 2), (200, 200, 2)]
    truths[1, :2] = [(200, 40, 2), (40, 200, 2)]
    people = decode(*fields(truths, skeleton=CHAIN), CHAIN)
    assert len(people) == 2
    starts = sorted((round(k[0, 0]), round(k[1, 0])) for k in people.keypoints)
    assert starts == [(5, 25), (25, 5)]


def test_limb_without_paf_cells_still_joins_its_ends():
    truth = np.array([[100, 100, 2], [104, 100, 2], [160, 100, 2]], np.float32)
    heatmaps, pafs = fields([truth], skeleton=CHAIN)
    pafs[:2] = 0
    people = decode(heatmaps, pafs, CHAIN, DecodeConfig(fragments=False))
    assert len(people) == 1 and (people.keypoints[0, :, 2] > 0).all()


def test_people_with_a_single_joint_are_kept():
    truth = person(180, 100, without=set(STANDING) - {"nose"})
    people = decode(*fields([truth]), COCO18)
    assert len(people) == 1 and largest_error_px(people.keypoints[0], truth) < 1


def test_fragments_are_joined_only_if_enabled_and_within_reach():
    split = person(180, 60, without=("neck",))
    heatmaps, pafs = fields([split])
    assert len(decode(heatmaps, pafs, COCO18)) == 1
    assert len(decode(heatmaps, pafs, COCO18, DecodeConfig(fragments=False))) > 1
    head = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
    far = [person(60, 60, 0.4, without=set(STANDING) - set(head)), person(300, 200, 0.4, without=head)]
    assert len(decode(*fields(far), COCO18)) == 2


def test_no_limb_spans_a_row_of_people():
    """In a row of people at one height, all shoulder PAFs point the same way, from a person without the left shoulder to one without neck."""
    truths = [person(40 + 44 * i, 60, 0.5, without={0: ("left_shoulder",), 5: ("neck",)}.get(i, ())) for i in range(6)]
    people = decode(*fields(truths, (46, 60)), COCO18)
    widths = [np.ptp(found[found[:, 2] > 0, 0]) for found in people.keypoints]
    assert len(people) == 6 and max(widths) < 7, "in cells; a person is six cells wide"


def test_two_lone_ears_become_one_head_and_nearest_ears_are_joined():
    def ears(right_x, left_x, y):
        keypoints = np.zeros((COCO18.num_joints, 3), np.float32)
        keypoints[COCO18.index("right_ear")] = right_x, y, 2
        keypoints[COCO18.index("left_ear")] = left_x, y, 2
        return keypoints

    truths = [person(180, 40, 0.4), ears(20, 110, 300), ears(230, 330, 310)]
    people = decode(*fields(truths), COCO18)
    assert len(people) == 3
    for truth in truths:
        assert min(largest_error_px(f, truth) for f in people.keypoints if ((f[:, 2] > 0) == (truth[:, 2] > 0)).all()) < 1
    assert len(decode(*fields(truths), COCO18, DecodeConfig(fragments=False))) == 5


def test_two_people_share_a_peak_if_their_joints_coincide():
    truths = np.zeros((2, 3, 3), np.float32)
    truths[0] = [(40, 100, 2), (120, 100, 2), (200, 100, 2)]
    truths[1, :2] = [(120, 200, 2), (121, 101, 2)]
    heatmaps, pafs = fields(truths, skeleton=CHAIN)
    shared = decode(heatmaps, pafs, CHAIN)
    assert sorted((shared.keypoints[..., 2] > 0).sum(axis=1)) == [2, 3]
    alone = decode(heatmaps, pafs, CHAIN, DecodeConfig(share_threshold=2))
    assert sorted((alone.keypoints[..., 2] > 0).sum(axis=1)) == [1, 3]


@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 20), width=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_noise_of_any_size_yields_valid_people(seed, height, width):
    rng = np.random.default_rng(seed)
    heatmaps = rng.normal(0, 0.3, (COCO18.num_heatmaps, height, width)).astype(np.float32)
    pafs = rng.normal(0, 0.3, (COCO18.num_pafs, height, width)).astype(np.float32)
    people = decode(heatmaps, pafs, COCO18)
    seen = people.keypoints[..., 2] > 0
    assert np.isfinite(people.keypoints).all() and np.isfinite(people.scores).all()
    assert seen.any(axis=1).all() and (people.keypoints[~seen] == 0).all()
    assert (people.keypoints[..., :2] >= -0.5).all() and (people.keypoints[..., :2] <= (width - 0.5, height - 0.5)).all()


def test_invalid_fields_are_rejected():
    heatmaps, pafs = fields([person(180, 60)])
    with pytest.raises(ValueError, match=r"heatmaps .* must have the shape \(19, height, width\), got \(18, 46, 46\)"):
        decode(heatmaps[1:], pafs, COCO18)
    with pytest.raises(ValueError, match="must have the shape"):
        decode(heatmaps, pafs[None], COCO18)
    with pytest.raises(ValueError, match="same grid"):
        decode(heatmaps, pafs[:, 1:], COCO18)
    for value in (np.nan, np.inf, -np.inf):
        broken = pafs.copy()
        broken[3, 4, 5] = value
        with pytest.raises(ValueError, match="pafs must be finite"):
            decode(heatmaps, broken, COCO18)


@pytest.mark.parametrize(
    "option, value",
    [("peak_threshold", 0), ("paf_threshold", 1.5), ("num_samples", 1), ("max_peaks", 0), ("relative_threshold", 1)],
)
def test_invalid_thresholds_are_rejected(option, value):
    with pytest.raises(ValueError, match=f"{option} must be .*, got {value}"):
        DecodeConfig(**{option: value})


def test_reach_is_the_length_of_the_limbs_between_two_joints():
    reach = body_reach(COCO18)
    hip, knee, ankle = (COCO18.index(f"left_{joint}") for joint in ("hip", "knee", "ankle"))
    assert (reach == reach.T).all() and (np.diag(reach) == 0).all()
    assert reach[hip, knee] == pytest.approx(0.245, abs=0.001)  # thigh, Drillis and Contini
    assert reach[hip, ankle] == pytest.approx(reach[hip, knee] + reach[knee, ankle])
    assert body_reach(CHAIN)[0, 2] == 2


def test_decoder_tolerates_blur_and_weak_signal():
    truths = [person(90, 60), person(250, 60), person(170, 130, 0.7)]
    heatmaps, pafs = fields(truths)
    rng = np.random.default_rng(0)
    for strength, sigma_cells in ((0.6, 0.5), (0.3, 0.7)):
        weak = [
            np.stack([cv2.GaussianBlur(strength * channel, (0, 0), sigma_cells) for channel in field])
            + rng.normal(0, 0.01, field.shape)
            for field in (heatmaps, pafs)
        ]
        people = decode(*weak, COCO18)
        assert len(people) >= 3
        for truth in truths:
            distance = np.hypot(*(people.keypoints[:3, :, :2] - cells(truth)).transpose(2, 0, 1)) * STRIDE_PX
            assert (distance < 4).mean(axis=1).max() > 0.85


@pytest.mark.parametrize("module", ["evaluator.decoding", "evaluator.decoding.decoder", "evaluator.decoding.grouping"])
def test_importing_the_decoder_loads_numpy_and_opencv_only(module):
    """Compares with a bare interpreter, in which `site` may load finders of editable installations."""
    code = "import sys{}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    bare, loaded = (
        set(subprocess.run([sys.executable, "-c", code.format(more)], check=True, capture_output=True, text=True).stdout.split())
        for more in ("", f", {module}")
    )
    of_cython = {name for name in loaded if name.startswith(("_cython_", "cython_runtime"))}  # loaded by NumPy
    first_party = {"evaluator", "pipeline"}
    assert loaded - bare - set(sys.stdlib_module_names) - of_cython - first_party == {"numpy", "cv2"}


def test_package_exports_the_public_names():
    assert sorted(evaluator.decoding.__all__) == ["DecodeConfig", "People", "decode"]
    assert evaluator.decoding.decode is decode and callable(decode)
