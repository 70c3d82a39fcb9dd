"""Pictures of an evaluation: what was found beside what is true. Images are uint8 RGB."""

from pathlib import Path

import cv2
import numpy as np

from evaluator.decoding.decode import People
from pipeline.draw import draw_people, label, sheet
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton


def best_and_worst(image_oks: dict[int, float], count: int) -> list[tuple[str, int]]:
    """(name, image id) of the `count` best and the `count` worst images, none twice."""
    ranked = sorted(image_oks, key=lambda image_id: (-image_oks[image_id], image_id))
    count = min(count, len(ranked))
    best = [(f"best-{rank:02d}-oks{image_oks[i]:.2f}-{i:012d}", i) for rank, i in enumerate(ranked[:count], start=1)]
    worst_ids = ranked[max(count, len(ranked) - count) :][::-1]
    worst = [(f"worst-{rank:02d}-oks{image_oks[i]:.2f}-{i:012d}", i) for rank, i in enumerate(worst_ids, start=1)]
    return best + worst


def draw_found(image: np.ndarray, people: People, skeleton: Skeleton, min_score: float) -> np.ndarray:
    """A copy of the image with everybody of at least that score."""
    return draw_people(image, people.keypoints[people.scores >= min_score], skeleton)


def compare(image: np.ndarray, people: People, truth: np.ndarray, skeleton: Skeleton, min_score: float, oks: float) -> np.ndarray:
    """Found on the left, true keypoints float32 (P, J, 3) on the right."""
    num_drawn = int((people.scores >= min_score).sum())
    found = label(
        draw_found(image, people, skeleton, min_score), f"found: {num_drawn} of score {min_score:g} or more, mean OKS {oks:.2f}"
    )
    true = label(draw_people(image, truth, skeleton), f"true: {len(truth)}")
    return sheet([found, true], 2)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Raises UserError where the picture cannot be written."""
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise UserError(f"picture {path}: cannot be encoded")
    path.write_bytes(data)
