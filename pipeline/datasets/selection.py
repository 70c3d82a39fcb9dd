"""Select the images and people of a COCO keypoint file to train on. All selection rules are in this module."""

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation, Image
from pipeline.datasets.licenses import choose_licenses
from pipeline.datasets.segmentation import Segmentation
from pipeline.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class PersonFilter:
    """Which people are targets; all other annotated people go into the ignore mask."""

    min_joints: int = 5
    """Minimum number of labeled joints of a target person."""
    min_area_px: float = 32 * 32
    """A target person's segmentation has more than this area, in square pixels of the original image."""
    min_diagonal_px: float = 0.0
    """Minimum diagonal of the box around a target person's labeled joints, in pixels of the original image."""
    neck_joint: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """If only one shoulder is labeled: place the neck on it (one_shoulder), or leave the neck unlabeled (both_shoulders).
    one_shoulder keeps the upper and lower body connected for one person in five and raises AP by 0.01 (`python -m evaluator
    oracle`)."""
    licenses: tuple[str, ...] = ()
    """Keep only images under these licenses: ids of the annotation file, or the groups commercial (no NonCommercial clause) and
    adaptable (no NoDerivs clause). Drops images whose license the file does not list. Default: keep all images."""
    people_free_share: float = 0.0
    """Share of the selected images that have no annotated person; 0 drops such images."""

    def __post_init__(self) -> None:
        if self.min_joints < 1:
            raise ValueError(f"min_joints must be at least 1, got {self.min_joints}")
        for name in ("min_area_px", "min_diagonal_px"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.people_free_share < 1:
            raise ValueError(f"people_free_share must be in [0, 1), got {self.people_free_share}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A selected image and its people, in pixels of the original image.

    keypoints: float32 (P, J, 3), target people, largest box diagonal first; x and y in pixels, v in {0, 1, 2}; 0, 0, 0 =
    unlabeled. ignored, crowds, people: COCO segmentations of people who are not targets, of crowd regions, and of the targets.
    source: number of the data set, if there are several.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    license: int
    keypoints: np.ndarray
    ignored: tuple[Segmentation, ...] = ()
    crowds: tuple[Segmentation, ...] = ()
    people: tuple[Segmentation, ...] = ()
    source: int = 0

    @functools.cached_property
    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """`joint_boxes` of the target people."""
        return joint_boxes(self.keypoints)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """`box_diagonals` of the target people."""
        return box_diagonals(self.keypoints)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The selected images of an annotation file, sorted by image id.

    counts: number of images and people by selection rule (`records.rules.count_rules` explains them).
    licenses: name by id. origin: the file's own description (`info`), the URLs of its licenses (`license_urls`, by id), and the
    names of the categories that were used, by id, if there are several.
    """

    samples: list[Sample]
    counts: dict[str, int]
    licenses: dict[int, str]
    origin: dict[str, dict[str, str]]


def read_annotations(
    path: Path, *, skeleton: Skeleton, person_filter: PersonFilter, seed: int = 0, keypoints: tuple[str, ...] = ()
) -> Selection:
    """Read, check and filter a COCO keypoint file (2014 and 2017 have the same format).

    keypoints: how the file calls those of the skeleton, if it has other names. `seed` selects the images without people that are kept. Raises UserError naming the file, the entry and the field.
    """
    document = CocoFile(path, skeleton, keypoints)
    counts = Counter(
        {name: 0 for name in ("images_without_target", "images_without_people_dropped", "images_without_people_kept")}
    )
    allowed = choose_licenses(person_filter.licenses, document.licenses) if person_filter.licenses else None
    samples, people_free = [], []
    for image in document.images:
        if allowed is not None and image.license not in allowed:
            counts["images_other_license"] += 1
            continue
        annotations = document.annotations.get(image.id, [])
        sample = _make_sample(image, annotations, skeleton, person_filter, counts)
        if len(sample.keypoints):
            samples.append(sample)
        elif annotations:
            counts["images_without_target"] += 1
        else:
            people_free.append(sample)
    wanted = round(len(samples) * person_filter.people_free_share / (1 - person_filter.people_free_share))
    order = np.random.default_rng([seed, 0]).permutation(len(people_free))[:wanted]
    counts["images_without_people_kept"] = len(order)
    counts["images_without_people_dropped"] = len(people_free) - len(order)
    samples = sorted(samples + [people_free[i] for i in order], key=lambda sample: sample.image_id)
    counts["images_in_file"], counts["images_selected"] = len(document.images), len(samples)
    counts |= {f"people_without_{field}": count for field, count in document.derived.items() if count}
    return Selection(
        samples=samples,
        counts=dict(sorted(counts.items())),
        licenses={id: name for id, (name, _) in document.licenses.items()},
        origin=_origin(document),
    )


def _origin(document: CocoFile) -> dict[str, dict[str, str]]:
    origin = {"info": document.info, "license_urls": {str(id): url for id, (_, url) in document.licenses.items()}}
    if len(document.categories) > 1:
        origin["categories"] = {str(id): name for id, name in document.categories.items()}
    return origin


def add_derived_joints(source: np.ndarray, skeleton: Skeleton, *, one_is_enough: bool) -> np.ndarray:
    """Convert keypoints in the order of the file, float (P, S, 3), to the order of the skeleton, float32 (P, J, 3).

    A derived joint (the neck) is the midpoint of its two source joints, with the smaller v of the two. If one of them is
    unlabeled, the derived joint is unlabeled too; with `one_is_enough`, it is the labeled one.
    """
    keypoints = np.zeros((len(source), skeleton.num_joints, 3), np.float32)
    for index, joint in enumerate(skeleton.source_indices):
        if joint >= 0:
            keypoints[:, joint] = source[:, index]
    for joint, first, second in skeleton.derived:
        a, b = (source[:, skeleton.source_joints.index(name)] for name in (first, second))
        both = (a[:, 2:] > 0) & (b[:, 2:] > 0)
        midpoint = np.concatenate([(a[:, :2] + b[:, :2]) / 2, np.minimum(a[:, 2:], b[:, 2:])], axis=1)
        single = np.where(a[:, 2:] > 0, a, b) * one_is_enough
        keypoints[:, skeleton.index(joint)] = np.where(both, midpoint, single)
    keypoints[keypoints[..., 2] <= 0] = 0
    return keypoints


def true_keypoints(annotations: Sequence[Annotation], skeleton: Skeleton, *, one_is_enough: bool = False) -> np.ndarray:
    """Return the ground truth of one image, float32 (P, J, 3): all people with a labeled joint, without crowds."""
    people = [a.keypoints for a in annotations if a.is_labeled_person]
    source = np.array(people).reshape(-1, len(skeleton.source_joints), 3)
    return add_derived_joints(source, skeleton, one_is_enough=one_is_enough)


def box_diagonals(keypoints: np.ndarray) -> np.ndarray:
    """Return the diagonal in pixels of the box around each person's labeled joints, (P,).

    keypoints: float32 (P, J, 3); each person needs at least one labeled joint.
    """
    low, high = joint_boxes(keypoints)
    return np.hypot(*(high - low + 1).T)


def joint_boxes(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum and the maximum x, y of each person's labeled joints, (P, 2) each.

    keypoints: float32 (P, J, 3); each person needs at least one labeled joint.
    """
    labeled = keypoints[..., 2:] > 0
    low = np.where(labeled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labeled, keypoints[..., :2], -np.inf).max(axis=1)
    return low, high


def _make_sample(
    image: Image, annotations: list[Annotation], skeleton: Skeleton, person_filter: PersonFilter, counts: Counter
) -> Sample:
    targets: list[np.ndarray] = []
    ignored, crowds, people = [], [], []
    seen = set()
    for annotation in annotations:
        key = annotation.bbox, annotation.keypoints.tobytes()
        if annotation.is_labeled_person and key in seen:
            counts["people_duplicate"] += 1
            continue
        seen.add(key)
        segmentation = annotation.segmentation or _rectangle(annotation.bbox)
        labeled = int(annotation.labeled.sum())
        if annotation.iscrowd:
            counts["crowds"] += 1
            crowds.append(segmentation)
        elif labeled >= person_filter.min_joints and _is_large(annotation, person_filter):
            counts["people_target"] += 1
            targets.append(annotation.keypoints)
            people.append(segmentation)
        else:
            few = labeled < person_filter.min_joints
            counts["people_unlabeled" if not labeled else "people_few_joints" if few else "people_small"] += 1
            ignored.append(segmentation)
    source = np.stack(targets) if targets else np.zeros((0, len(skeleton.source_joints), 3))
    keypoints = add_derived_joints(source, skeleton, one_is_enough=person_filter.neck_joint == "one_shoulder")
    if len(keypoints):
        order = np.argsort(-box_diagonals(keypoints), kind="stable")
        keypoints, people = keypoints[order], [people[i] for i in order]
    return Sample(
        image_id=image.id,
        file_name=image.file_name,
        width=image.width,
        height=image.height,
        license=image.license or 0,
        keypoints=keypoints,
        ignored=tuple(ignored),
        crowds=tuple(crowds),
        people=tuple(people),
    )


def _is_large(annotation: Annotation, person_filter: PersonFilter) -> bool:
    if annotation.area <= person_filter.min_area_px:
        return False
    return not person_filter.min_diagonal_px or box_diagonals(annotation.keypoints[None])[0] >= person_filter.min_diagonal_px


def _rectangle(bbox: tuple[float, float, float, float]) -> list[list[float]]:
    x, y, width, height = bbox
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]
