"""The last part of `run` and `merge`: people to COCO results, metrics, pictures and the printed summary."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluator import drawings
from evaluator.decoding.scores import ScoreMap
from evaluator.inference.clock import Clock
from evaluator.jobs.config import MergeConfig, RunConfig
from evaluator.jobs.partial import EVALUATION, Found
from evaluator.metrics.coco_eval import Evaluation, evaluate_twice, labeled_images
from evaluator.metrics.config import MetricConfig
from evaluator.metrics.figures import Measured
from evaluator.metrics.others import as_written, measure_others
from evaluator.metrics.results import Results, to_results
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.sequences import Tracks, follow
from pipeline import draw
from pipeline.cli import flatten, save_config
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Image
from pipeline.datasets.selection import true_keypoints
from pipeline.images import read_image
from pipeline.skeleton import Skeleton
from pipeline.storage.files import write_json
from pipeline.storage.folders import new_folder
from pipeline.tolerance import report_unreadable
from pipeline.version import package_version
from pipeline.wording import counted, printable

OF_THE_NETWORK = ("checkpoint", "step", "insize")  # entries of an identity, which `merge` has no options for
UNREADABLE_SCORED = "scored as images without predictions; metrics.json lists all of them"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of `images` and their metrics: `evaluation` over all images, `people_images` over images with people.

    others: metrics of other data sets that were asked for, by name. tracks: identities in videos, if they were asked for.
    """

    document: CocoFile
    skeleton: Skeleton
    images: list[Image]
    found: Found
    to_scores: ScoreMap
    results: Results
    evaluation: Evaluation
    people_images: Evaluation
    others: dict[str, Measured]
    tracks: Tracks | None


def score(
    document: CocoFile,
    skeleton: Skeleton,
    images: list[Image],
    found: Found,
    config: RunConfig | MergeConfig,
    to_scores: ScoreMap,
) -> Outcome:
    """Convert people to COCO results and score them. Raises UserError if results and annotations do not match."""
    tracks = follow(document, found.people, skeleton, config.tracking, config.images, to_scores) if config.video else None
    if tracks:
        found = Found(people={**found.people, **{key: tracks.people[key] for key in found.people}}, unreadable=found.unreadable)
    results = [
        entry
        for image in images
        if image.id in found.people
        for entry in to_results(
            found.people[image.id],
            image_id=image.id,
            category_id=document.category_id,
            skeleton=skeleton,
            size_wh=image.size_wh,
            to_scores=to_scores,
            identities=tracks.identities[image.id] if tracks else None,
        )
    ]
    ids = {image.id for image in images}
    with_people = [image_id for image_id in labeled_images(document) if image_id in ids]
    evaluation, people_images = evaluate_twice(document, results, skeleton, ids, with_people)
    return Outcome(
        document=document,
        skeleton=skeleton,
        images=images,
        found=found,
        to_scores=to_scores,
        results=results,
        evaluation=evaluation,
        people_images=people_images,
        others=measure_others(document, results, config.metrics, ids),
        tracks=tracks,
    )


def publish(outcome: Outcome, config: RunConfig | MergeConfig, identity: dict[str, Any], clock: Clock) -> int:
    """Write the output folder, print the metrics, and return the exit code."""
    speed, speed_line = clock.figures(), clock.line()
    with new_folder(config.out, last=EVALUATION) as folder:
        write_json(folder / "results.json", outcome.results)
        write_json(folder / "metrics.json", _metrics(outcome, config, identity, speed))
        write_json(folder / EVALUATION, identity)
        save_config(config, folder / "config.yaml")
        num_pictures = _write_pictures(outcome, config, folder / "pictures")
    _print_summary(outcome, config, num_pictures, speed_line)
    return report_unreadable(_unreadable_names(outcome), UNREADABLE_SCORED, config.tolerance, len(outcome.images))


def _unreadable_names(outcome: Outcome) -> dict[str, str]:
    reasons = outcome.found.unreadable
    return {image.file_name: reasons[image.id] for image in outcome.images if image.id in reasons}


def _metrics(
    outcome: Outcome, config: RunConfig | MergeConfig, identity: dict[str, Any], speed: dict[str, float]
) -> dict[str, Any]:
    return {
        **describe_metrics(outcome.document, outcome.images, outcome.results, outcome.evaluation, outcome.people_images),
        "unreadable_images": _unreadable_names(outcome),
        "speed": speed,
        **as_written(outcome.others),
        **({"tracking": outcome.tracks.figures} if outcome.tracks else {}),
        "network": {name: identity[name] for name in OF_THE_NETWORK if name in identity},
        "settings": flatten(config),
    }


def describe_metrics(
    document: CocoFile, images: list[Image], results: Results, evaluation: Evaluation, people_images: Evaluation
) -> dict[str, Any]:
    """Return the entries of metrics.json that every evaluation has. people_images: the evaluation over images with people."""
    people = [entry for image in images for entry in document.annotations.get(image.id, []) if entry.is_labeled_person]
    return {
        "figures": evaluation.figures,
        "figures_images_with_people": people_images.figures,
        "num_images": len(images),
        "num_images_in_file": len(document.images),
        "num_images_with_people": len(people_images.image_oks),
        "data_set": document.info.get("description", ""),
        "num_people": len(people),
        "num_people_found": len(results),
        "evaluated": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": package_version(),
    }


def _write_pictures(outcome: Outcome, config: RunConfig | MergeConfig, folder: Path) -> int:
    """Draw the best and worst images into `folder` and return their number."""
    if config.images is None or not config.pictures:
        return 0
    folder.mkdir()
    files = {image.id: image.file_name for image in outcome.images}
    people = outcome.found.people
    image_oks = {image_id: oks for image_id, oks in outcome.evaluation.image_oks.items() if image_id in people}
    chosen = drawings.best_and_worst(image_oks, config.pictures)
    for name, image_id in chosen:
        image = read_image(config.images / files[image_id])
        truth = true_keypoints(outcome.document.annotations[image_id], outcome.skeleton)
        drawn = people[image_id].keypoints[outcome.to_scores(people[image_id].scores) >= config.draw_min_score]
        about = f"prediction: {len(drawn)} with score of at least {config.draw_min_score:g}, mean OKS {image_oks[image_id]:.2f}"
        picture = drawings.compare(image, (drawn, about), truth, outcome.skeleton)
        draw.write_picture(folder / f"{name}.jpg", picture)
    return len(chosen)


def _print_summary(outcome: Outcome, config: RunConfig | MergeConfig, num_pictures: int, speed_line: str) -> None:
    num_images, num_all = len(outcome.images), len(outcome.document.images)
    if num_images < num_all:
        print(f"evaluated a random subset of {num_images} of the {num_all} images of {config.annotations}")
    print("\n".join([*outcome.document.notes(), *_lacking(outcome), outcome.evaluation.summary()]))
    people_images = outcome.people_images
    if not people_images.image_oks:
        print(f"warning: {config.annotations}: no person has labeled joints, so there is nothing to score; -1 means undefined")
        return
    print(f"AP {people_images.figures['AP']:.4f} over images with people only ({len(people_images.image_oks)} of {num_images})")
    for name, measured in outcome.others.items():
        print("\n".join([f"--metric {name}", *measured.lines()]))
    if outcome.tracks:
        print(outcome.tracks.summary())
    if speed_line:
        print(speed_line)
    print(f"wrote results, metrics and settings to {config.out}")
    if num_pictures:
        print(f"wrote {counted(num_pictures, 'picture')} to {config.out / 'pictures'}: prediction left, ground truth right")


def _lacking(outcome: Outcome) -> list[str]:
    """Say which labeled keypoints the network does not predict."""
    entries = [entry for image in outcome.images for entry in outcome.document.annotations.get(image.id, [])]
    counts = {
        joint: sum(bool(entry.labeled[place]) for entry in entries if entry.is_labeled_person)
        for place, joint in enumerate(outcome.skeleton.source_joints)
        if outcome.skeleton.source_indices[place] < 0
    }
    names = [joint for joint, count in counts.items() if count]
    number = counted(sum(counts.values()), "labeled keypoint")
    return [f"the network does not predict {printable(', '.join(names))}: {number} count as not found"] if names else []


def drawn(*settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return, for each evaluation, the options that decide its pictures and metrics, and whether and how it tracks people."""
    defaults = {"video": False, **asdict(TrackConfig()), **asdict(MetricConfig())}
    chosen = [{name: options.get(name, value) for name, value in defaults.items()} for options in settings]
    for own, options in zip(chosen, settings, strict=True):
        own["pictures"] = 0 if options["images"] is None else options["pictures"]
        own["clothes"] = bool(own["video"] and own["appearance"] and options["images"])
    if all(own["pictures"] for own in chosen):  # without pictures, the score does not matter
        for own, options in zip(chosen, settings, strict=True):
            own["draw_min_score"] = options["draw_min_score"]
    return chosen
