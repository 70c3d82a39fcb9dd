"""The command `merge`: the parts of a sharded evaluation -> exactly the result of the whole one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from evaluator.inference.clock import Clock
from evaluator.jobs import outcome
from evaluator.jobs.partial import EVALUATION, PEOPLE, Found, differences, parse_lines
from evaluator.jobs.run import choose_images
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.files import file_facts, read_json, refuse_used
from pipeline.skeleton import Skeleton


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Score the parts that `run --shard 1/n` to `run --shard n/n` wrote, as if one run had looked at all images.

    Example: python -m evaluator merge part1 part2 --annotations person_keypoints_val2017.json --out ap
    """

    parts: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The --out folders of all parts, in any order."""
    annotations: Path
    """The annotation file of the parts."""
    out: Path
    """Folder for results.json, metrics.json, evaluation.json, config.yaml and pictures; absent or empty."""
    images: Path | None = None
    """Folder of the images, for the pictures."""
    pictures: int = 8
    """Pictures of so many of the best and so many of the worst images; 0: none."""
    draw_min_score: float = 1.0
    """Pictures show predicted people with at least this score; results.json holds everybody."""
    allow_unreadable: bool = False
    """Exit with 0 although images could not be read. They are listed, and count as images in which nothing was found."""

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts must be at least one folder, got none")
        if self.pictures < 0:
            raise ValueError(f"pictures must be 0 or more, got {self.pictures}")


def run(config: MergeConfig) -> int:
    """Raises UserError naming parts that are missing, given twice, damaged, or of another evaluation."""
    refuse_used(config.out)
    if config.images is not None and not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder")
    parts = {part: _read_identity(part) for part in config.parts}
    if len(parts) < len(config.parts):
        raise UserError(f"part {next(p for p in config.parts if config.parts.count(p) > 1)}: given twice")
    identity = _common_identity(parts)
    skeleton = Skeleton.from_dict(identity["skeleton"])
    if file_facts(config.annotations)["sha256"] != identity["annotations"]:
        raise UserError(f"annotation file {config.annotations}: not the one that {config.parts[0]} was made with")
    document = CocoFile(config.annotations, skeleton)
    images = choose_images(document, identity["max_images"])
    found = Found()
    for part, about in parts.items():
        _add(found, part, about, skeleton.num_joints)
    if missing := [image.id for image in images if image.id not in found]:
        raise UserError(f"{len(missing)} images are in none of the parts, such as {missing[0]}; make the parts anew")
    scored = outcome.score(document, skeleton, images, found)
    return outcome.publish(scored, config, {**identity, "shard": [1, 1]}, Clock())


def _read_identity(part: Path) -> dict[str, Any]:
    path = part / EVALUATION
    if not path.is_file() and part.with_name(part.name + ".unfinished").is_dir():
        raise UserError(f"part {part}: unfinished; run its command again")
    about = read_json(path, "part of an evaluation")
    if not isinstance(about, dict) or not {"shard", "people", "skeleton", "annotations", "max_images"} <= about.keys():
        raise UserError(f"part {part}: not the output of `run --shard`; give the --out folders of such runs")
    return about


def _common_identity(parts: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """What all parts agree on. Raises UserError unless they are all n parts of one evaluation."""
    first = next(iter(parts))
    common = {name: value for name, value in parts[first].items() if name not in ("shard", "people")}
    count = parts[first]["shard"][1]
    numbers: dict[int, Path] = {}
    for part, about in parts.items():
        number, of = about["shard"]
        if of != count:
            raise UserError(f"part {part}: is {number}/{of}, but {first} is one of {count}; give the parts of one evaluation")
        if changed := differences(common, {name: value for name, value in about.items() if name not in ("shard", "people")}):
            raise UserError(f"part {part}: of another evaluation than {first} ({changed.replace(' there', f' in {first}')})")
        if number in numbers:
            raise UserError(f"part {part}: is {number}/{of}, as {numbers[number]} is; give every part once")
        numbers[number] = part
    if missing := sorted(set(range(1, count + 1)) - numbers.keys()):
        raise UserError(f"missing parts: {', '.join(f'{number}/{count}' for number in missing)}; `run --shard` makes them")
    return common


def _add(found: Found, part: Path, about: dict[str, Any], num_joints: int) -> None:
    path = part / PEOPLE
    if not path.is_file() or file_facts(path) != about["people"]:
        raise UserError(f"part {part}: {PEOPLE} is missing or not the one that was written (its SHA-256 differs); make it anew")
    here, _ = parse_lines(path.read_bytes(), num_joints)
    if twice := [i for i in (*here.people, *here.unreadable) if i in found]:
        raise UserError(f"part {part}: image {twice[0]} is in another part too; make the parts anew")
    found.people.update(here.people)
    found.unreadable.update(here.unreadable)
