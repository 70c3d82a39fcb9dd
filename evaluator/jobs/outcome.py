"""What was found -> COCO results and figures, pictures, and what is printed of them. Shared by `run` and `merge`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator import drawings
from evaluator.inference.clock import Clock
from evaluator.jobs.partial import EVALUATION, Found
from evaluator.metrics.coco_eval import Evaluation, evaluate_twice, labeled_images, to_results
from evaluator.metrics.results import Results
from pipeline.cli import flatten, save_config
from pipeline.datasets.coco import CocoFile, Image
from pipeline.datasets.selection import true_keypoints
from pipeline.files import new_folder, write_json
from pipeline.images import read_image
from pipeline.skeleton import Skeleton

MOST_NAMED = 20
UNREADABLE_COUNT = "count as images in which nothing was found (all are in metrics.json)"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of `images` (entries of the annotation file) and their figures, over all of them and over those with people."""

    document: CocoFile
    skeleton: Skeleton
    images: list[Image]
    found: Found
    results: Results
    evaluation: Evaluation
    people_images: Evaluation


def score(document: CocoFile, skeleton: Skeleton, images: list[Image], found: Found) -> Outcome:
    """Raises UserError where results and annotations do not belong together."""
    results = [
        entry
        for image in images
        if image.id in found.people
        for entry in to_results(found.people[image.id], image_id=image.id, category_id=document.category_id, skeleton=skeleton)
    ]
    ids = {image.id for image in images}
    with_people = [image_id for image_id in labeled_images(document) if image_id in ids]
    evaluation, people_images = evaluate_twice(document, results, skeleton, ids, with_people)
    return Outcome(
        document=document,
        skeleton=skeleton,
        images=images,
        found=found,
        results=results,
        evaluation=evaluation,
        people_images=people_images,
    )


def publish(outcome: Outcome, config: Any, identity: dict[str, Any], clock: Clock) -> int:
    """Write the output folder of `config` (a RunConfig or MergeConfig), print the figures, and return the exit code."""
    speed, speed_line = clock.figures(), clock.line()
    with new_folder(config.out) as folder:
        write_json(folder / "results.json", outcome.results)
        write_json(folder / "metrics.json", _metrics(outcome, config, speed))
        write_json(folder / EVALUATION, identity)
        save_config(config, folder / "config.yaml")
        num_pictures = _write_pictures(outcome, config, folder / "pictures")
    _report(outcome, config, num_pictures, speed_line)
    unreadable = _unreadable_names(outcome)
    return report_unreadable(unreadable, UNREADABLE_COUNT, allowed=config.allow_unreadable)


def _unreadable_names(outcome: Outcome) -> dict[str, str]:
    reasons = outcome.found.unreadable
    return {image.file_name: reasons[image.id] for image in outcome.images if image.id in reasons}


def _metrics(outcome: Outcome, config: Any, speed: dict[str, float]) -> dict[str, Any]:
    num_labeled = sum(
        entry.is_labeled_person for image in outcome.images for entry in outcome.document.annotations.get(image.id, [])
    )
    return {
        "figures": outcome.evaluation.figures,
        "figures_images_with_people": outcome.people_images.figures,
        "num_images": len(outcome.images),
        "num_images_in_file": len(outcome.document.images),
        "num_images_with_people": len(outcome.people_images.image_oks),
        "num_people": num_labeled,
        "num_people_found": len(outcome.results),
        "unreadable_images": _unreadable_names(outcome),
        "speed": speed,
        "settings": flatten(config),
    }


def _write_pictures(outcome: Outcome, config: Any, folder: Path) -> int:
    """Returns how many were written."""
    if config.images is None or not config.pictures:
        return 0
    folder.mkdir()
    files = {image.id: image.file_name for image in outcome.images}
    people = outcome.found.people
    read = {image_id: oks for image_id, oks in outcome.evaluation.image_oks.items() if image_id in people}
    chosen = drawings.best_and_worst(read, config.pictures)
    for name, image_id in chosen:
        image = read_image(config.images / files[image_id])
        truth = true_keypoints(outcome.document.annotations[image_id], outcome.skeleton)
        picture = drawings.compare(image, people[image_id], truth, outcome.skeleton, config.draw_min_score, read[image_id])
        drawings.write_picture(folder / f"{name}.jpg", picture)
    return len(chosen)


def _report(outcome: Outcome, config: Any, num_pictures: int, speed_line: str) -> None:
    num_images, num_all = len(outcome.images), len(outcome.document.images)
    if num_images < num_all:
        print(
            f"only {num_images} of the {num_all} images of {config.annotations}, a random choice that is always the same, were looked at and scored"
        )
    print(outcome.evaluation.line())
    people_images = outcome.people_images
    print(f"AP {people_images.figures['AP']:.4f} over the {len(people_images.image_oks)} of {num_images} images that show people")
    if speed_line:
        print(speed_line)
    print(f"results, metrics and settings in {config.out}")
    if num_pictures:
        print(f"{num_pictures} pictures in {config.out / 'pictures'}: found on the left, true on the right")


def report_unreadable(unreadable: dict[str, str], consequence: str, *, allowed: bool) -> int:
    """Name the images that could not be read, the first of them if they are many; returns the exit code."""
    for name, reason in list(unreadable.items())[:MOST_NAMED]:
        print(f"unreadable image {name}: {reason}", file=sys.stderr)
    if len(unreadable) > MOST_NAMED:
        print(f"… and {len(unreadable) - MOST_NAMED} more", file=sys.stderr)
    if unreadable:
        print(f"{len(unreadable)} images could not be read and {consequence}", file=sys.stderr)
    return 0 if allowed or not unreadable else 1
