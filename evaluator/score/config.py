"""Options of the command `score`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from evaluator.metrics.config import MetricConfig
from evaluator.options import Metrics


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Score COCO keypoint results of any program: COCO's metrics, those of other data sets, error analysis and report.

    The figures are those of pycocotools. Several files are shown beside each other.

    Example: python -m evaluator score --results theirs.json ours.json --annotations person_keypoints_val2017.json --out scored
    """

    results: tuple[Path, ...]
    """Results files: lists of objects with image_id, category_id, keypoints and, unless all are equal, score."""
    annotations: Path
    """COCO keypoint annotation file for which the results were computed."""
    out: Path | None = None
    """Folder for results.json, metrics.json, evaluation.json, config.yaml and report.html; absent or empty. With several files, one
    folder in it per file. Default: write no files."""
    images: Path | None = None
    """Folder of the images; only needed for pictures in the report."""
    skeleton: Path | None = None
    """Skeleton of the annotation file (`build --skeleton`). Default: the shipped one with its keypoints."""
    metrics: Metrics = field(default_factory=MetricConfig)

    def __post_init__(self) -> None:
        if not self.results:
            raise ValueError("results must be at least one file, got none")
        if len(set(self.results)) != len(self.results):
            raise ValueError(f"results must be different files, got {[str(path) for path in self.results]}")
        if self.images is not None and self.out is None:
            raise ValueError("--images needs --out; the pictures are in the report")
