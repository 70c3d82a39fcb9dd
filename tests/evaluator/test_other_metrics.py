"""Metrics of other data sets than COCO: equal to the data sets' own programs, and to values by hand."""

import json

import format_files
import numpy as np
import pytest
from metric_data import crowdpose, posetrack, single_people, write_people
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluator.metrics.config import MetricConfig
from evaluator.metrics.figures import UNDEFINED
from evaluator.metrics.others import measure_others, require_metrics
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.skeletons import read_skeleton

LSP, MPII = read_skeleton("lsp14"), read_skeleton("mpii16")


def measured(path, skeleton, results, **options):
    config, document = MetricConfig(**options), CocoFile(path, read_skeleton(skeleton))
    require_metrics(document, config)
    [[_, each]] = measure_others(document, results, config, [image.id for image in document.images]).items()
    return each


def people_file(tmp_path, skeleton, people):
    """Write an annotation file with a person (keypoints, further fields) in each image."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, len(people) + 1)]
    annotations = [
        {"image_id": i, "category_id": 1, "keypoints": points.ravel().tolist(), **more}
        for i, (points, more) in enumerate(people, 1)
    ]
    categories = [{"id": 1, "name": "person", "keypoints": list(skeleton.source_joints)}]
    (tmp_path / "p.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return tmp_path / "p.json"


def result(image_id, points, score=0.5):
    return {"image_id": image_id, "category_id": 1, "keypoints": np.ravel(points).tolist(), "score": score}


def standing(skeleton, size=100):
    """A person whose joints lie on a line, except that left shoulder and right hip are `size` apart."""
    points = np.column_stack([200 + 10.0 * np.arange(len(skeleton.source_joints)), np.full(len(skeleton.source_joints), 100.0)])
    points = np.column_stack([points, np.full(len(points), 2)])
    place = skeleton.source_joints.index
    points[place("right_hip"), :2] = points[place("left_shoulder"), :2] + (0, size)
    return points


def moved(points, skeleton, **pixels):
    """Move joints to the right."""
    points = points.copy()
    for joint, distance in pixels.items():
        points[skeleton.source_joints.index(joint), 0] += distance
    return points


def test_crowdpose_has_the_figures_of_xtcocotools(tmp_path):
    """xtcocotools 1.14.3: COCOeval(truth, found, "keypoints_crowd", sigmas, use_area=False), with its limit 0.2, and with 0.1."""
    path, results = crowdpose(tmp_path)
    figures = measured(path, "crowdpose14", results, metric=("crowdpose",)).figures
    expected = {
        **{"AP": 0.16927222867091674, "AP .5": 0.396258344694725, "AP .75": 0.11287461718865162},
        **{"AR": 0.3346938775510203, "AR .5": 0.5714285714285714, "AR .75": 0.2857142857142857},
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    rounded = {"AP easy": 0.0, "AP medium": 0.1647, "AP hard": 0.2679, "AP easy (0.2)": 0.2304, "AP medium (0.2)": 0.1541}
    assert {name: round(figures[name], 4) for name in rounded} == rounded


def test_ochuman_is_cocos_ap_with_the_areas_of_boxes(tmp_path):
    path, results = write_people(tmp_path, read_skeleton("coco18"))
    document = json.loads(path.read_text())
    for entry in document["annotations"]:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    (tmp_path / "areas.json").write_text(json.dumps(document))
    truth = COCO(str(tmp_path / "areas.json"))
    job = COCOeval(truth, truth.loadRes([dict(entry) for entry in results]), "keypoints")
    job.evaluate(), job.accumulate(), job.summarize()
    figures = measured(path, "coco18", results, metric=("ochuman",)).figures
    assert list(figures.values()) == pytest.approx([*job.stats[:3], *job.stats[5:8]], abs=1e-12)
    assert 0.1 < figures["AP"] < 0.9


def test_posetrack_has_the_figures_of_poseval(tmp_path):
    """poseval 4258a15 (evaluateAP.py): assignGTmulti and computeMetrics of the same people, in percent there."""
    path, results = posetrack(tmp_path)
    each = measured(path, "posetrack15", results, metric=("posetrack",))
    expected = {"AP": 0.3184648624925175, "precision": 0.45827303098129496, "recall": 0.6061629911548344}
    assert each.figures == pytest.approx(expected, abs=1e-9)
    groups = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    cumulated = [0.28736513659, 0.34075053978, 0.33614385847, 0.34080422472, 0.32467985721, 0.30149680162, 0.31356348197]
    assert [each.joints["AP"][name] for name in groups] == pytest.approx(cumulated, abs=1e-9)
    assert each.joints["AP"]["right_ankle"] == pytest.approx(0.2603366578776415) and "left_ear" not in each.joints["AP"]


def test_pck_and_pckh_have_the_figures_of_mmpose(tmp_path):
    """MMPose 1.3.2, keypoint_pck_accuracy of the same people, at 0.05, 0.1 and 0.2; PCKh weighted by joints as in MpiiPCKAccuracy."""
    path, results = single_people(tmp_path, LSP)
    for norm, expected in {
        "torso": (0.06544070882602568, 0.21858861907315943, 0.4844877562589237),
        "box": (0.1651462086607489, 0.4622476492965169, 0.8083723328068328),
        "head": (0.005176764669829526, 0.029956098969122717, 0.11565609642794564),
    }.items():
        figures = measured(path, "lsp14", results, metric=("pck",), pck_norm=norm).figures
        assert [figures[f"PCK@{alpha} best"] for alpha in (0.05, 0.1, 0.2)] == pytest.approx(expected, abs=1e-12)
        assert [figures[f"PCK@{alpha} top"] for alpha in (0.05, 0.1, 0.2)] == pytest.approx(expected, abs=1e-12)
    path, results = single_people(tmp_path, MPII)
    assert measured(path, "mpii16", results, metric=("pckh",)).figures["PCKh@0.5 best"] == pytest.approx(0.556047197640118)


def test_pck_by_hand(tmp_path):
    """A torso of 100 px: at 0.1, joints within less than 10 px are right. Unlabeled joints do not count, missing ones are wrong."""
    true = standing(LSP)
    true[LSP.source_joints.index("head_top")] = 0
    path = people_file(tmp_path, LSP, [(true, {})])
    found = moved(standing(LSP), LSP, neck=9.9, left_wrist=10.0, left_elbow=19.0, left_knee=21.0)
    found[LSP.source_joints.index("right_ankle"), 2] = 0
    each = measured(path, "lsp14", [result(1, found)], metric=("pck",))
    shares = each.joints["PCK@0.1 best"]
    wrong = {"left_wrist", "left_elbow", "left_knee", "right_ankle"}
    assert {joint for joint, share in shares.items() if share == 0} == wrong and shares["head_top"] == UNDEFINED
    assert each.figures["PCK@0.1 best"] == each.figures["PCK@0.1 top"] == pytest.approx(9 / 13)
    assert each.figures["PCK@0.2 best"] == pytest.approx(11 / 13) and each.figures["PCK@0.05 best"] == pytest.approx(8 / 13)
    assert each.counts == {"labeled people": 1, "people of unknown size left out": 0}


def test_pck_of_the_best_and_of_the_highest_scored_prediction(tmp_path):
    path = people_file(tmp_path, LSP, [(standing(LSP), {}), (standing(LSP), {})])
    good, bad = standing(LSP), np.add(standing(LSP), (50, 0, 0))
    results = [result(1, good, 0.2), result(1, bad, 0.9), result(2, good * (1, 1, 0), 0.5)]  # v = 0 everywhere says nothing
    figures = measured(path, "lsp14", results, metric=("pck",)).figures
    assert figures["PCK@0.2 best"] == 1 and figures["PCK@0.2 top"] == 0.5
    assert measured(path, "lsp14", results[:1], metric=("pck",)).figures["PCK@0.2 best"] == 0.5, "image 2 has no prediction"


def test_pck_pairs_every_prediction_with_one_person(tmp_path):
    """Two people 5 px apart: one prediction finds only one of them."""
    one, other = standing(LSP), moved(standing(LSP), LSP, **dict.fromkeys(LSP.source_joints, 5))
    path = people_file(tmp_path, LSP, [(one, {}), (other, {})])
    document = json.loads(path.read_text())
    document["annotations"][1]["image_id"] = 1
    path.write_text(json.dumps(document))
    assert measured(path, "lsp14", [result(1, one)], metric=("pck",)).figures["PCK@0.2 best"] == 0.5
    assert measured(path, "lsp14", [result(1, one), result(1, other)], metric=("pck",)).figures["PCK@0.2 top"] == 1


def test_pck_sizes(tmp_path):
    """box: the longer side; head: 0.6 x the diagonal of a head box of 30 x 40 px. Only one of two people has a torso or a head box."""
    lacking = standing(LSP)
    lacking[LSP.source_joints.index("right_hip")] = 0
    path = people_file(
        tmp_path,
        LSP,
        [(standing(LSP), {"bbox": [0, 0, 200, 50], "head_box": [0, 0, 30, 40]}), (lacking, {"bbox": [0, 0, 50, 200]})],
    )
    results = [result(i, moved(standing(LSP), LSP, neck=19.0, head_top=2.9)) for i in (1, 2)]
    box = measured(path, "lsp14", results, metric=("pck",), pck_norm="box")
    assert (
        box.joints["PCK@0.1 best"]["neck"] == 1 and box.joints["PCK@0.05 best"]["neck"] == 0 and box.counts["labeled people"] == 2
    )
    head = measured(path, "lsp14", results, metric=("pck",), pck_norm="head")
    assert head.joints["PCK@0.1 best"]["head_top"] == 1 and head.joints["PCK@0.05 best"]["head_top"] == 0
    assert head.counts == measured(path, "lsp14", results, metric=("pck",)).counts == {
        "labeled people": 1, "people of unknown size left out": 1,
    }  # fmt: skip


def test_pckh_by_hand(tmp_path):
    """A head of 0.6 x 50 px: at 0.5, joints within less than 15 px are right; pelvis and thorax are not in the total."""
    more = {"head_box": [0, 0, 30, 40]}
    one, other = standing(MPII), standing(MPII)
    other[MPII.source_joints.index("left_ankle")] = 0
    path = people_file(tmp_path, MPII, [(one, more), (other, more)])
    wrong = moved(one, MPII, right_ankle=16, pelvis=99, thorax=99, head_top=14.9)
    each = measured(path, "mpii16", [result(1, wrong), result(2, one)], metric=("pckh",))
    assert each.figures["PCKh@0.5 best"] == pytest.approx(26 / 27), "every labeled joint has the same weight"
    assert each.figures["PCKh@0.1 best"] == pytest.approx(25 / 27)
    joints = each.joints["PCKh@0.5 best"]
    assert (joints["right_ankle"], joints["left_ankle"], joints["ankle"], joints["head_top"], joints["pelvis"]) == (
        0.5,
        1,
        0.75,
        1,
        0.5,
    )


@pytest.mark.parametrize(
    ("metric", "skeleton", "reason"),
    [
        ("crowdpose", "lsp14", "p.json: --metric crowdpose needs the keypoints of CrowdPose, left_shoulder"),
        ("crowdpose", "crowdpose14", "image 1 has no crowdIndex; --metric crowdpose needs it"),
        ("ochuman", "lsp14", "--metric ochuman needs the 17 keypoints of COCO"),
        ("pck", "mpii16", "--metric pck --pck-norm torso needs people with left_shoulder and right_hip; this file has none"),
        (
            "pckh",
            "mpii16",
            "--metric pckh needs people with head_box, which `convert` keeps of PoseTrack and of MPII's .mat file; this file has none",
        ),
        ("posetrack", "lsp14", "has no keypoint nose; --metric posetrack needs the 15 joints of PoseTrack 2018"),
        ("posetrack", "posetrack15", "a person of image 1 has no head_box"),
    ],
)
def test_a_metric_for_another_file_is_refused(tmp_path, metric, skeleton, reason):
    skeleton = read_skeleton(skeleton)
    points = standing(skeleton)
    points[skeleton.source_joints.index("right_hip")] = 0
    document = CocoFile(people_file(tmp_path, skeleton, [(points, {})]), skeleton)
    with pytest.raises(UserError, match=reason):
        require_metrics(document, MetricConfig(metric=(metric,)))


def test_wrong_options():
    for options, reason in (({"metric": ("pck", "pck")}, "different names"), ({"pck_norm": "box"}, "needs --metric pck")):
        with pytest.raises(ValueError, match=reason):
            MetricConfig(**options)


def test_what_convert_keeps_is_scored(tmp_path):
    """Head boxes of MPII, and crowd indices of CrowdPose."""
    document, people = format_files.convert(tmp_path / "m", "mpii", format_files.mpii(tmp_path / "mpii"))
    true = next(entry.keypoints for entry in people["a.jpg"] if entry.is_labeled_person)
    path = tmp_path / "m" / "out" / "annotations.json"
    each = measured(path, "mpii16", [result(document["images"][0]["id"], true)], metric=("pckh",))
    assert each.figures["PCKh@0.1 best"] == 1 and each.counts["labeled people"] == 1
    image = {"id": 1, "file_name": "1.jpg", "width": 64, "height": 48, "crowdIndex": 0.9}
    points = format_files.flat(14)
    (tmp_path / "source").mkdir()
    source = format_files.coco(
        tmp_path / "source" / "c.json", [{"keypoints": points, "num_keypoints": 14, "bbox": [5, 10, 14, 14]}], [image]
    )
    format_files.convert(tmp_path / "c", "crowdpose", source)
    figures = measured(
        tmp_path / "c" / "out" / "annotations.json", "crowdpose14", [result(1, points)], metric=("crowdpose",)
    ).figures
    assert figures["AP hard"] == pytest.approx(1) and figures["AP easy"] == UNDEFINED


def test_people_without_keypoints_are_ignored_by_ochuman(tmp_path):
    """`convert` keeps them with their box; a prediction there is neither right nor wrong, elsewhere it is wrong."""
    skeleton = read_skeleton("coco18")
    true = standing(skeleton)
    path = people_file(tmp_path, skeleton, [(true, {}), (true * 0, {"bbox": [150, 50, 300, 200]})])
    found = [result(1, true, 0.5), result(2, true, 0.9)]
    assert measured(path, "coco18", found, metric=("ochuman",)).figures["AP"] == pytest.approx(1)
    elsewhere = [found[0], result(2, np.add(true, (3000, 3000, 0)), 0.9)]
    assert measured(path, "coco18", elsewhere, metric=("ochuman",)).figures["AP"] == pytest.approx(0.5)
