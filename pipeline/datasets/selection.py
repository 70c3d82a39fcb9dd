"""COCO keypoint JSON -> samples. The only filter of people and images."""

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.datasets.coco import Annotation, CocoFile, Image, Segmentation
from pipeline.datasets.licenses import choose_licenses
from pipeline.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class PersonFilter:
    """Who is a target; every other annotated person goes into the ignore mask."""

    min_joints: int = 5
    """A target person has at least so many labeled joints."""
    min_area_px: float = 32 * 32
    """The area of a target person's segment is above this (square pixels of the original image)."""
    min_diagonal_px: float = 0.0
    """The box around a target person's labeled joints has at least this diagonal (pixels of the original image)."""
    neck_joint: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """Where the neck is if one shoulder is unlabeled: nowhere, or at the labeled one, which keeps the two halves of one body in
    five together (`python -m evaluator oracle`: AP 0.01 higher)."""
    licenses: tuple[str, ...] = ()
    """Keep only images under these licenses: ids of the annotation file, or commercial (no NonCommercial clause), adaptable (no
    NoDerivs clause). An image whose license is not listed in the file is then left out. Default: all images."""
    people_free_share: float = 0.0
    """Share of the samples that show no annotated person at all (0 leaves such images out)."""

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
    """One image and its people, in pixels of the original image.

    keypoints: float32 (P, J, 3), target people by falling box diagonal; x and y in pixels, v in {0, 1, 2}; 0, 0, 0 = unlabeled.
    ignored, crowds, people: COCO segmentations of people who are no targets, of crowd regions, of the targets.
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
    """The samples of an annotation file in order of image id, and what became of everything else.

    origin: what the file says of itself (`info`) and of where its licenses stand (`license_urls`, by id).
    """

    samples: list[Sample]
    counts: dict[str, int]
    licenses: dict[int, str]
    origin: dict[str, dict[str, str]]


def read_annotations(path: Path, *, skeleton: Skeleton, person_filter: PersonFilter, seed: int = 0) -> Selection:
    """Read, check and filter a COCO keypoint file (2014 and 2017 have the same form).

    `seed` chooses which people-free images are kept. Raises UserError naming the file, the entry and the field.
    """
    document = CocoFile(path, skeleton)
    counts = Counter({name: 0 for name in ("images_without_target", "images_people_free_dropped", "people_free")})
    allowed = choose_licenses(person_filter.licenses, document.licenses) if person_filter.licenses else None
    samples, people_free = [], []
    for image in document.images:
        if allowed is not None and image.license not in allowed:
            counts["images_of_other_licenses"] += 1
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
    counts["people_free"] = len(order)
    counts["images_people_free_dropped"] = len(people_free) - len(order)
    samples = sorted(samples + [people_free[i] for i in order], key=lambda sample: sample.image_id)
    counts["images_in_file"], counts["images_selected"] = len(document.images), len(samples)
    return Selection(
        samples=samples,
        counts=dict(sorted(counts.items())),
        licenses={id: name for id, (name, _) in document.licenses.items()},
        origin={"info": document.info, "license_urls": {str(id): url for id, (_, url) in document.licenses.items()}},
    )


def add_derived_joints(source: np.ndarray, skeleton: Skeleton, *, one_is_enough: bool) -> np.ndarray:
    """Keypoints in the order of the file, float (P, S, 3) -> float32 (P, J, 3) in the order of the skeleton.

    A derived joint (the neck) is the middle of its two; its v is the smaller of theirs. Where one of them is unlabeled it is
    unlabeled too, or, if `one_is_enough`, the labeled one.
    """
    keypoints = np.zeros((len(source), skeleton.num_joints, 3), np.float32)
    for place, joint in enumerate(skeleton.source_indices):
        if joint >= 0:
            keypoints[:, joint] = source[:, place]
    for joint, first, second in skeleton.derived:
        a, b = (source[:, skeleton.source_joints.index(name)] for name in (first, second))
        both = (a[:, 2:] > 0) & (b[:, 2:] > 0)
        middle = np.concatenate([(a[:, :2] + b[:, :2]) / 2, np.minimum(a[:, 2:], b[:, 2:])], axis=1)
        single = np.where(a[:, 2:] > 0, a, b) * one_is_enough
        keypoints[:, skeleton.index(joint)] = np.where(both, middle, single)
    keypoints[keypoints[..., 2] <= 0] = 0
    return keypoints


def true_keypoints(annotations: Sequence[Annotation], skeleton: Skeleton, *, one_is_enough: bool = False) -> np.ndarray:
    """Annotations of one image -> float32 (P, J, 3): everybody with a labeled joint, crowds apart."""
    source = [a.keypoints for a in annotations if a.is_labeled_person]
    source = np.array(source).reshape(-1, len(skeleton.source_joints), 3)
    return add_derived_joints(source, skeleton, one_is_enough=one_is_enough)


def box_diagonals(keypoints: np.ndarray) -> np.ndarray:
    """float32 (P, J, 3) with a labeled joint each -> (P,): diagonal in pixels of the box around the labeled joints."""
    low, high = joint_boxes(keypoints)
    return np.hypot(*(high - low + 1).T)


def joint_boxes(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (P, J, 3) with a labeled joint each -> the least and the greatest x, y of the labeled joints, (P, 2) each."""
    labeled = keypoints[..., 2:] > 0
    low = np.where(labeled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labeled, keypoints[..., :2], -np.inf).max(axis=1)
    return low, high


def _make_sample(
    image: Image, annotations: list[Annotation], skeleton: Skeleton, person_filter: PersonFilter, counts: Counter
) -> Sample:
    targets, ignored, crowds, people = [], [], [], []
    for annotation in annotations:
        segmentation = annotation.segmentation or _rectangle(annotation.bbox)
        points = annotation.keypoints
        labeled = int(annotation.labeled.sum())
        if annotation.iscrowd:
            counts["people_crowd"] += 1
            crowds.append(segmentation)
        elif labeled >= person_filter.min_joints and _is_large(annotation, person_filter):
            counts["people_target"] += 1
            targets.append(points)
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
