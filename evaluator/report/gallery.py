"""The gallery of a report: the images to show, with predictions and ground truth as plain values for the page."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evaluator.metrics.diagnosis import ERRORS, GOOD, JOINT_ERRORS, UNKNOWN, ImageErrors
from evaluator.metrics.results import Results
from pipeline.datasets.coco_entries import Image
from pipeline.datasets.selection import add_derived_joints
from pipeline.images import UnreadableImage, read_image
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton

PICTURE_PX = 640  # longer side of a picture in the page
JPEG_QUALITY = 80
MIN_SHOWN = 0.05  # score of unmatched predictions in pictures; the counts of an image include those below


def choose(images: Mapping[int, ImageErrors], count: int) -> dict[int, list[str]]:
    """Choose the images to look at first; return the names of the groups they are in, by image id.

    The groups are the best, median and worst `count` images by the mean OKS of their people and, for each kind of error, the
    `count` / 4 images with most errors of that kind.
    """
    ranked = sorted((i for i in images if len(images[i].people)), key=lambda i: (-float(images[i].oks.mean()), i))
    middle = max(0, (len(ranked) - count) // 2)
    groups = {
        "best": ranked[:count],
        "median": ranked[middle : middle + count],
        "worst": ranked[max(0, len(ranked) - count) :][::-1],
    }
    counts = {image_id: image.count() for image_id, image in images.items()}
    for kind in ERRORS:
        most = sorted((i for i in images if counts[i][kind]), key=lambda i: (-counts[i][kind], i))
        groups[f"most {kind}"] = most[: -(-count // 4)]
    chosen: dict[int, list[str]] = {}
    for name, ids in groups.items():
        for image_id in ids:
            chosen.setdefault(image_id, []).append(name)
    return chosen


def pictures_of(images: Sequence[Image], folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read the images one by one. Returns JPEG data URLs by image id, and reasons for unreadable images by file name.

    The longer side of a picture is at most PICTURE_PX.
    """
    pictures, unreadable = {}, {}
    for image in progress_bar(images, desc="reading pictures", unit="image"):
        try:
            pixels = read_image(folder / image.file_name, image.size_wh)
        except UnreadableImage as error:
            unreadable[image.file_name] = str(error)
            continue
        scale = PICTURE_PX / max(pixels.shape[:2])
        if scale < 1:
            size = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        encoded, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert encoded, image.file_name
        pictures[str(image.id)] = "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
    return pictures, unreadable


def describe_image(
    image: ImageErrors, groups: Sequence[str], entry: Image, results: Results, skeleton: Skeleton
) -> dict[str, Any]:
    """Return one image for the page. Points are [x, y, v] of each joint of the skeleton, x and y in pixels of the image."""
    person_of = {int(row): person for person, row in enumerate(image.found_by) if row >= 0}
    predicted = []
    for row, (place, fate) in enumerate(zip(image.places, image.fates, strict=True)):
        if fate in ("false", "ignored") and results[place]["score"] < MIN_SHOWN:
            continue
        points = np.reshape(results[place]["keypoints"], (-1, 3))
        predicted.append(
            {"fate": fate, "score": round(results[place]["score"], 3), "oks": round(float(image.best_oks[row]), 3)}
            | _describe_points(points, image, person_of.get(row), skeleton)
        )
    true = [
        {"missed": bool(image.found_by[person] < 0), "oks": round(float(image.oks[person]), 3)}
        | _describe_points(annotation.keypoints, image, person, skeleton)
        for person, annotation in enumerate(image.people)
    ]
    return {
        "id": image.image_id,
        "file": entry.file_name,
        "size": list(entry.size_wh),
        "groups": groups,
        "oks": round(float(image.oks.mean()), 4) if len(image.people) else None,
        "counts": {kind: count for kind, count in image.count().items() if count},
        "predicted": predicted,
        "true": true,
    }


def _describe_points(source: np.ndarray, image: ImageErrors, person: int | None, skeleton: Skeleton) -> dict[str, Any]:
    """Return the points of a person, the error of each joint ("" for none), and its similarity (None if unknown)."""
    points = add_derived_joints(np.asarray(source, np.float64)[None], skeleton, one_is_enough=True)[0]
    errors = [""] * skeleton.num_joints
    similarity: list[float | None] = [None] * skeleton.num_joints
    names = [*JOINT_ERRORS, ""]
    for place, joint in enumerate(skeleton.source_indices):
        code = UNKNOWN if person is None else int(image.joint_errors[person, place])
        if joint >= 0 and code != UNKNOWN:
            errors[joint] = names[min(code, GOOD)]
            similarity[joint] = round(float(image.similarity[person, place]), 3)
    return {
        "points": [[round(float(x), 1), round(float(y), 1), int(v > 0)] for x, y, v in points],
        "errors": errors,
        "similarity": similarity,
    }
