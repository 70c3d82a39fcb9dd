"""The command `run`: evaluate a checkpoint, or stored fields, on annotated images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import groupby
from typing import Any

from evaluator.decoding import DecodeConfig, People
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.clock import Clock
from evaluator.inference.engines import load_and_report, origin_of, sha256
from evaluator.inference.fields import Fields, find_people_or_fail
from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.scoring import map_of, read_calibration, settings_of, warn_of_other_settings
from evaluator.inference.sizes import Size
from evaluator.inference.stored_fields import StoredFields, decode_stored
from evaluator.inference.streaming import Stream
from evaluator.inference.tuned import decoding_of
from evaluator.jobs import one_shard, outcome, submission
from evaluator.jobs.config import RunConfig
from evaluator.jobs.documents import read_identity, read_metrics
from evaluator.jobs.partial import EVALUATION, PEOPLE, Found, Unfinished, differences, read_lines, remove_leftover
from evaluator.jobs.results_version import RESULTS_VERSION
from evaluator.jobs.submission import ImageList
from evaluator.metrics.coco_eval import Evaluation
from evaluator.metrics.figures import FIGURES, Measured
from evaluator.metrics.others import require_metrics
from evaluator.options import choose_batch_size
from evaluator.tracking.sequences import Tracks, cues, require_videos
from pipeline.cli import flatten
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.datasets.coco_entries import Image
from pipeline.datasets.file_skeleton import view_of_file
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.photos import Photo, whole
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton
from pipeline.storage.files import require_folder
from pipeline.storage.folders import require_usable
from pipeline.tolerance import report_unreadable
from pipeline.wording import counted

Group = Sequence[Image]
Source = Callable[[list[Group]], Iterator[Sequence[tuple[Image, People | UnreadableImage]]]]
"""Finds the people of groups of images; yields one list per group, in order."""
STORED_GROUP_SIZE = 8  # images with stored fields between two writes to OUT.unfinished


def run(config: RunConfig) -> int:
    """Run the command. Raises UserError for invalid inputs and for an output folder that is in use."""
    if not (config.out / EVALUATION).exists():
        require_usable(config.out)
    if config.images is not None:
        require_folder(config.images, "image folder")
    if config.checkpoint is None:
        assert config.fields is not None, "RunConfig requires one of the two"
        return evaluate_source(config, None, {"fields": sha256(config.fields, "fields")})
    network, device = load_and_report(config.checkpoint, config.device, config.inference)
    config = replace(config, decoding=config.decoding.filled(decoding_of(network)))
    return evaluate_source(config, network, origin_of(network, device, config.device))


def evaluate_source(config: RunConfig, network: FieldNetwork | None, origin: dict[str, Any] | None = None) -> int:
    """Evaluate `network`, or stored fields if it is None, and return the exit code.

    origin: what identifies the network or the fields (SHA-256, step), and the device.
    """
    decoding = config.decoding.over(DecodeConfig())
    config = replace(config, decoding=config.decoding.filled(decoding))
    document = _open(config, network.skeleton if network else read_skeleton(config.skeleton))
    skeleton = document.skeleton
    images = choose_images(document, config.max_images)
    origin = {"device": "CPU", "calibration": {}, **(origin or {})}
    augmented = AugmentedNetwork(network, config.inference) if network else None
    batch_size = choose_batch_size(config.batch_size, origin["device"])
    groups = plan_groups(images, augmented.padded_sizes if augmented else None, batch_size)
    insize = augmented.insize if augmented else None
    identity = identify(config, document, skeleton, origin | {"batch_size": batch_size, "insize": insize})
    calibration = read_calibration(identity["calibration"], f"checkpoint {config.checkpoint}")
    warn_of_other_settings(calibration, settings_of(config.inference, insize, decoding))
    if (config.out / EVALUATION).exists():
        return _report_complete(config, identity, document)
    number, count = config.part
    own_groups = groups[number - 1 :: count]
    if not own_groups:
        raise UserError(
            f"--shard {config.shard}: this shard is empty ({counted(len(images), 'image')} make {len(groups)} batches); use fewer shards"
        )
    clock = Clock()
    with Unfinished(config.out, identity, skeleton.num_joints) as work:
        if augmented:
            source = _network_source(config, augmented, batch_size, clock)
        else:
            source = _stored_source(config, document, skeleton)
        found = _find_all(own_groups, source, work, config, clock)
        if count > 1:
            code = one_shard.publish(config, identity, own_groups, found)
        elif isinstance(document, ImageList):
            code = submission.publish(config, identity, document, found, map_of(calibration, skeleton))
        else:
            with clock.timed("score"):
                scored = outcome.score(document, skeleton, images, found, config, map_of(calibration, skeleton))
            code = outcome.publish(scored, config, identity, clock)
        work.remove()
    return code


def _open(config: RunConfig, skeleton: Skeleton) -> CocoFile:
    """Read the annotation file, with the skeleton in its keypoints. Raises UserError for a file that lacks what the options need."""
    if config.annotations is None or config.submission:
        return ImageList(config.annotations, config.images, skeleton)
    document = CocoFile(config.annotations, skeleton, view=partial(view_of_file, joints=config.network_joints))
    require_metrics(document, config.metrics)
    if config.video:
        require_videos(document)
    return document


def plan_groups(images: Sequence[Image], sizes: Callable[[Size], tuple[Size, ...]] | None, batch_size: int) -> list[Group]:
    """Group images into batches of equal input sizes. Without `sizes`, for stored fields, group them in order.

    The groups depend on the images only, and shards and continued runs process whole groups, so that a batch is always
    computed with the same images.
    """
    if sizes is None:
        return [images[i : i + STORED_GROUP_SIZE] for i in range(0, len(images), STORED_GROUP_SIZE)]
    keyed = sorted(((sizes(image.size_wh), image.id, image) for image in images), key=lambda entry: entry[:2])
    groups: list[Group] = []
    for _, entries in groupby(keyed, key=lambda entry: entry[0]):
        alike = [image for *_, image in entries]
        groups += [alike[i : i + batch_size] for i in range(0, len(alike), batch_size)]
    return groups


def identify(config: RunConfig, document: CocoFile, skeleton: Skeleton, origin: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines the results. Two evaluations with equal identities write the same bytes."""
    return {
        "annotations": document.sha256,
        "max_images": config.max_images,
        "skeleton": skeleton.to_dict(),
        **asdict(config.decoding.over(DecodeConfig())),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config.inference).items()},
        **origin,
        "results_version": RESULTS_VERSION,
        **({"submission": True} if config.submission else {}),
        "shard": list(config.part),
    }


def _report_complete(config: RunConfig, identity: dict[str, Any], document: CocoFile) -> int:
    """Print the metrics and the unreadable images of an output that is complete already, and return its exit code.

    Raises UserError if the output is that of another evaluation, naming the options that differ.
    """
    out, about = config.out, read_identity(config.out / EVALUATION, "evaluation")
    if "results_version" not in about:
        require_usable(out)
    about.pop("people", None)
    needed = ("settings", "num_images", "unreadable_images")
    has_metrics = config.part == (1, 1) and not config.submission and not about.get("submission")
    metrics = read_metrics(out / "metrics.json", needed, FIGURES) if has_metrics else None
    changed = differences(about, identity)
    if metrics and not changed:
        before, now = outcome.drawn(metrics["settings"], flatten(config))
        changed = differences(before, now)
    if changed:
        raise UserError(
            f"output folder {out}: contains a finished evaluation with other inputs or options ({changed}); use the same ones, or "
            "choose another --out"
        )
    num_joints = len(identity["skeleton"]["joints"])
    remove_leftover(out, identity, num_joints)
    print(f"{out}: already complete")
    if config.part != (1, 1):
        return one_shard.report(config, document.images, read_lines(out / PEOPLE, num_joints).found)
    if metrics is None:  # of a submission
        return 0
    if unused := differences({"images": metrics["settings"]["images"]}, {"images": flatten(config)["images"]}):
        print(f"nothing is evaluated again, so this is not used: {unused}")
    print(Evaluation(figures=metrics["figures"], image_oks={}).summary())
    for name, written in metrics.get("others", {}).items():
        print("\n".join([f"--metric {name}", *Measured(**written).lines()]))
    if config.video:
        scores = read_metrics(out / "metrics.json", ("tracking",))["tracking"]
        print(Tracks(identities={}, figures=scores, cues=cues(config.tracking, config.images)).summary())
    return report_unreadable(metrics["unreadable_images"], outcome.UNREADABLE_SCORED, config.tolerance, metrics["num_images"])


def _network_source(config: RunConfig, augmented: AugmentedNetwork, batch_size: int, clock: Clock) -> Source:
    folder = config.images
    assert folder is not None, "RunConfig requires --images with --checkpoint"

    decoding = config.decoding.over(DecodeConfig())

    def read(image: Image) -> Photo:
        return whole(read_image(folder / image.file_name, image.size_wh))

    def find(image: Image, _photo: Photo, fields: Fields) -> People:
        return find_people_or_fail(fields, augmented.network.skeleton, decoding, image.file_name)

    return Stream(network=augmented, read=read, work=find, batch_size=batch_size, clock=clock).run


def _stored_source(config: RunConfig, document: CocoFile, skeleton: Skeleton) -> Source:
    assert config.fields is not None, "RunConfig requires one of --checkpoint and --fields"
    stored = StoredFields(config.fields)
    stored.require_images(document.images, document.path)
    return lambda groups: decode_stored(stored, groups, skeleton, config.decoding.over(DecodeConfig()))


def _find_all(groups: list[Group], source: Source, work: Unfinished, config: RunConfig, clock: Clock) -> Found:
    """Find the people of all images that an earlier run has not processed."""
    images = [image for group in groups for image in group]
    # Report a wrong image folder at once, not after trying every image.
    if config.checkpoint and config.images and not any((config.images / image.file_name).is_file() for image in images):
        raise UserError(
            f"image folder {config.images}: contains none of the {counted(len(images), 'image')} of {config.annotations}"
        )
    todo = [group for group in groups if not all(image.id in work.found for image in group)]
    num_done = len(images) - sum(map(len, todo))
    if num_done:
        print(f"continuing: {num_done} of {len(images)} images are done", flush=True)
    with progress_bar(total=len(images), initial=num_done, desc="finding people", unit="image") as progress:
        for group in source(todo):
            work.append({image.id: people for image, people in group if isinstance(people, People)})
            for image, people in group:
                if not isinstance(people, People):
                    work.found.unreadable[image.id] = str(people)
            progress.update(len(group))
            clock.count(len(group))
    if not work.found.people:
        raise UserError(f"image folder {config.images}: none of the {counted(len(images), 'image')} can be read; check --images")
    return work.found
