"""The command `run`: network or stored fields -> people -> COCO results and figures -> pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.decoding.decode import People
from evaluator.inference.clock import Clock
from evaluator.inference.infer import FieldNetwork, Fields, Looks, find_or_explain
from evaluator.inference.stored_fields import StoredFields, decode_stored
from evaluator.inference.streaming import Stream
from evaluator.jobs import outcome
from evaluator.jobs.config import RunConfig, choose_batch_size
from evaluator.jobs.partial import EVALUATION, PEOPLE, Found, Unfinished, code_digest, differences
from evaluator.metrics.coco_eval import Evaluation
from pipeline.cli import flatten, save_config
from pipeline.datasets.coco import CocoFile, Image
from pipeline.errors import UserError
from pipeline.files import file_facts, new_folder, read_json, refuse_used, write_json
from pipeline.images import UnreadableImage, read_image
from pipeline.progress import progress_bar
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton

Group = Sequence[Image]
Looked = Iterator[list[tuple[Image, People | UnreadableImage]]]
NUM_TOGETHER = 8  # stored fields between two writes of what was found


def run(config: RunConfig) -> int:
    """Raises UserError for input that cannot be used and for an output folder that is not empty."""
    if not (config.out / EVALUATION).exists():
        refuse_used(config.out)
    if config.images is not None and not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder")
    if config.fields is not None:
        return evaluate_source(config, None, {"fields": _sha256(config.fields, "fields")})
    network, device = load(config.checkpoint, config.device_target, average=not config.inference.raw_weights)
    origin = {"checkpoint": _sha256(network.path, "checkpoint"), "step": network.info.step, "device": device}
    return evaluate_source(config, network, origin)


def _sha256(path: Path, what: str) -> str:
    try:
        return file_facts(path)["sha256"]
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}") from error


def load(checkpoint: Path, device_target: str, *, average: bool) -> tuple[FieldNetwork, str]:
    """The network of a checkpoint on that device, and the device. Raises UserError for what is not a complete checkpoint."""
    from trainer.device import choose_device
    from trainer.run.checkpoint import load_network  # loads mindspore

    device = choose_device(device_target)
    network = load_network(checkpoint, average=average)
    print(f"checkpoint {network.path}: step {network.info.step:,}, epoch {network.info.epoch}", flush=True)
    return network, device


def evaluate_source(config: RunConfig, network: FieldNetwork | None, origin: dict[str, Any] | None = None) -> int:
    """Evaluate `network`, or the stored fields where it is None. origin: what tells it from others, and its device."""
    skeleton = network.skeleton if network else read_skeleton(config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    images = choose_images(document, config.max_images)
    origin = {"device": "CPU", **(origin or {})}
    looks = Looks(network, config.inference) if network else None
    batch_size = choose_batch_size(config.batch_size, origin["device"])
    groups = plan_groups(images, looks.padded_sizes if looks else None, batch_size)
    identity = identify(config, document, skeleton, origin | {"batch_size": batch_size, "insize": looks and looks.insize})
    if (config.out / EVALUATION).exists():
        return _complete_already(config, identity)
    number, count = config.part
    mine = groups[number - 1 :: count]
    if not mine:
        raise UserError(f"--shard {config.shard}: {len(images)} images make {len(groups)} batches, nothing is left for it")
    clock = Clock()
    with Unfinished(config.out, identity, skeleton.num_joints) as work:
        source = _network_source(config, looks, batch_size, clock) if looks else _stored_source(config, document, skeleton)
        found = _look(mine, source, work, config, clock)
        if count > 1:
            code = _publish_part(config, identity, mine, found)
        else:
            with clock.timed("score"):
                scored = outcome.score(document, skeleton, images, found)
            code = outcome.publish(scored, config, identity, clock)
        work.remove()
    return code


def choose_images(document: CocoFile, max_images: int | None) -> list[Image]:
    """All images of the file, or as many of them as asked for, always the same, in order of their ids. Raises UserError for none."""
    if not document.images:
        raise UserError(f"annotation file {document.path}: has no images")
    if max_images is None or max_images >= len(document.images):
        return document.images
    chosen = np.random.default_rng(0).permutation(len(document.images))[:max_images]
    return [document.images[i] for i in sorted(chosen)]


def plan_groups(images: Sequence[Image], sizes: Callable | None, batch_size: int) -> list[Group]:
    """Batches of images whose inputs have equal sizes; without `sizes`, groups of stored fields.

    They follow from the images alone, and shards and continued runs take whole ones, so that every batch is always the same.
    """
    if sizes is None:
        return [images[i : i + NUM_TOGETHER] for i in range(0, len(images), NUM_TOGETHER)]
    keyed = sorted(((sizes(image.size_wh), image.id, image) for image in images), key=lambda k: k[:2])
    groups = []
    for _, alike in groupby(keyed, key=lambda k: k[0]):
        alike = [image for *_, image in alike]
        groups += [alike[i : i + batch_size] for i in range(0, len(alike), batch_size)]
    return groups


def identify(config: RunConfig, document: CocoFile, skeleton: Skeleton, facts: dict[str, Any]) -> dict[str, Any]:
    """All that decides the results: two evaluations in which it is equal give the same bytes."""
    return {
        "annotations": file_facts(document.path)["sha256"],
        "max_images": config.max_images,
        "skeleton": skeleton.to_dict(),
        **flatten(config.decoding),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config.inference).items()},
        **facts,
        "code": code_digest(),
        "shard": list(config.part),
    }


def _complete_already(config: RunConfig, identity: dict[str, Any]) -> int:
    out, about = config.out, read_json(config.out / EVALUATION, "evaluation")
    about.pop("people", None)
    if differences(about, identity):
        refuse_used(out)
    unfinished = Unfinished(out, identity, len(identity["skeleton"]["joints"]))
    if unfinished.folder.exists():  # killed after the last step but one
        with unfinished:
            unfinished.remove()
    print(f"{out} is complete already")
    if not (out / "metrics.json").exists():
        return 0
    metrics = read_json(out / "metrics.json", "metrics")
    print(Evaluation(figures=metrics["figures"], image_oks={}).line())
    return outcome.report_unreadable(metrics["unreadable_images"], outcome.UNREADABLE_COUNT, allowed=config.allow_unreadable)


def _network_source(config: RunConfig, looks: Looks, batch_size: int, clock: Clock) -> Callable[[list[Group]], Looked]:
    def read(image: Image) -> np.ndarray:
        return read_image(config.images / image.file_name, image.size_wh)

    def find(image: Image, _pixels: np.ndarray, fields: Fields) -> People:
        return find_or_explain(fields, looks.network.skeleton, config.decoding, image.file_name)

    return Stream(looks=looks, read=read, work=find, batch_size=batch_size, clock=clock).run


def _stored_source(config: RunConfig, document: CocoFile, skeleton: Skeleton) -> Callable[[list[Group]], Looked]:
    stored = StoredFields(config.fields)
    stored.require_images(document.images, config.annotations)
    return lambda groups: decode_stored(stored, groups, skeleton, config.decoding)


def _look(
    groups: list[Group], source: Callable[[list[Group]], Looked], work: Unfinished, config: RunConfig, clock: Clock
) -> Found:
    """Look at the images that have not been looked at; print how fast, and what the network did not take of the time."""
    images = [image for group in groups for image in group]
    # An annotation file and a folder that have nothing in common: said at once, not after every image.
    if config.checkpoint and not any((config.images / image.file_name).is_file() for image in images):
        raise UserError(f"image folder {config.images}: has none of the {len(images)} images of {config.annotations}")
    todo = [group for group in groups if not all(image.id in work.found for image in group)]
    left = sum(map(len, todo))
    if left < len(images):
        print(f"{len(images) - left} of {len(images)} images were done before", flush=True)
    with progress_bar(total=len(images), initial=len(images) - left, desc="finding people", unit="image") as progress:
        for group in source(todo):
            work.append({image.id: people for image, people in group if isinstance(people, People)})
            for image, people in group:
                if not isinstance(people, People):
                    work.found.unreadable[image.id] = str(people)
            progress.update(len(group))
            clock.count(len(group))
    if not work.found.people:
        raise UserError(f"image folder {config.images}: none of the {len(images)} images can be read; is it the right one?")
    return work.found


def _publish_part(config: RunConfig, identity: dict[str, Any], groups: list[Group], found: Found) -> int:
    """The output of a shard: what was found, for `merge`; no figures, which would be those of a part of the images."""
    ids = sorted(image.id for group in groups for image in group)
    with new_folder(config.out) as folder:
        (folder / PEOPLE).write_bytes(found.lines(ids))
        write_json(folder / EVALUATION, {**identity, "people": file_facts(folder / PEOPLE)})
        save_config(config, folder / "config.yaml")
    print(f"part {config.shard}, {len(ids)} images, in {config.out}; `python -m evaluator merge` scores all parts together")
    names = {image.file_name: found.unreadable[image.id] for g in groups for image in g if image.id in found.unreadable}
    return outcome.report_unreadable(names, "are merged as images in which nothing was found", allowed=config.allow_unreadable)
