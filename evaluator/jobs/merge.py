"""The command `merge`: combine the shards of an evaluation into exactly the result of a single run."""

from pathlib import Path
from typing import Any

from evaluator.inference.clock import Clock
from evaluator.inference.scoring import map_of, read_calibration
from evaluator.jobs import outcome, submission
from evaluator.jobs.config import MergeConfig
from evaluator.jobs.documents import read_identity
from evaluator.jobs.partial import EVALUATION, PEOPLE, Found, differences, read_lines
from evaluator.jobs.submission import ImageList
from evaluator.metrics.config import MetricConfig
from evaluator.metrics.others import require_metrics
from evaluator.tracking.sequences import require_videos
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.files import file_facts, require_folder
from pipeline.storage.folders import require_usable, unfinished_folder
from pipeline.wording import counted

OF_THE_SHARD = ("shard", "people")  # entries of an identity that differ between the shards of one evaluation


def run(config: MergeConfig) -> int:
    """Run the command. Raises UserError naming shards that are missing, given twice, damaged, or of another evaluation."""
    require_usable(config.out)
    if config.images is not None:
        require_folder(config.images, "image folder")
    parts = {part: _read_identity(part) for part in config.parts}
    if len(parts) < len(config.parts):
        raise UserError(f"shard {next(p for p in config.parts if config.parts.count(p) > 1)}: given twice")
    identity = _common_identity(parts)
    skeleton = Skeleton.from_dict(identity["skeleton"], f"evaluation {config.parts[0] / EVALUATION}: skeleton")
    document = _open(config, skeleton, identity)
    images = choose_images(document, identity["max_images"])
    found = Found()
    for part, about in parts.items():
        _add(found, part, about, skeleton.num_joints)
    if missing := [image.id for image in images if image.id not in found]:
        raise UserError(f"no shard contains image {missing[0]} ({len(missing)} of {len(images)} are missing); rerun all shards")
    ids = {image.id for image in images}
    if surplus := [image_id for image_id in (*found.people, *found.unreadable) if image_id not in ids]:
        raise UserError(
            f"the shards contain image {surplus[0]}, which is not one of the {counted(len(images), 'image')} to evaluate "
            f"({len(surplus)} of {len(surplus) + len(images)} are surplus); max_images in {EVALUATION} was edited; rerun all shards"
        )
    calibration = read_calibration(identity.get("calibration", {}), f"evaluation {config.parts[0] / EVALUATION}")
    identity, to_scores = {**identity, "shard": [1, 1]}, map_of(calibration, skeleton)
    if isinstance(document, ImageList):
        return submission.publish(config, identity, document, found, to_scores)
    scored = outcome.score(document, skeleton, images, found, config, to_scores)
    return outcome.publish(scored, config, identity, Clock())


def _open(config: MergeConfig, skeleton: Skeleton, identity: dict[str, Any]) -> CocoFile:
    """Read the annotations, or the images of a submission. Raises UserError if they are not those of the shards."""
    shard = config.parts[0]
    if identity.get("submission"):
        if config.video or config.metrics != MetricConfig():
            raise UserError(f"shard {shard}: of a submission, which has no metrics; omit --metric and --video")
        document: CocoFile = ImageList(config.annotations, config.images, skeleton)
        if document.sha256 != identity["annotations"]:
            raise UserError(f"{document.path}: not the images that {shard} was computed for")
        return document
    if config.annotations is None:
        raise UserError(f"shard {shard}: of an evaluation; give its --annotations")
    if file_facts(config.annotations)["sha256"] != identity["annotations"]:
        raise UserError(f"annotation file {config.annotations}: not the file that {shard} was evaluated with")
    document = CocoFile(config.annotations, skeleton)
    require_metrics(document, config.metrics)
    if config.video:
        require_videos(document)
    return document


def _read_identity(part: Path) -> dict[str, Any]:
    path = part / EVALUATION
    if not path.is_file() and unfinished_folder(part).is_dir():
        raise UserError(f"shard {part}: not finished; repeat its command")
    about = read_identity(path, "shard of an evaluation")
    if not {"shard", "people", "skeleton", "annotations", "max_images"} <= about.keys():
        raise UserError(f"shard {part}: not an output of `run --shard`; give the --out folders of such runs")
    return about


def _common_identity(parts: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """Return what the identities of all shards share. Raises UserError unless they are all n shards of one evaluation."""
    first = next(iter(parts))
    common = _without_shard(parts[first])
    count = parts[first]["shard"][1]
    numbers: dict[int, Path] = {}
    for part, about in parts.items():
        number, total = about["shard"]
        if total != count:
            raise UserError(
                f"shard {part}: is {number}/{total}, but {first} is one of {count} shards; give the shards of one evaluation"
            )
        if changed := differences(common, _without_shard(about), (f"in {first}", f"in {part}")):
            raise UserError(f"shard {part}: belongs to another evaluation than {first} ({changed})")
        if number in numbers:
            raise UserError(f"shard {part}: is {number}/{total}, and so is {numbers[number]}; give every shard once")
        numbers[number] = part
    if missing := sorted(set(range(1, count + 1)) - numbers.keys()):
        raise UserError(f"missing shards: {', '.join(f'{number}/{count}' for number in missing)}; create them with `run --shard`")
    return common


def _without_shard(about: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in about.items() if name not in OF_THE_SHARD}


def _add(found: Found, part: Path, about: dict[str, Any], num_joints: int) -> None:
    path = part / PEOPLE
    if not path.is_file() or file_facts(path) != about["people"]:
        raise UserError(f"shard {part}: {PEOPLE} is missing or its SHA-256 does not match; rerun this shard")
    lines = read_lines(path, num_joints)
    if lines.faults:
        raise UserError(f"shard {part}: {lines.faults[0]}; rerun this shard")
    added = lines.found
    if repeated := [i for i in (*added.people, *added.unreadable) if i in found]:
        raise UserError(f"shard {part}: image {repeated[0]} is in another shard too; rerun all shards")
    found.people.update(added.people)
    found.unreadable.update(added.unreadable)
