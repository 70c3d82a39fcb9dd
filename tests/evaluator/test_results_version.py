"""Golden outputs of everything that decides the results of an evaluation: RESULTS_VERSION must be raised when they change.

To update the golden file: UPDATE_GOLDEN=1 python -m pytest tests/evaluator/test_results_version.py
"""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from evaluator_data import person, write_annotations

from evaluator.decoding import DecodeConfig, decode, decoder
from evaluator.inference import augmentation, sizes
from evaluator.inference.augmentation import AugmentedNetwork, image_fields
from evaluator.inference.config import InferConfig
from evaluator.inference.fields import Fields, find_people
from evaluator.jobs.config import RunConfig
from evaluator.jobs.results_version import RESULTS_VERSION
from evaluator.jobs.run import identify
from evaluator.metrics.coco_eval import evaluate
from evaluator.metrics.results import to_results
from pipeline import geometry
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import add_derived_joints
from pipeline.skeletons import COCO18

GOLDEN = Path(__file__).with_name("golden_results.json")
CURE = "raise RESULTS_VERSION and update the golden file, or undo the change"
STRIDE_PX = 8
SIZES = [(640, 480), (480, 640), (333, 500), (64, 64), (2000, 100), (30, 41)]
TOLERANCES = {"decoding": 0.002, "inference": 0.012, "results": 0.02}  # differences between machines; inputs are rounded to uint8
PEOPLE = [
    person(100, 30, 0.8),
    person(122, 45, 0.75),  # overlaps the first one
    person(250, 20, 1.1, without=("left_wrist", "left_elbow", "nose")),
    person(190, 30, 0.4, without=("left_shoulder", "right_shoulder", "left_hip", "right_hip")),  # in fragments
]
HEIGHTS = (0.8, 0.5, 0.8, 0.4)  # of the peaks of each person
SIZE_WH = (320, 301)


def render(people: list[np.ndarray], rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields of people, drawn with plain formulas, independent of the pipeline's targets."""
    joints = add_derived_joints(np.array(people), COCO18, one_is_enough=True)
    cells = (joints[..., :2] + 0.5) / STRIDE_PX - 0.5
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    heatmaps = np.zeros((COCO18.num_heatmaps, rows, columns))
    pafs = np.zeros((COCO18.num_pafs, rows, columns))
    for points, labels, peak in zip(cells, joints[..., 2], HEIGHTS, strict=True):
        for joint in np.flatnonzero(labels):
            distance = (x - points[joint, 0]) ** 2 + (y - points[joint, 1]) ** 2
            heatmaps[joint] = np.maximum(heatmaps[joint], peak * np.exp(-distance / 1.6))
        for limb, (a, b) in enumerate(COCO18.limb_joints):
            if labels[a] and labels[b]:
                span = points[b] - points[a]
                length = max(np.hypot(*span), 1e-6)
                unit = span / length
                along = (x - points[a, 0]) * unit[0] + (y - points[a, 1]) * unit[1]
                across = np.abs((y - points[a, 1]) * unit[0] - (x - points[a, 0]) * unit[1])
                inside = (along >= 0) & (along <= length) & (across < 1)
                pafs[2 * limb : 2 * limb + 2, inside] = peak * unit[:, None]
    return heatmaps.astype(np.float32), pafs.astype(np.float32)


def noisy_fields() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    heatmaps, pafs = (fields + rng.uniform(-0.01, 0.01, fields.shape) for fields in render(PEOPLE, 38, 40))
    return heatmaps.astype(np.float32), pafs.astype(np.float32)


class SmoothNetwork:
    """Fields are weighted means of the colors of each cell: small differences between machines stay small."""

    skeleton, insize, stride_px = COCO18, 96, STRIDE_PX

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count, height, width, _ = images.shape
        cells = images.reshape(count, height // 8, 8, width // 8, 8, 3).astype(np.float64).mean(axis=(2, 4)) / 255
        weights = np.random.default_rng(1).uniform(-1, 1, (COCO18.num_heatmaps + COCO18.num_pafs, 3))
        fields = np.einsum("bhwc,kc->bkhw", cells, weights).astype(np.float32)
        return fields[:, : COCO18.num_heatmaps], fields[:, COCO18.num_heatmaps :]


def picture(width: int, height: int) -> np.ndarray:
    """A smooth picture, uint8 RGB."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + y / 29), np.cos(x / 23 - y / 13), np.sin((x - y) / 31)]
    return np.stack([127.5 + 120 * wave for wave in waves], axis=-1).round().astype(np.uint8)


def people_of(keypoints: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    return {"keypoints": keypoints.round(4).tolist(), "scores": scores.round(4).tolist()}


def decoding() -> dict[str, Any]:
    """Decoded people of noisy fields, for several settings."""
    heatmaps, pafs = noisy_fields()
    settings = {
        "default": DecodeConfig(),
        "strict": DecodeConfig(peak_threshold=0.45, paf_threshold=0.4, share_threshold=1),
        "fragments": DecodeConfig(fragments=False),
        "noise": DecodeConfig(noise_factor=0, peak_threshold=0.005, max_peaks=6, num_samples=3),
    }
    found = {name: decode(heatmaps, pafs, COCO18, config) for name, config in settings.items()}
    return {name: people_of(people.keypoints, people.scores) for name, people in found.items()}


def inference() -> dict[str, Any]:
    """Input sizes, and fields at a few cells, with and without test-time augmentation."""
    configs = {
        "default": InferConfig(),
        "insize": InferConfig(insize=72, size_step_px=16),
        "mirror": InferConfig(mirror=True),
        "scales": InferConfig(scales=(0.5, 1.0, 1.5)),
        "all": InferConfig(insize=80, mirror=True, scales=(0.75, 1.25), size_step_px=1),
    }
    network, image = SmoothNetwork(), picture(133, 100)
    outputs = {}
    for name, config in configs.items():
        sizes_of = AugmentedNetwork(network, config).sizes
        fields = image_fields(network, image, config)
        _, rows, columns = fields.heatmaps.shape
        cells = [(0, 0), (rows // 2, columns // 3), (rows - 1, columns - 1), (rows - 1, 0), (1, columns - 1)]
        outputs[name] = {
            "sizes": [sizes_of(size) for size in SIZES],
            "grid": [rows, columns],
            "to_image": np.asarray(fields.to_image).round(6).tolist(),
            "heatmaps": [fields.heatmaps[:4, y, x].round(3).tolist() for y, x in cells],
            "pafs": [fields.pafs[:6, y, x].round(3).tolist() for y, x in cells],
        }
    return outputs


def results(folder: Path) -> dict[str, Any]:
    """COCO results and metrics of people who are found on a resized grid, with missing joints and joints at the border."""
    heatmaps, pafs = noisy_fields()
    to_image = geometry.invert(geometry.resizing(1.25, 1.2))
    fields = Fields(heatmaps=heatmaps, pafs=pafs, stride_px=STRIDE_PX, to_image=to_image, size_wh=SIZE_WH)
    people = find_people(fields, COCO18, DecodeConfig())
    entries = to_results(people, image_id=5, category_id=7, skeleton=COCO18)
    truth = [(5, points * (0.8, 1 / 1.2, 1)) for points in PEOPLE] + [(6, person(100, 40))]
    images = {number: (f"{number}.png", *SIZE_WH) for number in (5, 6)}
    document = CocoFile(write_annotations(folder / "annotations.json", images, truth), COCO18)
    evaluation = evaluate(document, entries, COCO18)
    metrics = {name: round(value, 4) for name, value in evaluation.figures.items()}
    return {"entries": entries, "metrics": metrics, "image_oks": {str(i): round(v, 4) for i, v in evaluation.image_oks.items()}}


def same(value: Any, expected: Any, tolerance: float) -> bool:
    """Whether two JSON values are equal, numbers up to an absolute tolerance."""
    if isinstance(expected, dict):
        keys = isinstance(value, dict) and value.keys() == expected.keys()
        return keys and all(same(value[key], expected[key], tolerance) for key in expected)
    if isinstance(expected, list):
        length = isinstance(value, list) and len(value) == len(expected)
        return length and all(same(a, b, tolerance) for a, b in zip(value, expected, strict=True))
    return abs(value - expected) <= tolerance


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """Current outputs and stored outputs, by part."""
    parts = {"decoding": decoding(), "inference": inference(), "results": results(tmp_path_factory.mktemp("golden"))}
    current = json.loads(json.dumps({"results_version": RESULTS_VERSION, **parts}))
    if os.environ.get("UPDATE_GOLDEN"):
        lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in current.items()]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return current, json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("part", ["decoding", "inference", "results"])
def test_results_match_the_golden_file(golden, part):
    current, stored = golden
    assert current[part].keys() == stored[part].keys(), CURE
    changed = [name for name in stored[part] if not same(current[part][name], stored[part][name], TOLERANCES[part])]
    assert not changed, f"{part} ({', '.join(changed)}): {CURE}"


def test_the_golden_file_belongs_to_this_version(golden):
    assert golden[1]["results_version"] == RESULTS_VERSION, CURE


def test_the_golden_outputs_are_meaningful(golden):
    current, _ = golden
    people = current["decoding"]
    assert len(people["default"]["scores"]) >= len(PEOPLE)
    assert all(people[one] != people[other] for one, other in itertools.combinations(people, 2))
    assert 0.5 < current["results"]["metrics"]["AP .5"] < 1
    assert any(0 in entry["keypoints"][2::3] for entry in current["results"]["entries"]), "a person with missing joints"


@pytest.mark.parametrize(
    ("part", "target", "name", "value"),
    [
        (inference, cv2, "INTER_AREA", cv2.INTER_NEAREST),
        (inference, sizes, "PADDING_GRAY", 100),
        (inference, sizes, "MAX_ASPECT", 16),
        (inference, augmentation, "average", lambda fields, sizes_px: fields[0]),
        (inference, augmentation, "unmirror", lambda heatmaps, pafs, skeleton: (heatmaps, pafs)),
        (decoding, decoder, "LOG_FLOOR", 0.2),
    ],
)
def test_changed_computations_are_detected(golden, monkeypatch, part, target, name, value):
    monkeypatch.setattr(target, name, value)
    changed = json.loads(json.dumps(part()))
    assert not same(changed, golden[1][part.__name__], TOLERANCES[part.__name__])


def test_the_identity_of_an_evaluation_has_the_version_and_no_digest_of_source_code(tmp_path):
    path = write_annotations(tmp_path / "a.json", {5: ("5.png", *SIZE_WH)}, [(5, PEOPLE[0])])
    config = RunConfig(fields=tmp_path / "f.npz", annotations=path, out=tmp_path / "out")
    identity = identify(config, CocoFile(path, COCO18), COCO18, {"fields": "beef"})
    assert identity["results_version"] == RESULTS_VERSION and "code" not in identity
