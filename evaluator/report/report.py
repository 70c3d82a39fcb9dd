"""The command `report`: evaluations of one annotation file as one HTML page that needs nothing beside it.

The page is three files of evaluator/page/ put together with the data as JSON; it is drawn by the browser. Its size depends on the
number of pictures, not on that of the images.
"""

import json
import sys
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
import yaml

from evaluator.jobs.partial import EVALUATION
from evaluator.jobs.run import choose_images
from evaluator.metrics.analysis import Analysis, analyze
from evaluator.metrics.checks import read_results
from evaluator.metrics.diagnosis import ERRORS
from evaluator.metrics.results import Results
from evaluator.report.gallery import choose, pictures_of, shown
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.files import read_json, write_atomic
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18, read_skeleton
from trainer.run.checkpoint import list_checkpoints, read_info

MARK = "<!doctype html><!-- openpose-mindspore report -->"
MAX_GALLERY = 200
SAME_FIGURES = 1e-6


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """A page about evaluations: figures, precision-recall curves, joints, what the losses are made of and what mending each kind
    of error would give, and a gallery of best, median and worst images with what was found beside what is true.

    Example: python -m evaluator report ap --annotations person_keypoints_val2017.json --images val2017

    Several evaluations of the same annotation file are compared: python -m evaluator report ap-first ap-second --annotations ...
    """

    evaluations: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders that `run` (or `oracle --out`) has written."""
    annotations: Path
    """COCO keypoint annotation file of these evaluations."""
    images: Path | None = None
    """Folder of the images; without it skeletons are shown on gray."""
    out: Path | None = None
    """HTML file to write. Default: report.html in the (first) folder. An earlier report is replaced, another file is not."""
    skeleton: Path | None = None
    """Keypoints other than COCO's, if the evaluation's checkpoint is not there any more: the file that `build --skeleton` took."""
    gallery: int = 12
    """So many of the best, of the median and of the worst images; a quarter as many again with the most errors of each kind."""

    def __post_init__(self) -> None:
        if not self.evaluations:
            raise ValueError("evaluations must be at least one folder, got none")
        if not 0 <= self.gallery <= MAX_GALLERY:
            raise ValueError(f"gallery must be from 0 to {MAX_GALLERY}, got {self.gallery}")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What is in an evaluation's folder."""

    folder: Path
    results: Results
    metrics: dict[str, Any]
    settings: dict[str, Any]


def run(config: ReportConfig) -> int:
    """Raises UserError for folders, annotations and images that cannot be used or do not belong together."""
    out = config.out or config.evaluations[0] / "report.html"
    if out.exists() and not _is_report(out):
        raise UserError(f"output file {out}: there already, and not a report; give another --out")
    if config.images is not None and not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder")
    evaluated = [read_evaluation(folder) for folder in config.evaluations]
    skeletons = [read_skeleton(config.skeleton) if config.skeleton else skeleton_of(each) for each in evaluated]
    for each, skeleton in zip(evaluated, skeletons, strict=True):
        if skeleton != skeletons[0]:
            raise UserError(
                f"evaluation {each.folder}: its skeleton {skeleton.name!r} is not that of {evaluated[0].folder}, "
                f"{skeletons[0].name!r}; report them apart"
            )
    document = CocoFile(config.annotations, skeletons[0])
    document = document.only(choose_images(document, _max_images(evaluated)))
    analyses = [analyze(document, each.results, skeletons[0]) for each in evaluated]
    for each, analysis in zip(evaluated, analyses, strict=True):
        _require_same_figures(each, analysis, document)
    galleries = [choose(analysis.images, config.gallery) for analysis in analyses]
    pictures = _pictures(config, document, {image_id for gallery in galleries for image_id in gallery})
    runs = [
        _describe_run(each, analysis, gallery, document, skeletons[0])
        for each, analysis, gallery in zip(evaluated, analyses, galleries, strict=True)
    ]
    text = page(describe(document, skeletons[0], pictures, runs))
    write_atomic(out, text)
    for each, analysis in zip(evaluated, analyses, strict=True):
        print(f"{each.folder}\n{table(analysis)}")
    print(f"{out}: {len(text.encode()) / 1e6:.1f} MB; open it in a browser")
    return 0


def table(analysis: Analysis) -> str:
    """The error analysis, a line for each kind."""
    lines = [f"{'error':<12}{'number':>8}{'AP alone':>10}{'AP so far':>11}", f"{'as it is':<20}{analysis.figures['AP']:>10.4f}"]
    for name, error in analysis.errors.items():
        lines.append(f"{name:<12}{error.count:>8}{error.ap_alone:>10.4f}{error.ap_so_far:>11.4f}  {ERRORS[name]}")
    return "\n".join(lines)


def _is_report(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()


def read_evaluation(folder: Path) -> Evaluated:
    """Raises UserError where `folder` is not a whole evaluation."""
    if not folder.is_dir():
        raise UserError(f"evaluation {folder}: no such folder; give the --out folder of `python -m evaluator run`")
    if not (folder / "metrics.json").exists():
        raise UserError(f"evaluation {folder}: there is no metrics.json; give the --out folder of `python -m evaluator run`")
    metrics = read_json(folder / "metrics.json", "metrics of an evaluation")
    if not isinstance(metrics, dict) or not isinstance(metrics.get("figures"), dict):
        raise UserError(f"metrics of an evaluation {folder / 'metrics.json'}: expected an object with the object figures")
    try:
        settings = yaml.safe_load((folder / "config.yaml").read_text())
    except OSError as error:
        raise UserError(f"settings {folder / 'config.yaml'}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"settings {folder / 'config.yaml'}: not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"settings {folder / 'config.yaml'}: expected a mapping of option names to values")
    return Evaluated(folder=folder, results=read_results(folder / "results.json"), metrics=metrics, settings=settings)


def skeleton_of(evaluated: Evaluated) -> Skeleton:
    """That of its evaluation.json; else the checkpoint's, or that of the skeleton file, as its settings name them; COCO's where
    none of them is there, which other annotations than COCO's will refuse."""
    if "skeleton" in (identity := _identity(evaluated)):
        return Skeleton.from_dict(identity["skeleton"])
    checkpoint, file = (evaluated.settings.get(name) for name in ("checkpoint", "skeleton"))
    if checkpoint and Path(checkpoint).is_dir():
        checkpoint = next(iter(list_checkpoints(Path(checkpoint))), None)
    if checkpoint and Path(checkpoint).is_file():
        return Skeleton.from_dict(read_info(Path(checkpoint)).skeleton)
    return read_skeleton(Path(file)) if file and Path(file).is_file() else COCO18


def _identity(evaluated: Evaluated) -> dict[str, Any]:
    """What its evaluation.json says; empty where it has none."""
    about = evaluated.folder / EVALUATION
    return read_json(about, "evaluation") if about.is_file() else {}


def _max_images(evaluated: list[Evaluated]) -> int | None:
    """How many images were chosen for these evaluations; None for all."""
    asked = {each.folder: _identity(each).get("max_images") for each in evaluated}
    if len(set(asked.values())) > 1:
        told = ", ".join(f"{folder}: {number or 'all'}" for folder, number in asked.items())
        raise UserError(f"evaluations of different images (--max-images {told}) cannot be compared; report them apart")
    return next(iter(asked.values()))


def _require_same_figures(evaluated: Evaluated, analysis: Analysis, document: CocoFile) -> None:
    counted = evaluated.metrics.get("num_images", len(document.images))
    if counted != len(document.images):
        raise UserError(
            f"evaluation {evaluated.folder}: is of {counted} images, annotation file {document.path} has {len(document.images)}; "
            "give the annotation file that it was scored with"
        )
    for name, value in analysis.figures.items():
        told = evaluated.metrics["figures"].get(name)
        if not isinstance(told, (int, float)) or abs(told - value) > SAME_FIGURES:
            raise UserError(
                f"evaluation {evaluated.folder}: its metrics say {name} {told}, its results score {value:.6f} on annotation file "
                f"{document.path}; give the annotation file (and --skeleton) that it was scored with"
            )


def _pictures(config: ReportConfig, document: CocoFile, wanted: set[int]) -> dict[str, str]:
    """JPEG data URLs by image id. Images that cannot be read are named; raises UserError where none can."""
    if config.images is None:
        return {}
    pictures, unreadable = pictures_of([image for image in document.images if image.id in wanted], config.images)
    if unreadable and not pictures:
        name, reason = next(iter(unreadable.items()))
        raise UserError(f"image folder {config.images}: none of {len(unreadable)} images can be read, such as {name}: {reason}")
    for name, reason in unreadable.items():
        print(f"unreadable image {name}: {reason}; shown on gray", file=sys.stderr)
    return pictures


def describe(document: CocoFile, skeleton: Skeleton, pictures: dict[str, str], runs: list[dict]) -> dict[str, Any]:
    """All that the page shows, as plain values."""
    return {
        "annotations": document.path.name,
        "numImages": len(document.images),
        "errors": ERRORS,
        "skeleton": {
            "name": skeleton.name,
            "joints": skeleton.joints,
            "limbs": skeleton.limb_joints.tolist(),
            "jointColors": skeleton.joint_colors,
            "limbColors": skeleton.limb_colors,
        },
        "pictures": pictures,
        "runs": runs,
    }


def _describe_run(
    evaluated: Evaluated, analysis: Analysis, gallery: dict[int, list[str]], document: CocoFile, skeleton: Skeleton
) -> dict[str, Any]:
    files = {image.id: image for image in document.images}
    return {
        "name": str(evaluated.folder),
        "figures": analysis.figures,
        "areas": {name: asdict(area) for name, area in analysis.areas.items()},
        "curves": {
            f"{threshold:.2f}": np.maximum(precision, 0).round(4).tolist()
            for threshold, precision in zip(analysis.thresholds, analysis.precision, strict=True)
        },
        "errors": {name: asdict(figures) for name, figures in analysis.errors.items()},
        "joints": {
            name: {key: None if value != value else value for key, value in asdict(figures).items()}
            for name, figures in analysis.joints.items()
        },
        "numPeople": analysis.areas["all"].num_people,
        "numResults": len(evaluated.results),
        "numUnreadable": len(evaluated.metrics.get("unreadable_images", {})),
        "settings": {name: str(value) for name, value in evaluated.settings.items() if value is not None},
        "gallery": [
            shown(analysis.images[image_id], groups, files[image_id], evaluated.results, skeleton)
            for image_id, groups in gallery.items()
        ],
    }


def page(data: dict[str, Any]) -> str:
    """The whole page. No text of the data can end its element: "<" stands there as \\u003c."""
    parts = resources.files("evaluator.report") / "page"
    text = (parts / "report.html").read_text(encoding="utf-8")
    inlined = {
        "MARK": MARK,
        "STYLE": (parts / "report.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join((parts / name).read_text(encoding="utf-8") for name in ("charts.js", "gallery.js", "report.js")),
        "DATA": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for name, value in inlined.items():
        before, after = text.split(f"@{name}@")
        text = before + value + after
    return text
