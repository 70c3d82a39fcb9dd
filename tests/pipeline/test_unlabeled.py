"""`convert` of sources that label only some of the people, and the split into training and held-out images."""

import json

import format_files as made
import numpy as np
import pytest
from format_files import convert

from evaluator.metrics.coco_eval import evaluate
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.formats.held_out import is_held_out
from pipeline.datasets.formats.people import Person, SourceImage
from pipeline.datasets.formats.unlabeled import unlabeled_regions
from pipeline.datasets.selection import PersonFilter, read_annotations
from pipeline.samples.masks import ignore_mask
from pipeline.skeletons import read_skeleton

LSP_SIZE = (400, 300)


def lsp_folder(tmp_path, count=1):
    """Images of 400 x 300 pixels with one person whose box is x 100 to 139, y 50 to 109."""
    joints = np.zeros((14, 3, count))
    joints[:, 0] = np.linspace(100, 139, 14)[:, None]
    joints[:, 1] = np.linspace(50, 109, 14)[:, None]
    joints[:, 2] = 1
    folder = made.lsp(tmp_path / "lsp", joints)
    made.write_images(folder / "images", *(f"im{number:05d}.jpg" for number in range(1, count + 1)), size=LSP_SIZE)
    return folder


def test_all_pixels_outside_the_neighborhood_are_ignored_in_the_loss(tmp_path):
    convert(tmp_path, "lsp", lsp_folder(tmp_path))
    selection = read_annotations(tmp_path / "out/annotations.json", skeleton=read_skeleton("lsp14"), person_filter=PersonFilter())
    mask = ignore_mask(selection.samples[0])
    expected = np.ones((300, 400), bool)
    expected[20:140, 70:170] = False  # half of the longer side, 60 px, on each side of the box
    assert (mask == expected).mean() > 0.995, "up to the edges of polygons"
    convert(tmp_path / "all", "lsp", tmp_path / "lsp", ignore_unlabeled=False)
    plain = read_annotations(tmp_path / "all/out/annotations.json", skeleton=read_skeleton("lsp14"), person_filter=PersonFilter())
    assert ignore_mask(plain.samples[0]) is None and len(plain.samples[0].keypoints) == 1


@pytest.mark.parametrize("x, ap", [(300, 1.0), (120, 0.5)])
def test_evaluation_ignores_predictions_outside_the_neighborhood_only(tmp_path, x, ap):
    """A wrong prediction of higher score costs half of the precision near the labeled person, and nothing far from it."""
    convert(tmp_path, "lsp", lsp_folder(tmp_path))
    skeleton = read_skeleton("lsp14")
    document = CocoFile(tmp_path / "out/annotations.json", skeleton)
    (truth,) = (entry for entry in document.annotations[1] if not entry.iscrowd)
    wrong = np.column_stack([np.linspace(x, x + 20, 14), np.linspace(130, 30, 14), np.ones(14)])
    results = [
        {"image_id": 1, "category_id": 1, "keypoints": points.ravel().tolist(), "score": score}
        for points, score in ((wrong, 0.9), (truth.keypoints, 0.8))
    ]
    assert evaluate(document, results, skeleton).figures["AP"] == pytest.approx(ap, abs=0.01)


def test_regions_are_disjoint_and_leave_every_labeled_person_out():
    rng = np.random.default_rng(0)
    for _ in range(50):
        boxes = [(*rng.uniform(0, 200, 2), *rng.uniform(5, 60, 2)) for _ in range(rng.integers(0, 4))]
        image = SourceImage(name="a", file=None, size=(200, 200), people=[Person(where="", box=box) for box in boxes])  # type: ignore[arg-type]  # not read
        covered = np.zeros((200, 200), int)
        for region in unlabeled_regions(image):
            x, y, right, bottom = (int(np.ceil(region.segmentation[0][place])) for place in (0, 1, 2, 5))
            covered[y:bottom, x:right] += 1
            assert region.iscrowd and region.area > 0
        assert covered.max() <= 1
        for x, y, width, height in boxes:
            margin = max(width, height) / 2
            low, high = np.maximum(np.array([x, y]) - margin, 0).astype(int), np.array([x + width, y + height]) + margin
            assert not covered[low[1] + 1 : int(high[1]), low[0] + 1 : int(high[0])].any()
        if not boxes:
            assert covered.all(), "an image without labeled people is ignored as a whole"


def test_the_same_images_are_held_out_whatever_else_is_converted(tmp_path, capsys):
    document, _ = convert(tmp_path, "lsp", lsp_folder(tmp_path, count=40), held_out=0.25)
    held_out = json.loads((tmp_path / "out/held_out.json").read_text())
    names = {image["file_name"] for image in held_out["images"]}
    assert names == {f"im{number:05d}.jpg" for number in range(1, 41) if is_held_out(f"im{number:05d}.jpg", 0.25)}
    assert 3 <= len(names) <= 17 and len(names) + len(document["images"]) == 40
    for part in (document, held_out):
        ids = {image["id"] for image in part["images"]}
        assert {entry["image_id"] for entry in part["annotations"]} == ids
    assert all(is_held_out(name, 0.5) for name in names), "a larger share only adds images"
    assert f"held out for evaluation: {len(names)} images" in capsys.readouterr().out
    with pytest.raises(ValueError, match="held_out must be at least 0 and less than 1, got 1"):
        convert(tmp_path, "lsp", tmp_path / "lsp", held_out=1)
