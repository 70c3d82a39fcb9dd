"""Every shipped skeleton is consistent, has its official constants, and takes people from targets to a score."""

import json

import numpy as np
import pytest
from evaluator_data import write_annotations
from format_files import standing, write_images
from trainer_data import TINY_OPTIONS

from evaluator.__main__ import COMMANDS as EVALUATOR
from pipeline.__main__ import COMMANDS as PIPELINE
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.skeleton import mirror_channels
from pipeline.skeletons import SHIPPED, read_skeleton, skeleton_text
from trainer.__main__ import COMMANDS as TRAINER


def run(commands, *words) -> int:
    return main("test", "", commands, list(map(str, words)))


@pytest.fixture(scope="module", params=SHIPPED)
def drawn(request, tmp_path_factory):
    """Skeleton, annotation file and image folder of six standing people in three images, one of them with unlabeled ears and knees."""
    folder, skeleton = tmp_path_factory.mktemp(request.param), read_skeleton(request.param)
    images = {number: (f"{number}.jpg", 640, 480) for number in (1, 2, 3)}
    people = [
        (number, standing(skeleton, x, 90, scale)) for number in images for x, scale in ((180, 1.3), (440 + 5 * number, 1.2))
    ]
    hidden = [place for place, joint in enumerate(skeleton.source_joints) if "ear" in joint or "knee" in joint]
    people[0][1][hidden] = 0
    write_annotations(folder / "a.json", images, people)
    document = json.loads((folder / "a.json").read_text())
    document["categories"][0]["keypoints"] = list(skeleton.source_joints)
    (folder / "a.json").write_text(json.dumps(document))
    write_images(folder / "images", *(name for name, *_ in images.values()), size=(640, 480))
    return skeleton, folder / "a.json", folder / "images"


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_one_body_whose_mirror_image_is_the_same_body(name):
    skeleton = read_skeleton(name)
    assert skeleton.name == name
    mirror_channels(skeleton)  # every limb has a mirror image
    joined = {0}
    for _ in skeleton.limbs:
        joined |= {joint for limb in skeleton.limb_joints.tolist() if set(limb) & joined for joint in limb}
    assert joined == set(range(skeleton.num_joints))
    sigmas = dict(zip(skeleton.source_joints, skeleton.sigmas, strict=True))
    assert all(sigmas[a] == sigmas[b] for a, b in skeleton.mirror_pairs if name not in ("aic14", "wholebody133", "body25"))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_text_of_a_skeleton_is_read_back(name, tmp_path):
    (tmp_path / "s.yaml").write_text(skeleton_text(read_skeleton(name)))
    assert read_skeleton(tmp_path / "s.yaml") == read_skeleton(name)


def test_official_constants():
    """Sums and examples from crowdposetools, keypoint_eval.py, myeval_wholebody.py and halpecocotools."""
    assert read_skeleton("crowdpose14").sigmas == (
        *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
    )  # fmt: skip
    aic = read_skeleton("aic14")
    assert (aic.sigmas[0], aic.sigmas[13], sum(aic.sigmas)) == (0.01388152, 0.01236173, pytest.approx(0.30056174))
    whole = read_skeleton("wholebody133")
    assert (whole.source_joints[91], whole.sigmas[17:23]) == ("left_hand_root", (0.068, 0.066, 0.066, 0.092, 0.094, 0.094))
    assert whole.sigmas[91:112] == whole.sigmas[112:] and sum(whole.sigmas) == pytest.approx(3.861)
    assert read_skeleton("halpe26").sigmas[17:] == (0.08, 0.08, 0.08, *[0.089] * 6)


def test_the_oracle_finds_the_people(drawn, tmp_path):
    """Keypoints -> targets -> quantized fields -> people -> COCO metrics. The 68 points of a face 50 px high are hard."""
    skeleton, annotations, _ = drawn
    assert run(EVALUATOR, "oracle", "--annotations", annotations, "--skeleton", skeleton.name, "--out", tmp_path / "o") == 0
    figures = json.loads((tmp_path / "o" / "metrics.json").read_text())["figures"]
    least = 0.7 if skeleton.name == "wholebody133" else 0.98
    assert figures["AP"] > least and figures["AP .5"] > 0.99


@pytest.mark.slow
@pytest.mark.long
def test_it_is_trained_and_evaluated(drawn, tmp_path):
    skeleton, annotations, images = drawn
    source = ("--annotations", annotations, "--images", images)
    small = ("--insize", "128", "--jobs", "1", "--skeleton", skeleton.name)
    assert run(PIPELINE, "build", *source, "--out", tmp_path / "r", *small) == 0
    assert run(PIPELINE, "verify", tmp_path / "r") == 0
    run_folder = ("--records", tmp_path / "r", "--out", tmp_path / "run", "--batch-size", "2", "--max-steps", "1")
    assert run(TRAINER, "train", *run_folder, *TINY_OPTIONS) == 0
    assert run(EVALUATOR, "run", *source, "--checkpoint", tmp_path / "run", "--out", tmp_path / "ap") == 0
    assert run(EVALUATOR, "report", tmp_path / "ap", *source, "--skeleton", skeleton.name) == 0
    assert (tmp_path / "ap" / "report.html").exists()


def test_an_unknown_name_lists_the_shipped_ones(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"skeleton coco19: no such file, and no shipped skeleton; those are aic14, .*wholebody133"
    ):
        read_skeleton("coco19")
    words = ("build", "--annotations", "a.json", "--images", ".", "--out", "r", "--skeleton", "coco19")
    assert run(PIPELINE, *words) != 0 and "aic14" in capsys.readouterr().err
    (tmp_path / "mpii16").write_text("nonsense")
    assert np.array_equal(read_skeleton("mpii16").sigmas, read_skeleton("mpii16").sigmas)
