"""The command `run`: network or stored fields -> people -> COCO results and figures -> pictures."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from evaluator import pictures
from evaluator.coco import Evaluation, Results, evaluate, labelled_images, to_results
from evaluator.config import RunConfig
from evaluator.decode import DecodeConfig, People
from evaluator.fields import StoredFields
from evaluator.infer import FieldNetwork, Fields, find_people, image_fields
from evaluator.oracle import true_keypoints
from pipeline.cli import UserError, flatten, save_config
from pipeline.coco_file import CocoFile
from pipeline.images import UnreadableImage, read_image
from pipeline.output import new_folder, refuse_used, write_json
from pipeline.skeleton import Skeleton, read_skeleton

FieldSource = Callable[[dict], Fields]


@dataclass
class Progress:
    """What the images gave so far: people by image id, the reason for every unreadable image, seconds by part of the work."""

    people: dict[int, People] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    seconds: Counter = field(default_factory=Counter)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] += time.perf_counter() - start


def run(config: RunConfig) -> int:
    """Raises UserError for input that cannot be used and for an output folder that is not empty."""
    refuse_used(config.out)
    if config.images is not None and not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder")
    network = load(config.checkpoint, config.device_target) if config.checkpoint else None
    return evaluate_source(config, network)


def load(checkpoint: Path, device_target: str) -> FieldNetwork:
    """The network of a checkpoint on that device. Raises UserError for what is not a complete checkpoint."""
    from trainer.checkpoint import load_network  # loads mindspore
    from trainer.device import choose_device

    choose_device(device_target)
    return load_network(checkpoint)


def evaluate_source(config: RunConfig, network: FieldNetwork | None) -> int:
    """Evaluate `network`, or the stored fields where it is None."""
    skeleton = network.skeleton if network else read_skeleton(config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    if not document.images:
        raise UserError(f"annotation file {config.annotations}: has no images")
    progress = Progress()
    source = _network_source(config, network, document, progress) if network else _stored_source(config, document, progress)
    for image in tqdm(document.images, desc="finding people", unit="image", disable=None):
        try:
            fields = source(image)
        except UnreadableImage as error:
            progress.unreadable[image["file_name"]] = str(error)
            continue
        with progress.timed("decode"):
            progress.people[image["id"]] = decode_or_explain(fields, skeleton, config.decoding, image["file_name"])
    if not progress.people:
        raise UserError(
            f"image folder {config.images}: none of the {len(document.images)} images can be read; is it the right one?"
        )
    results = [
        entry
        for image_id, people in progress.people.items()
        for entry in to_results(people, image_id=image_id, category_id=document.category_id, skeleton=skeleton)
    ]
    with progress.timed("score"):
        evaluation = evaluate(document, results, skeleton)
        people_images = evaluate(document, results, skeleton, labelled_images(document))
    with new_folder(config.out) as folder:
        write_json(folder / "results.json", results)
        write_json(folder / "metrics.json", _metrics(config, document, progress, results, evaluation, people_images))
        save_config(config, folder / "config.yaml")
        num_pictures = _write_pictures(config, folder / "pictures", document, progress, evaluation, skeleton)
    return _report(config, progress, evaluation, people_images, num_pictures)


def decode_or_explain(fields: Fields, skeleton: Skeleton, config: DecodeConfig, name: str) -> People:
    """`find_people`; raises UserError naming the image where its fields are of another shape or not finite."""
    try:
        return find_people(fields, skeleton, config)
    except ValueError as error:
        raise UserError(f"fields of image {name}: {error}") from error


def _network_source(config: RunConfig, network: FieldNetwork, document: CocoFile, progress: Progress) -> FieldSource:
    # An annotation file and a folder that have nothing in common: said at once, not after every image.
    if not any((config.images / image["file_name"]).is_file() for image in document.images):
        raise UserError(f"image folder {config.images}: has none of the {len(document.images)} images of {config.annotations}")

    def fields(image: dict) -> Fields:
        with progress.timed("read"):
            pixels = read_image(config.images / image["file_name"], (image["width"], image["height"]))
        with progress.timed("network"):
            return image_fields(network, pixels, config.insize)

    return fields


def _stored_source(config: RunConfig, document: CocoFile, progress: Progress) -> FieldSource:
    stored = StoredFields(config.fields)
    stored.require_images({image["id"] for image in document.images}, config.annotations)

    def fields(image: dict) -> Fields:
        with progress.timed("read"):
            return stored.load(image["id"])

    return fields


def _metrics(
    config: RunConfig,
    document: CocoFile,
    progress: Progress,
    results: Results,
    evaluation: Evaluation,
    people_images: Evaluation,
) -> dict:
    num_labelled = sum(
        not entry["iscrowd"] and bool((entry["keypoints"][:, 2] > 0).any())
        for entries in document.annotations.values()
        for entry in entries
    )
    return {
        "figures": evaluation.figures,
        "figures_images_with_people": people_images.figures,
        "num_images": len(document.images),
        "num_images_with_people": len(people_images.image_oks),
        "num_people": num_labelled,
        "num_people_found": len(results),
        "unreadable_images": progress.unreadable,
        "seconds": {part: round(seconds, 3) for part, seconds in progress.seconds.items()},
        "settings": flatten(config),
    }


def _write_pictures(
    config: RunConfig, folder: Path, document: CocoFile, progress: Progress, evaluation: Evaluation, skeleton: Skeleton
) -> int:
    """Returns how many were written."""
    if config.images is None or not config.pictures:
        return 0
    folder.mkdir()
    files = {image["id"]: image["file_name"] for image in document.images}
    read = {image_id: oks for image_id, oks in evaluation.image_oks.items() if image_id in progress.people}
    chosen = pictures.best_and_worst(read, config.pictures)
    for name, image_id in chosen:
        image = read_image(config.images / files[image_id])
        truth = true_keypoints(document.annotations[image_id], skeleton)
        people, oks = progress.people[image_id], evaluation.image_oks[image_id]
        picture = pictures.compare(image, people, truth, skeleton, config.draw_min_score, oks)
        pictures.write_picture(folder / f"{name}.jpg", picture)
    return len(chosen)


def _report(config: RunConfig, progress: Progress, evaluation: Evaluation, people_images: Evaluation, num_pictures: int) -> int:
    num_images = len(progress.people) + len(progress.unreadable)
    print(evaluation.line())
    print(f"AP {people_images.figures['AP']:.4f} over the {len(people_images.image_oks)} of {num_images} images that show people")
    spent = ", ".join(f"{part} {1000 * seconds / num_images:.1f}" for part, seconds in progress.seconds.items())
    print(f"milliseconds an image: {spent}")
    print(f"results, metrics and settings in {config.out}")
    if num_pictures:
        print(f"{num_pictures} pictures in {config.out / 'pictures'}: found on the left, true on the right")
    return report_unreadable(progress.unreadable, "count as images in which nothing was found", allowed=config.allow_unreadable)


def report_unreadable(unreadable: dict[str, str], consequence: str, *, allowed: bool) -> int:
    """Name the images that could not be read; returns the exit code."""
    for name, reason in unreadable.items():
        print(f"unreadable image {name}: {reason}", file=sys.stderr)
    if unreadable:
        print(f"{len(unreadable)} images could not be read and {consequence}", file=sys.stderr)
    return 0 if allowed or not unreadable else 1
