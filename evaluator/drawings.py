"""Pictures of an evaluation: predictions beside ground truth. Images are uint8 RGB."""

import numpy as np

from evaluator.decoding import People
from pipeline.draw import draw_people, label, sheet
from pipeline.skeleton import Skeleton


def best_and_worst(image_oks: dict[int, float], count: int) -> list[tuple[str, int]]:
    """Return (name, image id) of the `count` best and the `count` worst images; no image occurs twice."""
    ranked = sorted(image_oks, key=lambda image_id: (-image_oks[image_id], image_id))
    count = min(count, len(ranked))
    best = [(f"best-{rank:02d}-oks{image_oks[i]:.2f}-{i:012d}", i) for rank, i in enumerate(ranked[:count], start=1)]
    worst_ids = ranked[max(count, len(ranked) - count) :][::-1]
    worst = [(f"worst-{rank:02d}-oks{image_oks[i]:.2f}-{i:012d}", i) for rank, i in enumerate(worst_ids, start=1)]
    return best + worst


def draw_found(image: np.ndarray, people: People, skeleton: Skeleton, min_score: float) -> np.ndarray:
    """Return a copy of the image with all people of at least that score."""
    return draw_people(image, people.keypoints[people.scores >= min_score], skeleton)


def compare(
    image: np.ndarray, people: People, ground_truth: np.ndarray, skeleton: Skeleton, min_score: float, oks: float
) -> np.ndarray:
    """Draw the prediction on the left and the ground truth on the right.

    ground_truth: keypoints float32 (P, J, 3). oks: mean OKS of the image, for the caption.
    """
    num_drawn = int((people.scores >= min_score).sum())
    predicted = label(
        draw_found(image, people, skeleton, min_score),
        f"prediction: {num_drawn} with score of at least {min_score:g}, mean OKS {oks:.2f}",
    )
    true = label(draw_people(image, ground_truth, skeleton), f"ground truth: {len(ground_truth)}")
    return sheet([predicted, true], 2)
