"""The command `report`: evaluations of one annotation file as one HTML page without external files.

The page consists of the files in evaluator/report/page/ and the data as JSON; the browser draws it. Most of its size is that of the
pictures, whose number is limited.
"""

import itertools
import json
import os
import sys
import urllib.parse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.metrics.analysis import Analysis
from evaluator.metrics.coco_eval import rows_of
from evaluator.metrics.diagnosis import ERRORS
from evaluator.report.config import ReportConfig
from evaluator.report.evaluations import (
    Evaluated,
    analyze_evaluation,
    common_max_images,
    common_skeleton,
    facts_of,
    read_evaluation,
)
from evaluator.report.gallery import choose, describe_image, pictures_of
from evaluator.report.reliability import describe_reliability
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.files import require_folder, write_atomic
from pipeline.storage.folders import require_writable
from pipeline.wording import counted, printable

MARK = "<!doctype html><!-- openpose-mindspore report -->"


def run(config: ReportConfig) -> int:
    """Run the command. Raises UserError for folders, annotations and images that are invalid or do not belong together."""
    out = config.out or config.evaluations[0] / "report.html"
    require_writable(out, f"output file {out}")
    if out.is_dir():
        raise UserError(f"output file {out}: is a folder; give the name of a file, such as {out / 'report.html'}")
    if out.exists() and not _is_report(out):
        raise UserError(f"output file {out}: exists and is not a report; choose another --out")
    if config.images is not None:
        require_folder(config.images, "image folder")
    evaluated = [read_evaluation(folder) for folder in config.evaluations]
    skeleton = common_skeleton(evaluated, config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    document = document.only(choose_images(document, common_max_images(evaluated)))
    shown = Shown(images=config.images, gallery=config.gallery, pictures=config.pictures)
    text, lines = make_page(evaluated, document, shown, out.parent)
    write_atomic(out, text)
    print("\n".join([*lines, f"wrote {out} ({len(text.encode()) / 1e6:.1f} MB); open it in a browser"]))
    return 0


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a page shows; see `ReportConfig`."""

    images: Path | None
    gallery: int
    pictures: int


def make_page(evaluated: list[Evaluated], document: CocoFile, shown: Shown, folder: Path) -> tuple[str, list[str]]:
    """Return the page about evaluations, and lines to print. folder: where the page will be, from which it links to the images.

    Raises UserError if an evaluation matches neither its metrics nor the annotations, and if no image can be read.
    """
    skeleton = document.skeleton
    analyses = [analyze_evaluation(each, document, skeleton) for each in evaluated]
    groups = [choose(analysis.images, shown.gallery) for analysis in analyses]
    in_order = itertools.chain(*groups, *(analysis.images for analysis in analyses))
    pictures = _pictures(shown.images, document, set(itertools.islice(dict.fromkeys(in_order), shown.pictures)))
    runs = [
        _describe_run(each, analysis, chosen, document, skeleton)
        for each, analysis, chosen in zip(evaluated, analyses, groups, strict=True)
    ]
    text = page(describe(document, skeleton, pictures, runs) | {"images": _links(shown.images, folder)})
    lines = []
    for each, analysis, described in zip(evaluated, analyses, runs, strict=True):
        lines.append(f"{each.folder}\n{table(analysis)}")
        if reliability := described["reliability"]:
            written, fitted = (reliability[name]["ece"] for name in ("written", "fitted"))
            lines.append(
                f"expected calibration error of the scores: {written:.4f}; {fitted:.4f} if fitted to the other half of the images"
            )
    return text, lines


def table(analysis: Analysis) -> str:
    """Return the error analysis as text, one line per kind of error."""
    head = f"{'error':<12}{'count':>8}{'AP if fixed':>13}{'cumulative':>12}"
    lines = [head, f"{'none fixed':<20}{analysis.figures['AP']:>13.4f}"]
    for name, error in analysis.errors.items():
        lines.append(f"{name:<12}{error.count:>8}{error.ap_alone:>13.4f}{error.ap_so_far:>12.4f}  {ERRORS[name]}")
    return "\n".join(lines)


def _is_report(path: Path) -> bool:
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK.encode()


def _pictures(folder: Path | None, document: CocoFile, wanted: set[int]) -> dict[str, str]:
    """Return JPEG data URLs by image id and print unreadable images. Raises UserError if no image can be read."""
    if folder is None:
        return {}
    pictures, unreadable = pictures_of([image for image in document.images if image.id in wanted], folder)
    if unreadable and not pictures:
        name, reason = next(iter(unreadable.items()))
        count = counted(len(unreadable), "image")
        raise UserError(f"image folder {folder}: none of the {count} to show can be read, such as {name}: {reason}")
    for name, reason in unreadable.items():
        print(f"unreadable image {printable(name)}: {printable(reason)} (drawn on gray)", file=sys.stderr)
    return pictures


def _links(images: Path | None, folder: Path) -> str | None:
    """Return the URL of the image folder, relative to the page in `folder`."""
    if images is None:
        return None
    return urllib.parse.quote(os.path.relpath(images.resolve(), folder.resolve()))


def describe(document: CocoFile, skeleton: Skeleton, pictures: Mapping[str, str], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data of the page as plain values."""
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
    evaluated: Evaluated, analysis: Analysis, groups: dict[int, list[str]], document: CocoFile, skeleton: Skeleton
) -> dict[str, Any]:
    entries = {image.id: image for image in document.images}
    return {
        "name": str(evaluated.folder),
        "facts": facts_of(evaluated),
        "figures": analysis.figures,
        "rows": rows_of(analysis.figures),
        "reliability": describe_reliability(
            document, evaluated.results, skeleton, evaluated.identity, f"evaluation {evaluated.folder}"
        ),
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
        "others": evaluated.metrics.get("others", {}),
        "numPeople": analysis.areas["all"].num_people,
        "numResults": len(evaluated.results),
        "numUnreadable": len(evaluated.metrics.get("unreadable_images", {})),
        "settings": {name: str(value) for name, value in evaluated.settings.items() if value is not None},
        "gallery": [
            describe_image(image, groups.get(image_id, []), entries[image_id], evaluated.results, skeleton)
            for image_id, image in sorted(analysis.images.items(), key=lambda item: (item[0] not in groups, item[0]))
        ],
    }


def page(data: dict[str, Any]) -> str:
    """Return the whole page. "<" in the data is written as \\u003c, so that no text can close the script element."""
    parts = resources.files("evaluator.report") / "page"
    text = (parts / "report.html").read_text(encoding="utf-8")
    inlined = {
        "MARK": MARK,
        "STYLE": (parts / "report.css").read_text(encoding="utf-8"),
        "SCRIPT": "\n".join(
            (parts / name).read_text(encoding="utf-8")
            for name in ("elements.js", "charts.js", "reliability.js", "others.js", "gallery.js", "large.js", "report.js")
        ),
        "DATA": json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for name, value in inlined.items():
        before, after = text.split(f"@{name}@")
        text = before + value + after
    return text
