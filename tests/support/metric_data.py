"""Annotations and predictions of many people, for the metrics of several data sets."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton


def write_people(
    folder: Path, skeleton: Skeleton, num_images: int = 24, seed: int = 0, **of_people: Any
) -> tuple[Path, list[dict[str, Any]]]:
    """Write an annotation file of random people, and return it with predictions of varied quality, some of them false.

    of_people: further fields of every annotation. Some joints are unlabeled, some people are crowds, and some predictions lack joints.
    Images have a crowdIndex.
    """
    rng, num_joints = np.random.default_rng(seed), len(skeleton.source_joints)
    images, annotations, results = [], [], []
    for image_id in range(1, num_images + 1):
        images.append(
            {"id": image_id, "file_name": f"{image_id}.jpg", "width": 640, "height": 480, "crowdIndex": image_id / num_images}
        )
        for _ in range(rng.integers(0, 4)):
            size = rng.uniform(40, 250)
            points = rng.uniform(0, size, (num_joints, 2)) + rng.uniform(0, 200, 2)
            v = rng.choice([0, 1, 2], num_joints, p=[0.2, 0.3, 0.5])
            low, high = points.min(axis=0), points.max(axis=0)
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": int(rng.random() < 0.1)}
            annotation["keypoints"] = np.column_stack([points * (v > 0)[:, None], v]).round(2).ravel().tolist()
            annotation |= {"num_keypoints": int((v > 0).sum()), "bbox": [*low.round(2), *(high - low).round(2)]}
            annotation["area"] = round(0.6 * annotation["bbox"][2] * annotation["bbox"][3], 2)
            annotations.append(annotation | of_people)
            for noise in rng.choice([0.01, 0.05, 0.1, 0.2], rng.choice([0, 1, 2], p=[0.1, 0.7, 0.2])):
                moved = points + rng.normal(0, noise * size, points.shape)
                found = rng.random(num_joints) < 0.9
                results.append(_result(image_id, moved, found, rng.random() + 0.5 - noise))
        if rng.random() < 0.3:
            results.append(_result(image_id, rng.uniform(0, 400, (num_joints, 2)), np.ones(num_joints, bool), rng.random()))
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.source_joints)}],
    }
    path = folder / f"{skeleton.name}.json"
    path.write_text(json.dumps(document))
    return path, results


def _result(image_id: int, points: np.ndarray, found: np.ndarray, score: float) -> dict[str, Any]:
    keypoints = np.column_stack([points, found]).round(2).ravel().tolist()
    return {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": round(float(score), 4)}


def crowdpose(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Write annotations as CrowdPose's: without area; some people have num_keypoints 0, with labeled joints."""
    path, results = write_people(folder, read_skeleton("crowdpose14"), num_images=40, seed=1)
    document = json.loads(path.read_text())
    for number, annotation in enumerate(document["annotations"]):
        del annotation["area"]
        if number % 7 == 0:
            annotation["num_keypoints"] = 0
    path.write_text(json.dumps(document))
    return path, results


def posetrack(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Write annotations as `convert` writes PoseTrack's: head boxes, ears unlabeled, crowds are polygons; joints have confidences."""
    path, results = write_people(folder, read_skeleton("posetrack15"), num_images=40, seed=2)
    document, rng = json.loads(path.read_text()), np.random.default_rng(3)
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["head_box"] = [x, y, round(0.4 * width, 2), round(0.4 * height, 2)]
        for ear in (3, 4):
            annotation["keypoints"][3 * ear : 3 * ear + 3] = [0, 0, 0]
        if annotation["iscrowd"]:
            annotation["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    for entry in results:
        entry["confidences"] = rng.random(len(entry["keypoints"]) // 3).round(8).tolist()
    path.write_text(json.dumps(document))
    return path, results


def mpii(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Write annotations as `convert` writes MPII's, with head boxes."""
    return write_people(folder, read_skeleton("mpii16"), head_box=[10, 10, 30, 40])


def single_people(folder: Path, skeleton: Skeleton) -> tuple[Path, list[dict[str, Any]]]:
    """Write annotations of one person per image, with a labeled torso and a head box; every joint is predicted about 12 px away."""
    path, _ = write_people(folder, skeleton, num_images=300, seed=7, head_box=[10, 10, 30, 40])
    document, rng = json.loads(path.read_text()), np.random.default_rng(4)
    torso = [skeleton.source_joints.index(joint) for joint in ("left_shoulder", "right_hip")]
    people: dict[int, dict[str, Any]] = {}
    for annotation in document["annotations"]:
        if not annotation["iscrowd"] and all(annotation["keypoints"][3 * joint + 2] for joint in torso):
            people.setdefault(annotation["image_id"], annotation)
    document["annotations"] = list(people.values())
    path.write_text(json.dumps(document))
    predicted = np.array([np.reshape(annotation["keypoints"], (-1, 3)) for annotation in people.values()])
    predicted[..., :2] += rng.normal(0, 12, predicted[..., :2].shape)
    predicted[..., 2] = 1
    results = [
        {"image_id": image_id, "category_id": 1, "keypoints": points.ravel().tolist(), "score": 0.5}
        for image_id, points in zip(people, predicted, strict=True)
    ]
    return path, results
