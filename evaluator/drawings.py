"""Pictures of evaluations: predictions beside ground truth, metrics by step. Images are uint8 RGB."""

from typing import Any

import numpy as np

from pipeline.draw import draw_people, label, sheet
from pipeline.skeleton import Skeleton
from trainer.run.curves import draw_metrics


def best_and_worst(image_oks: dict[int, float], count: int) -> list[tuple[str, int]]:
    """Return (name, image id) of the `count` best and the `count` worst images; no image occurs twice."""
    ranked = sorted(image_oks, key=lambda image_id: (-image_oks[image_id], image_id))
    count = min(count, len(ranked))
    best = [(f"best-{rank:02d}-oks{image_oks[i]:.2f}-{i:012d}", i) for rank, i in enumerate(ranked[:count], start=1)]
    worst_ids = ranked[max(count, len(ranked) - count) :][::-1]
    worst = [(f"worst-{rank:02d}-oks{image_oks[i]:.2f}-{i:012d}", i) for rank, i in enumerate(worst_ids, start=1)]
    return best + worst


def compare(image: np.ndarray, prediction: tuple[np.ndarray, str], ground_truth: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Draw the prediction, keypoints float32 (N, J, 3) with a caption, on the left and the ground truth, (P, J, 3), on the right."""
    keypoints, caption = prediction
    predicted = label(draw_people(image, keypoints, skeleton), caption)
    true = label(draw_people(image, ground_truth, skeleton), f"ground truth: {len(ground_truth)}")
    return sheet([predicted, true], 2)


def draw_board(entries: list[dict[str, Any]], metric: str) -> bytes:
    """Return a PNG of metrics, `metric` among them, by step. entries: of a leaderboard, in any order; failed ones are left out."""
    done = {entry["step"]: entry["figures"] for entry in entries if "figures" in entry}
    steps = sorted(done)
    names = [metric, *(name for name in ("AP", "AP .5", "AP .75", "AR") if name != metric)]
    return draw_metrics({name: (steps, [done[step].get(name, 0.0) for step in steps]) for name in names})
