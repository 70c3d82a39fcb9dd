"""Which settings of the decoder suit networks that they were not chosen on? AP by leave-one-network-out cross-validation.

    python tests/studies/decoder_study.py --out study first=runs/first:val.json:val2017 second=runs/second:val.json:val2017:200

Networks are given as NAME=CHECKPOINT:ANNOTATIONS:IMAGES or NAME=CHECKPOINT:ANNOTATIONS:IMAGES:INSIZE, stored fields as
NAME=FIELDS.npz:ANNOTATIONS. CHECKPOINT is a file or a run folder. Use images on which the networks were not trained, networks from
weak to good (early checkpoints count), and at least three run folders: networks of one run folder are left out together.

Decodes the fields of each network with the settings that `tune` tries and with single changes of the others. Prints tables, which are also
in OUT/decoder.md. The first lists for each network the AP with the defaults, with the settings that are best for it ("own", and the same
with cross-validation over its images), and with those that have the highest mean gain on the other networks, and the CPU time of
decoding an image. The second lists the gain over the defaults of the best settings, and of all single changes. --unseen
NAME=ANNOTATIONS:IMAGES compares the AP that `tune` expects for a network with the AP of its settings on other images. Fields and AP
are kept in OUT; an interrupted study continues.
"""

import argparse
import dataclasses
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from network_fields import FORM, Source, fields_of, parse

from evaluator.decoding import DecodeConfig, People
from evaluator.inference.fields import find_people
from evaluator.inference.stored_fields import StoredFields
from evaluator.jobs.results_version import RESULTS_VERSION
from evaluator.metrics.coco_eval import evaluate
from evaluator.metrics.results import to_results
from evaluator.tuning.search import Choice, candidates, choose
from pipeline.datasets.coco import CocoFile
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton
from pipeline.storage.files import write_json

OTHERS = {
    "peak_threshold": (0.02, 0.05),
    "noise_factor": (2.0, 6.0),
    "num_samples": (4, 8, 10),
    "short_limb_cells": (0.0, 2.5),
    "share_threshold": (0.3, 1.0),
}
DEFAULTS = DecodeConfig()
SETTINGS = list(
    dict.fromkeys(
        [
            *candidates(DEFAULTS),
            *(dataclasses.replace(DEFAULTS, **{name: value}) for name, values in OTHERS.items() for value in values),
        ]
    )
)
NUM_FOLDS = 5
NUM_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured for a network, lists in the order of SETTINGS."""

    settings: list[dict]
    results_version: int
    num_images: int
    ap: list[float]
    own_cross_validated: float
    tuned: int
    decode_ms: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", help=FORM)
    parser.add_argument("--out", type=Path, required=True, help="output folder for fields, AP and the tables")
    parser.add_argument("--max-images", type=int, default=300, help="images per network")
    parser.add_argument(
        "--unseen", nargs="+", default=[], help="NAME=ANNOTATIONS:IMAGES: images on which to check what `tune` expects"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sources = [parse(word) for word in options.sources]
    measured = {source: measure(source, options.out, options.max_images) for source in sources}
    lines = [*network_table(measured), "", *settings_table(measured)]
    if options.unseen:
        lines += ["", *unseen_table({source.name: source for source in sources}, measured, options.unseen, options.out)]
    print("\n".join(lines))
    (options.out / "decoder.md").write_text("\n".join(lines) + "\n")


def measure(source: Source, out: Path, max_images: int) -> Measured:
    """Return the AP of a network with all settings, from OUT/NAME-IMAGES.json if that is up to date."""
    path, settings = out / f"{source.name}-{max_images}.json", [dataclasses.asdict(each) for each in SETTINGS]
    if path.exists():
        known = Measured(**json.loads(path.read_text()))
        if (known.settings, known.results_version) == (settings, RESULTS_VERSION):
            return known
    skeleton, document, stored = fields_of(source, out / f"{source.name}-{max_images}.npz", max_images)
    found: dict[int, list[People]] = {}
    milliseconds = []
    for image in progress_bar(document.images, desc=f"{source.name}: decoding with {len(SETTINGS)} settings", unit="image"):
        fields = stored.load(image.id)
        start = time.thread_time()
        first = find_people(fields, skeleton, DEFAULTS)
        milliseconds.append(1000 * (time.thread_time() - start))
        found[image.id] = [first, *(find_people(fields, skeleton, each) for each in SETTINGS[1:])]
    with progress_bar(total=len(SETTINGS), desc=f"{source.name}: scoring", unit="setting") as progress:
        choice: Choice = choose(document, found, skeleton, SETTINGS, NUM_FOLDS, lambda: progress.update(1))
    measured = Measured(
        settings=settings,
        results_version=RESULTS_VERSION,
        num_images=len(found),
        ap=choice.ap,
        own_cross_validated=choice.ap_after,
        tuned=choice.chosen,
        decode_ms=[float(np.median(milliseconds)), float(np.percentile(milliseconds, 95))],
    )
    write_json(path, dataclasses.asdict(measured))
    return measured


def network_table(measured: dict[Source, Measured]) -> list[str]:
    """One row for each network, and the mean and the largest gap between it and the settings that are best for it."""
    header = [
        "network",
        "images",
        "--relative-threshold 0",
        "defaults",
        "own",
        "own, cross-validated",
        "chosen on other networks",
    ]
    header += ["settings chosen there", "ms, median", "ms, p95"]
    rows = [header, ["---"] * len(header)]
    gaps: dict[str, list[float]] = {name: [] for name in ("--relative-threshold 0", "defaults", "chosen on other networks")}
    for source, one in measured.items():
        others = [other for place, other in measured.items() if place.run != source.run]
        chosen = int(np.mean([other.ap for other in others], axis=0).argmax()) if others else 0
        best, plain = max(one.ap), one.ap[SETTINGS.index(dataclasses.replace(DEFAULTS, relative_threshold=0.0))]
        for values, ap in zip(gaps.values(), (plain, one.ap[0], one.ap[chosen]), strict=True):
            values.append(best - ap)
        figures = [f"{ap:.3f}" for ap in (plain, one.ap[0], best, one.own_cross_validated, one.ap[chosen])]
        rows.append([source.name, str(one.num_images), *figures, changes(chosen), *(f"{ms:.2f}" for ms in one.decode_ms)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    texts = (f"{name}: mean {statistics.mean(values):.4f}, largest {max(values):.4f}" for name, values in gaps.items())
    return [*lines, "", f"AP below the best settings for each of {len(measured)} networks: " + "; ".join(texts)]


def settings_table(measured: dict[Source, Measured]) -> list[str]:
    """The settings with the highest mean AP, and all single changes: gain over the defaults, and AP below the best for a network."""
    gains = np.array([np.array(one.ap) - one.ap[0] for one in measured.values()])
    mean = gains.mean(axis=0)
    best = np.argsort(-mean, kind="stable")[:NUM_LISTED].tolist()
    single = [number for number in range(1, len(SETTINGS)) if changes(number).count(",") == 0 and number not in best]
    best_ap = np.array([[max(one.ap)] for one in measured.values()])
    gaps = (best_ap - [one.ap for one in measured.values()]).max(axis=0)
    lines = ["| settings | mean gain | lowest | highest | largest AP below the best |", "| --- " * 5 + "|"]
    for number in [*best, *sorted(single, key=changes)]:
        column = gains[:, number]
        lines.append(
            f"| {changes(number)} | {mean[number]:+.4f} | {column.min():+.4f} | {column.max():+.4f} | {gaps[number]:.4f} |"
        )
    return lines


def unseen_table(sources: dict[str, Source], measured: dict[Source, Measured], words: list[str], out: Path) -> list[str]:
    """Compare the AP that `tune` expects for networks with the AP of its settings on other images. words: those of --unseen."""
    lines = [
        "| network | images | AP, defaults | expected by `tune` | unseen images | AP, defaults | AP, tuned |",
        "| --- " * 7 + "|",
    ]
    for word in words:
        name, _, rest = word.partition("=")
        annotations, images = map(Path, rest.split(":"))
        one = measured[sources[name]]
        source = dataclasses.replace(sources[name], annotations=annotations, images=images)
        skeleton, document, stored = fields_of(source, out / f"{name}-unseen.npz", None)
        before, after = (_ap(skeleton, document, stored, settings) for settings in (DEFAULTS, SETTINGS[one.tuned]))
        expected = one.own_cross_validated if one.tuned else one.ap[0]
        gains = f"{expected:.4f} ({expected - one.ap[0]:+.4f})", f"{after:.4f} ({after - before:+.4f})"
        lines.append(
            f"| {name} | {one.num_images} | {one.ap[0]:.4f} | {gains[0]} | {len(document.images)} | {before:.4f} | {gains[1]} |"
        )
    return lines


def _ap(skeleton: Skeleton, document: CocoFile, stored: StoredFields, settings: DecodeConfig) -> float:
    about = {"category_id": document.category_id, "skeleton": skeleton}
    results = [
        entry
        for image in document.images
        for entry in to_results(
            find_people(stored.load(image.id), skeleton, settings), image_id=image.id, size_wh=image.size_wh, **about
        )
    ]
    return evaluate(document, results, skeleton).figures["AP"]


def changes(number: int) -> str:
    """The differences of settings to the defaults."""
    changed = [f"{name} {value}" for name, value in vars(SETTINGS[number]).items() if value != getattr(DEFAULTS, name)]
    return ", ".join(changed) or "defaults"


if __name__ == "__main__":
    main()
