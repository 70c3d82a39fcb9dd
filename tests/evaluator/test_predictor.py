"""The Python interface: one result for one image, lists, iterators, and conversions."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluator_data import PerfectNetwork, write_set
from job_data import NoiseNetwork
from PIL import Image
from pycocotools.coco import COCO

import evaluator
from evaluator import Predictor
from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import SelectConfig
from evaluator.predict.prediction import Person, Prediction
from evaluator.predict.predictor import EVERYBODY
from pipeline.images import UnreadableImage
from pipeline.skeletons import COCO18

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    """Annotations, the folder of three gray images, and a predictor that knows the people in them."""
    annotations, images = write_set(tmp_path_factory.mktemp("gray"))
    return annotations, images, Predictor.of(PerfectNetwork(annotations))


def noise(seed=0, size=(90, 120)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def same(a, b):
    return a.size_wh == b.size_wh and np.array_equal(a.keypoints, b.keypoints) and a.source == b.source


def test_people_have_named_joints_where_they_are(gray):
    annotations, images, predictor = gray
    prediction = predictor(images / "a.png")
    truth = {entry["id"]: entry for entry in json.loads(annotations.read_text())["annotations"]}
    assert prediction.size_wh == (320, 300) and prediction.source == images / "a.png" and len(prediction.people) == 2
    first, second = sorted(prediction.people, key=lambda person: person.joints["nose"].x)
    for person, number in ((first, 0), (second, 1)):
        points = np.reshape(truth[number]["keypoints"], (-1, 3))
        for name, (x, y, _) in zip(COCO18.source_joints, points, strict=True):
            assert person.joints[name].x == pytest.approx(x, abs=1) and person.joints[name].y == pytest.approx(y, abs=1)
        assert min(joint.confidence for joint in person.joints.values()) > 0.7 and "neck" in person.joints
        left, top, width, height = truth[number]["bbox"]
        np.testing.assert_allclose(person.box, (left, top, width, height), atol=2)
    assert prediction.people[0].score == max(first.score, second.score) < 1


def test_joints_that_were_not_found_are_absent():
    keypoints = np.zeros((18, 3), np.float32)
    keypoints[COCO18.index("nose")] = 10.5, 20.25, 0.75
    keypoints[COCO18.index("left_ear")] = 30, 40, 0.5
    person = Person(keypoints=keypoints, score=0.75, raw_score=1.5, skeleton=COCO18)
    assert person.joints == {"nose": (10.5, 20.25, 0.75), "left_ear": (30, 40, 0.5)}
    assert person.box == (10.5, 20.25, 19.5, 19.75)
    entry = person.to_coco(image_id=9)
    assert (entry["image_id"], entry["category_id"], entry["score"], entry["raw_score"]) == (9, 1, 0.75, 1.5)
    assert entry["keypoints"][:3] == [10.5, 20.25, 1] and entry["keypoints"][15] == 30, "the nearest one"
    assert entry["keypoints"][16] > 40 and entry["keypoints"][17] == 0, "a shoulder is below an ear; not seen"
    inside = person.to_coco(image_id=9, size_wh=(50, 45))
    assert inside["keypoints"][15:18] == [30, 44, 0]
    assert entry["confidences"] == [0.75, 0, 0, 0.5] + [0] * 13 and entry["box"] == [10.5, 20.25, 19.5, 19.75]
    with pytest.raises(TypeError):
        person.joints["nose"] = None
    prediction = Prediction(people=(person,), size_wh=(50, 50), skeleton=COCO18)
    assert prediction.to_openpose()["people"][0]["pose_keypoints_2d"] == [10.5, 20.25, 0.75] + [0] * 48 + [30, 40, 0.5]


def test_results_are_read_by_pycocotools(gray, tmp_path):
    annotations, images, predictor = gray
    people = COCO(str(annotations))
    results = [entry for image_id, name in ((10, "a"), (20, "b"), (30, "c"))
               for entry in predictor(images / f"{name}.png").to_coco(image_id, category_id=7)]  # fmt: skip
    plain = [{name: entry[name] for name in ("image_id", "category_id", "keypoints", "score")} for entry in results]
    ours, expected = people.loadRes(results), people.loadRes(plain)
    assert [entry["area"] for entry in ours.anns.values()] == [entry["area"] for entry in expected.anns.values()]


def test_one_for_one_a_list_for_a_list_and_an_iterator_for_an_iterator(gray):
    _, images, predictor = gray
    files = [images / name for name in ("a.png", "b.png", "c.png")]
    pixels = [cv2.imread(str(file), cv2.IMREAD_COLOR_RGB) for file in files]
    single = [predictor(file) for file in files]
    for several in (predictor(files), predictor(tuple(map(str, files))), list(predictor(iter(files)))):
        assert all(same(a, b) for a, b in zip(several, single, strict=True))
    for several in (predictor(pixels), list(predictor(iter(pixels)))):
        assert [prediction.source for prediction in several] == [None] * 3
        assert all(np.array_equal(a.keypoints, b.keypoints) for a, b in zip(several, single, strict=True))
    assert predictor([]) == [] and list(predictor(iter([]))) == []


@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_iterator_is_read_as_results_are_taken(batch_size):
    taken = []
    predictor = Predictor.of(NoiseNetwork(), batch_size=batch_size)
    found = predictor(taken.append(number) or noise(number) for number in itertools.count())
    assert taken == []
    for number in range(6):
        assert same(next(found), predictor(noise(number)))
    assert len(taken) <= 6 + 7 * batch_size
    found.close()


def test_min_score_leaves_people_out():
    network, image = NoiseNetwork(), noise()
    everybody = Predictor.of(network, select=EVERYBODY)(image)
    scores = sorted(person.score for person in everybody.people)
    assert len(Predictor.of(network, select=SelectConfig(min_score=scores[3]))(image).people) == len(scores) - 3
    assert [person.score for person in everybody.selected(SelectConfig(min_score=scores[3])).people] == scores[:2:-1]
    few = Predictor.of(network, select=EVERYBODY, decoding=DecodeConfig(peak_threshold=0.9))(image)
    assert len(few.people) < len(everybody.people)


def test_what_cannot_be_read_is_named_and_the_stream_goes_on(gray, tmp_path):
    _, images, predictor = gray
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"text")
    for source in (bad, [images / "a.png", bad], iter([bad])):
        with pytest.raises(UnreadableImage, match=f"image {bad}: not an image"):
            list(predictor(source))
    (_, first), (name, error), (_, last) = predictor.stream([images / "a.png", bad, images / "b.png"])
    assert len(first.people) == len(last.people) == 2 and name == bad and isinstance(error, UnreadableImage)
    for array in (noise()[..., 0], noise().astype(np.float32), noise()[:0], np.stack([noise()])):
        with pytest.raises(ValueError, match=r"must be an array uint8 RGB \(H, W, 3\), got"):
            predictor(array)


def test_a_portrait_photo_of_a_phone_is_upright(gray, tmp_path):
    """A phone stores what its sensor sees, and how it was held."""
    _, images, predictor = gray
    upright = predictor(images / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    with Image.open(images / "b.png") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.jpg", exif=exif, quality=100)
    turned = predictor(tmp_path / "phone.jpg")
    assert turned.size_wh == upright.size_wh == (500, 400)
    np.testing.assert_allclose(turned.keypoints, upright.keypoints)
    assert turned.draw().shape == (400, 500, 3)


def test_people_are_drawn_where_they_are_at_any_size(gray):
    _, images, predictor = gray
    prediction = predictor(images / "a.png")
    image = cv2.imread(str(images / "a.png"), cv2.IMREAD_COLOR_RGB)
    drawn, before = prediction.draw(image), image.copy()
    assert np.array_equal(image, before) and np.array_equal(prediction.draw(), drawn)
    nose = prediction.people[0].joints["nose"]
    assert tuple(drawn[round(nose.y), round(nose.x)]) == COCO18.joint_colors[COCO18.index("nose")]
    half = prediction.draw(cv2.resize(image, (160, 150)))
    assert tuple(half[round(nose.y / 2 - 0.25), round(nose.x / 2 - 0.25)]) == COCO18.joint_colors[COCO18.index("nose")]
    with pytest.raises(ValueError, match="image must be given"):
        predictor(image).draw()


def test_the_interface_is_imported_when_it_is_used():
    assert {*evaluator.__all__} <= {*dir(evaluator)} and all(hasattr(evaluator, name) for name in evaluator.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Predict'"):
        evaluator.Predict  # noqa: B018 - it is the access that raises
    code = "import sys, evaluator; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_values_that_cannot_be_are_refused():
    for options, message in (({"batch_size": 0}, "batch_size"), ({"scales": ()}, "scales"), ({"insize": 1}, "insize")):
        with pytest.raises(ValueError, match=message):
            Predictor("network.onnx", **options)
