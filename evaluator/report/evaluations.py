"""Reading the output folders of evaluations, and checking that they can be compared."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.jobs.documents import read_identity, read_metrics
from evaluator.jobs.partial import EVALUATION
from evaluator.metrics.analysis import Analysis, analyze
from evaluator.metrics.checks import MismatchError, read_results
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18, is_shipped, read_skeleton
from pipeline.storage.documents import convert, read_yaml
from pipeline.storage.files import file_facts
from pipeline.wording import counted
from trainer.run.checkpoint import list_checkpoints, read_info

FIGURES_TOLERANCE = 1e-6
EXPECTED_FOLDER = "give the --out folder of `python -m evaluator run`"


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The contents of the output folder of an evaluation. identity: evaluation.json, empty for an output of `oracle`."""

    folder: Path
    identity: dict[str, Any]
    results: Results
    metrics: dict[str, Any]
    settings: dict[str, Any]


def read_evaluation(folder: Path) -> Evaluated:
    """Read an output folder. Raises UserError if it is not a complete evaluation."""
    if not folder.is_dir():
        raise UserError(f"evaluation {folder}: no such folder; {EXPECTED_FOLDER}")
    if not (folder / "metrics.json").exists():
        raise UserError(f"evaluation {folder}: contains no metrics.json; {EXPECTED_FOLDER}")
    path = folder / EVALUATION
    try:
        return Evaluated(
            folder=folder,
            identity=read_identity(path, "evaluation") if path.is_file() else {},
            results=read_results(folder / "results.json"),
            metrics=read_metrics(folder / "metrics.json"),
            settings=read_yaml(folder / "config.yaml", "settings", dict[str, Any]),
        )
    except UserError as error:
        raise UserError(f"{error}; restore the file, or repeat the evaluation") from error


def facts_of(evaluated: Evaluated) -> dict[str, str]:
    """Return what the header of the page says about an evaluation, by name, as far as it is known."""
    identity, metrics = evaluated.identity, evaluated.metrics
    facts = {
        "checkpoint": evaluated.settings.get("checkpoint"),
        "step": f"{identity['step']:,}" if isinstance(identity.get("step"), int) else None,
        "epoch": identity.get("epoch"),
        "SHA-256": identity.get("checkpoint", "")[:12],
        "device": identity.get("device"),
        "evaluated": metrics.get("evaluated", "").replace("T", " ").replace("+00:00", " UTC"),
        "version": metrics.get("version"),
        "scores": ("calibrated" if identity["calibration"] else "not calibrated") if "calibration" in identity else None,
    }
    return {name: str(value) for name, value in facts.items() if value not in (None, "")}


def skeleton_of(evaluated: Evaluated) -> Skeleton:
    """Return the skeleton of an evaluation.

    It is taken from evaluation.json, else from the checkpoint or the skeleton in the settings, as far as they exist. If
    none of them does, the skeleton is COCO's; annotations with other keypoints are then rejected.
    """
    if "skeleton" in evaluated.identity:
        return Skeleton.from_dict(evaluated.identity["skeleton"], f"evaluation {evaluated.folder / EVALUATION}: skeleton")
    checkpoint, file = (evaluated.settings.get(name) for name in ("checkpoint", "skeleton"))
    convert([checkpoint, file], list[str | None], f"settings {evaluated.folder / 'config.yaml'}: checkpoint and skeleton")
    if checkpoint and os.path.isdir(checkpoint):  # False for names that no file can have
        checkpoint = next(iter(list_checkpoints(Path(checkpoint))), None)
    if checkpoint and os.path.isfile(checkpoint):
        return Skeleton.from_dict(read_info(Path(checkpoint)).skeleton, f"checkpoint {checkpoint}: skeleton")
    return read_skeleton(Path(file)) if file and (is_shipped(file) or os.path.isfile(file)) else COCO18


def common_skeleton(evaluated: list[Evaluated], file: Path | None) -> Skeleton:
    """Return the skeleton of the evaluations, that of `file` if given; the first one if several networks were scored on one file.

    Raises UserError if their keypoints or OKS constants differ.
    """
    if file:
        return read_skeleton(file)
    skeletons = [skeleton_of(each) for each in evaluated]
    for each, skeleton in zip(evaluated, skeletons, strict=True):
        if (skeleton.source_joints, skeleton.sigmas) != (skeletons[0].source_joints, skeletons[0].sigmas):
            raise UserError(
                f"evaluation {each.folder}: its skeleton {skeleton.name!r} differs from that of {evaluated[0].folder}, "
                f"{skeletons[0].name!r}; write a report for each of them"
            )
    return skeletons[0]


def common_max_images(evaluated: list[Evaluated]) -> int | None:
    """Return --max-images of all evaluations; None for all images. Raises UserError if they differ."""
    values = {each.folder: each.identity.get("max_images") for each in evaluated}
    if len(set(values.values())) > 1:
        listed = ", ".join(f"{folder}: {number or 'all'}" for folder, number in values.items())
        raise UserError(f"evaluations of different images cannot be compared (--max-images: {listed}); write a report for each")
    return next(iter(values.values()))


def analyze_evaluation(evaluated: Evaluated, document: CocoFile, skeleton: Skeleton) -> Analysis:
    """Analyze the errors of an evaluation. Raises UserError if its results match neither its metrics nor the annotations."""
    try:
        analysis = analyze(document, evaluated.results, skeleton)
        _require_same_figures(evaluated, analysis, document)
    except MismatchError as error:
        is_same = evaluated.identity.get("annotations") == file_facts(document.path)["sha256"]
        if not is_same or skeleton_of(evaluated) != skeleton:
            raise
        raise UserError(
            f"{error.problem}; the annotation file is that of the evaluation, so results.json, metrics.json or {EVALUATION} in "
            f"{evaluated.folder} was damaged or edited; repeat the evaluation"
        ) from error
    return analysis


def _require_same_figures(evaluated: Evaluated, analysis: Analysis, document: CocoFile) -> None:
    """Raise MismatchError unless the metrics computed from the results are those that the evaluation stored."""
    num_images = evaluated.metrics.get("num_images", len(document.images))
    if num_images != len(document.images):
        raise MismatchError(
            f"evaluation {evaluated.folder}: has {counted(num_images, 'image')}, but annotation file {document.path} has "
            f"{len(document.images)}",
            "give the annotation file of the evaluation",
        )
    for name, value in analysis.figures.items():
        stored = evaluated.metrics["figures"].get(name)
        if not isinstance(stored, (int, float)) or abs(stored - value) > FIGURES_TOLERANCE:
            raise MismatchError(
                f"evaluation {evaluated.folder}: metrics.json has {name} {stored}, but its results score {value:.6f} with "
                f"annotation file {document.path}",
                "give the annotation file (and --skeleton) of the evaluation",
            )
