"""The command `tune`: decode the fields of every image with all candidates, choose, and write the checkpoint."""

import dataclasses
from dataclasses import asdict
from typing import Any

from evaluator.decoding import DecodeConfig, People
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.clock import Clock
from evaluator.inference.engines import load_and_report, sha256
from evaluator.inference.fields import Fields, find_people_or_fail
from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.streaming import Stream
from evaluator.inference.tuned import Tuning, decoding_of, inference_options
from evaluator.jobs.calibrate import require_new
from evaluator.jobs.run import plan_groups
from evaluator.metrics.coco_eval import labeled_images
from evaluator.options import choose_batch_size
from evaluator.tuning.config import TuneConfig
from evaluator.tuning.search import Choice, Found, candidates, choose
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.datasets.coco_entries import Image
from pipeline.datasets.file_skeleton import view_of_file
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.photos import Photo, whole
from pipeline.runtime.progress import progress_bar
from pipeline.storage.files import require_folder, write_json
from pipeline.tolerance import report_unreadable
from pipeline.wording import counted
from trainer.run.checkpoint import read_checkpoint, save_checkpoint

MIN_PEOPLE = 50  # fewer say nothing about other images
NUM_LISTED = 5


def run(config: TuneConfig) -> int:
    """Run the command. Raises UserError for files that cannot be used or do not belong together, and for too few people."""
    require_new(config.out)
    require_folder(config.images, "image folder")
    if config.checkpoint.suffix == ".onnx":
        raise UserError(f"checkpoint {config.checkpoint}: an exported network; tune its checkpoint, and export that")
    network, device = load_and_report(config.checkpoint, config.device, config.inference)
    info, tensors = read_checkpoint(network.path)
    document = CocoFile(config.annotations, network.skeleton, view=view_of_file)
    document = document.only(choose_images(document, config.max_images))
    num_people = sum(annotation.is_labeled_person for i in labeled_images(document) for annotation in document.annotations[i])
    if num_people < MIN_PEOPLE:
        raise UserError(
            f"annotation file {config.annotations}: tuning needs at least {MIN_PEOPLE} people with keypoints, got {num_people} in "
            f"{counted(len(document.images), 'image')}; use more images"
        )
    settings = candidates(decoding_of(network))
    found, unreadable = find_all(config, network, document, settings, choose_batch_size(config.batch_size, device))
    with progress_bar(total=len(settings), desc="scoring settings", unit="setting") as progress:
        choice = choose(document, found, document.skeleton, settings, config.folds, lambda: progress.update(1))
    _report(choice, num_people, len(found))
    tuning = Tuning(
        decoding=choice.candidates[choice.chosen],
        annotations=sha256(config.annotations, "annotation file"),
        num_images=len(found),
        inference=inference_options(config.inference),
        ap_before=choice.ap_before,
        ap_after=choice.ap_after if choice.chosen else choice.ap_before,  # the present settings stay
    )
    if info.calibration:
        print("the scores were calibrated with other settings; the new checkpoint has no calibration: calibrate it again")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(
        config.out, dataclasses.replace(info, tuning=asdict(tuning), calibration={}), tensors, then="run the command again"
    )
    if config.json is not None:
        write_json(config.json, {**asdict(tuning), "by_fold": choice.by_fold, "tried": _tried(choice)})
    print(f"wrote {config.out}: {network.path} with these settings of the decoder")
    return report_unreadable(unreadable, "left out", config.tolerance, len(document.images))


def find_all(
    config: TuneConfig, network: FieldNetwork, document: CocoFile, settings: list[DecodeConfig], batch_size: int
) -> tuple[Found, dict[str, str]]:
    """Return the people that each candidate finds in each image, and the reasons of images that cannot be read, by name.

    Raises UserError if none can be read.
    """
    augmented = AugmentedNetwork(network, config.inference)

    def read(image: Image) -> Photo:
        return whole(read_image(config.images / image.file_name, image.size_wh))

    def decode_all(image: Image, _photo: Photo, fields: Fields) -> list[People]:
        return [find_people_or_fail(fields, network.skeleton, each, image.file_name) for each in settings]

    stream = Stream(network=augmented, read=read, work=decode_all, batch_size=batch_size, clock=Clock())
    found: dict[int, list[People]] = {}
    unreadable: dict[str, str] = {}
    with progress_bar(total=len(document.images), desc=f"decoding with {len(settings)} settings", unit="image") as progress:
        for group in stream.run(plan_groups(document.images, augmented.padded_sizes, batch_size)):
            for image, people in group:
                if isinstance(people, UnreadableImage):
                    unreadable[image.file_name] = str(people)
                else:
                    found[image.id] = people
            progress.update(len(group))
    if not found:
        raise UserError(
            f"image folder {config.images}: none of the {counted(len(document.images), 'image')} can be read; check --images"
        )
    return found, unreadable


def _tried(choice: Choice) -> list[dict[str, Any]]:
    return [{**asdict(settings), "AP": ap} for settings, ap in zip(choice.candidates, choice.ap, strict=True)]


def _report(choice: Choice, num_people: int, num_images: int) -> None:
    """Print the present settings, the best ones, and the AP to expect."""
    present = choice.candidates[0]
    order = sorted(range(len(choice.ap)), key=lambda number: (-choice.ap[number], number))
    print(f"{counted(len(order), 'setting')} on {counted(num_images, 'image')} with {counted(num_people, 'person')}")
    print(f"AP {choice.ap_before:.4f} with the present settings")
    for number in order[:NUM_LISTED]:
        print(f"AP {choice.ap[number]:.4f} with {_changes(present, choice.candidates[number])}")
    gain = choice.ap_after - choice.ap_before
    verdict = "expect this gain on images of this kind" if choice.chosen else "no gain to expect, so the present settings stay"
    print(f"AP {choice.ap_after:.4f} ({gain:+.4f}) when chosen on other images (cross-validation): {verdict}")


def _changes(present: DecodeConfig, settings: DecodeConfig) -> str:
    changed = [f"{name} {value}" for name, value in vars(settings).items() if value != getattr(present, name)]
    return ", ".join(changed) or "the present settings"
