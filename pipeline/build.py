"""Build a record set: plan image ranges, let joblib make each range's shards, gather the manifest. Resumable at any moment.

A range's job decodes each image once and writes one shard per variant. Every row depends on (seed, image id, variant) alone,
so the set has the same bytes for any number of jobs and after any interruption.
"""

import fcntl
import functools
import json
import os
import pkgutil
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple

import cv2
import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tyro
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from pipeline import masks, measures, records
from pipeline.annotations import PersonFilter, Sample, Selection, read_annotations
from pipeline.augment import AugmentConfig, Crop, Transform, apply_transform, plan_transform
from pipeline.cli import UserError, flatten, read_json
from pipeline.engine import Backend, engine
from pipeline.images import UnreadableImage, read_image
from pipeline.reader import shard_facts, shard_faults
from pipeline.records import RecordFormat
from pipeline.skeleton import read_skeleton
from pipeline.targets import TargetConfig

BUILDER_VERSION = "0.2.0"
PLAN = "build.json"
LOCK = "build.lock"
SKIPPED = "skipped.tsv"
# By name, since imports follow the data and cards come after records; loaded when there is a set to write the card of.
CARD_WRITER = "data_cards.card:write_card"
SAMPLES_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("variant", pa.int32()),
        ("file_name", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("licence", pa.int32()),
        ("people", pa.int32()),
        ("affine", pa.list_(pa.float64(), 6)),
        ("mirrored", pa.bool_()),
        ("bytes", pa.int64()),
        ("crc32", pa.int64()),
        *measures.FIELDS,
    ]
)


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Build records from COCO key points (2014, 2017, or a file of the same form).

    Example: python -m pipeline build --annotations person_keypoints_train2017.json --images train2017 --out records
    """

    PRESETS: ClassVar = {
        "reference": {},
        # https://github.com/CMU-Perceptual-Computing-Lab/openpose_train: scale 1/3 to 1.5, target_dist 0.6, 45 degrees
        "cmu": {
            "min_scale": 0.333,
            "max_scale": 1.5,
            "person_share": 0.6,
            "rotation_range_degrees": 45.0,
            "colour_probability": 0.0,
            "people_free_share": 0.02,
        },
    }

    annotations: Path
    """COCO key-point annotation file (person_keypoints_*.json)."""
    images: Path
    """Folder of the images."""
    out: Path
    """Folder of the record set; absent, empty, or left by the same command, which then continues."""
    preset: Literal["reference", "cmu"] = "reference"
    """Defaults of the augmentation: the model zoo's, or those of CMU's training (person in the middle at 1/3 to 1.5 of its usual
    size, rotation within 45 degrees, no colour, 2 % people-free images)."""
    skeleton: Path | None = None
    """Key points other than COCO's: YAML or JSON with name, joints, limbs, mirror_pairs, source_joints, sigmas, derived."""
    variants: int = 1
    """Augmented variants of every image; epoch e trains on variant e mod variants. More of them than a complete set has are
    added to it."""
    shards: int | None = None
    """Shards per variant. Default: one for every 256 images, at most 64."""
    jobs: int = -1
    """Processes; -1 = one per core. The records do not depend on it."""
    backend: Backend = "loky"
    """Who runs them: processes of this machine, or the workers of a dask cluster that sees the same folders."""
    scheduler: str | None = None
    """Address of the dask scheduler, such as tcp://host:8786."""
    seed: int = 0
    """Seed of the augmentation."""
    image_codec: Literal["jpeg", "raw"] = "jpeg"
    """How the crops are stored: jpeg (about 40 KB) or raw pixels (about 400 KB, no decoding when training)."""
    jpeg_quality: int = 90
    """JPEG quality of the crops, 1 to 100."""
    strict: bool = False
    """Stop at the first unreadable image. Otherwise it is skipped, counted and listed."""
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    people: Annotated[PersonFilter, tyro.conf.arg(name="")] = field(default_factory=PersonFilter)
    augmentation: Annotated[AugmentConfig, tyro.conf.arg(name="")] = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.variants < 1:
            raise ValueError(f"variants must be at least 1, got {self.variants}")
        if self.shards is not None and self.shards < 1:
            raise ValueError(f"shards must be at least 1, got {self.shards}")
        if (self.backend == "dask") != (self.scheduler is not None):
            raise ValueError(f"scheduler goes with --backend dask, got {self.scheduler} with {self.backend}")
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        _ = self.format  # read here, so that workers need not

    @functools.cached_property
    def format(self) -> RecordFormat:
        skeleton = read_skeleton(self.skeleton)
        return RecordFormat(skeleton=skeleton, targets=self.targets, image_codec=self.image_codec, jpeg_quality=self.jpeg_quality)

    def content(self) -> dict:
        """The options that decide what is in the set: all but where it comes from, where it goes and who builds it."""
        outside = ("annotations", "images", "out", "skeleton", "jobs", "backend", "scheduler", "strict")
        return {name: value for name, value in flatten(self).items() if name not in outside}


@dataclass(frozen=True, kw_only=True)
class Range:
    """The job of one worker: consecutive samples, and the shard of each variant that is still missing."""

    number: int
    samples: list[Sample]
    variants: list[int]


def run(config: BuildConfig) -> int:
    """The command `build`. Raises UserError for bad input."""
    if not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder")
    with tqdm(total=1, desc="reading annotations", disable=None, leave=False):
        selection = read_annotations(
            config.annotations, skeleton=config.format.skeleton, person_filter=config.people, seed=config.seed
        )
    if not selection.samples:
        raise UserError(
            f"annotation file {config.annotations}: no image has a person with at least {config.people.min_joints} labelled "
            f"joints and more than {config.people.min_area_px:g} square pixels; relax --min-joints or --min-area-px"
        )
    plan = {
        "builder_version": BUILDER_VERSION,
        "schema_version": records.SCHEMA_VERSION,
        "config": config.content(),
        "skeleton": config.format.skeleton.to_dict(),
        "sources": {
            "annotations": {
                "name": config.annotations.name,
                **records.file_facts(config.annotations),
                **selection.origin,
            }
        },
    }
    if (config.out / records.MANIFEST).exists():
        there = records.read_manifest(config.out)
        grown = {**there.__dict__, "config": {**there.config, "variants": max(config.variants, there.num_variants)}}
        _refuse_other_plan(plan, grown, config.out)
        if config.variants == there.num_variants:
            if not (config.out / records.CARD).exists():
                pkgutil.resolve_name(CARD_WRITER)(config.out, there)
            print(f"{config.out} is complete already")
            return 0
        print(f"{config.out}: from {there.num_variants} to {config.variants} variants")
    with (
        _claimed(config.out, plan),
        engine(config.backend, config.scheduler, (config.images.resolve(), config.out.resolve() / LOCK)),
    ):
        _build_ranges(config, selection)
        manifest = _gather(config, selection, plan)
    _print_summary(config.out, manifest)
    return 0


@contextmanager
def _claimed(out: Path, plan: dict) -> Iterator[None]:
    """Own the folder while building; leave a resumable state, or nothing if no shard was finished.

    A complete set, which is to grow, becomes an unfinished one of the new plan.
    """
    fresh = not out.exists() or not any(out.iterdir())
    complete = (out / records.MANIFEST).exists()
    if not fresh and not complete and not (out / PLAN).exists():
        raise UserError(f"{out}: not empty and not an unfinished build; give an empty or new folder")
    out.mkdir(parents=True, exist_ok=True)
    with open(out / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{out}: another build is writing there") from error
        if fresh or complete:
            _write_whole(out / PLAN, json.dumps(plan, indent=1))
            for outdated in (records.MANIFEST, records.CARD):
                (out / outdated).unlink(missing_ok=True)
        else:
            _refuse_other_plan(plan, read_json(out / PLAN, "build plan"), out)
        shards = out / records.SHARDS
        try:
            yield
        finally:
            _remove_unfinished(shards)
            if not (shards.exists() and any(shards.iterdir())):
                shutil.rmtree(out)
    (out / PLAN).unlink()
    (out / LOCK).unlink()


def _remove_unfinished(shards: Path) -> None:
    for leftover in shards.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _refuse_other_plan(plan: dict, found: dict, out: Path) -> None:
    for part in ("builder_version", "schema_version", "config", "skeleton", "sources"):
        if plan[part] != found.get(part):
            wanted, there = json.loads(json.dumps(plan[part])), found.get(part)
            if isinstance(wanted, dict) and isinstance(there, dict):
                changed = [key for key in sorted({*wanted, *there}) if wanted.get(key) != there.get(key)]
                if not changed:
                    continue
                part = ", ".join(f"{key}: {there.get(key)} there, {wanted.get(key)} now" for key in changed)
            raise UserError(f"{out}: begun with other settings or input ({part}); use the same, or another folder")


def _build_ranges(config: BuildConfig, selection: Selection) -> None:
    shards = config.out / records.SHARDS
    shards.mkdir(exist_ok=True)
    _remove_unfinished(shards)
    ranges = _plan_ranges(config, selection.samples)
    total = len(selection.samples) * config.variants
    # The workers of a cluster have a working folder of their own.
    absolute = replace(config, images=config.images.resolve(), out=config.out.resolve())
    work = (joblib.delayed(build_range)(absolute, part, shards.resolve()) for part in ranges)
    done = total - sum(len(part.samples) * len(part.variants) for part in ranges)
    parallel = joblib.Parallel(n_jobs=config.jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs")
    images = skipped = num_bytes = 0
    start_s = time.monotonic()
    try:
        with tqdm(total=total, initial=done, desc="building", unit="sample", disable=None) as progress:
            for built in parallel(work):
                images += built.num_images
                skipped += built.num_skipped
                num_bytes += built.num_bytes
                seconds = time.monotonic() - start_s
                rates = f"{images / seconds:.0f} images/s, {num_bytes / seconds / 1e6:.1f} MB/s, {skipped} skipped"
                progress.set_postfix_str(rates, refresh=False)
                progress.update(built.num_samples)
    except TerminatedWorkerError as error:
        raise UserError(
            f"a worker was killed, perhaps for want of memory (fewer --jobs need less); run again: {error}"
        ) from error


def _plan_ranges(config: BuildConfig, samples: list[Sample]) -> list[Range]:
    """Ranges with a missing shard. Shards that stand there are read whole, not trusted."""
    count = min(config.shards or min(64, -(-len(samples) // 256)), len(samples))
    bounds = np.linspace(0, len(samples), count + 1).round().astype(int)
    ranges = []
    for number in range(count):
        missing = []
        for variant in range(config.variants):
            folder = config.out / records.SHARDS / shard_name(variant, number)
            if folder.exists() and shard_faults(folder, config.format):
                shutil.rmtree(folder)
            if not folder.exists():
                missing.append(variant)
        if missing:
            ranges.append(Range(number=number, samples=samples[bounds[number] : bounds[number + 1]], variants=missing))
    return ranges


def shard_name(variant: int, number: int) -> str:
    return f"v{variant:03d}-s{number:05d}"


class Built(NamedTuple):
    """What a worker did, for the progress bar: images looked at, samples they stand for, images skipped, bytes of the rows."""

    num_images: int
    num_samples: int
    num_skipped: int
    num_bytes: int


def build_range(config: BuildConfig, part: Range, folder: Path) -> Built:
    """One worker's job: decode each image of the range once, make its rows, publish the shards of all variants in `folder`."""
    from pipeline.shards import ShardWriter  # loads mindspore

    cv2.setNumThreads(1)
    page_bytes = config.format.page_bytes
    writers = {v: ShardWriter(folder / shard_name(v, part.number), page_bytes=page_bytes) for v in part.variants}
    skipped, num_bytes = [], 0
    try:
        for sample in part.samples:
            try:
                image = read_image(config.images / sample.file_name, (sample.width, sample.height))
                ignore = masks.ignore_mask(sample)
            except UnreadableImage as error:
                if config.strict:
                    raise UserError(f"image {config.images / sample.file_name}: {error} (--strict stops here)") from error
                skipped.append({"image_id": sample.image_id, "file_name": sample.file_name, "reason": str(error)})
                continue
            shared = measures.of_image(sample, image)
            for variant, writer in writers.items():
                row, about = make_row(config, sample, image, ignore, variant)
                writer.write(row, {**shared, **about, "shard": writer.folder.name})
                num_bytes += about["bytes"]
        schema = SAMPLES_SCHEMA.with_metadata({"skipped": json.dumps(skipped)})
        for writer in writers.values():
            writer.publish(schema)
    finally:
        for writer in writers.values():
            writer.discard()
    return Built(len(part.samples), len(part.samples) * len(part.variants), len(skipped), num_bytes)


def make_crop(
    config: BuildConfig, sample: Sample, image: np.ndarray, ignore: np.ndarray | None, variant: int
) -> tuple[Transform, Crop]:
    """One variant of one sample -> how it was cut out, and the crop. A pure function of its arguments.

    image: uint8 (H, W, 3) RGB, the original; ignore: bool (H, W) or None.
    """
    rng = np.random.default_rng([config.seed, sample.image_id, variant])
    insize, stride_px = config.targets.insize, config.targets.stride_px
    transform = plan_transform(sample, config.augmentation, insize=insize, stride_px=stride_px, variant=variant, rng=rng)
    crop = apply_transform(
        transform,
        image=image,
        ignore=ignore,
        keypoints=sample.keypoints,
        skeleton=config.format.skeleton,
        insize=insize,
        stride_px=stride_px,
    )
    return transform, crop


def make_row(
    config: BuildConfig, sample: Sample, image: np.ndarray, ignore: np.ndarray | None, variant: int
) -> tuple[records.Row, dict]:
    """The row of `make_crop`'s crop, and its line of samples.parquet, less what `measures.of_image` tells."""
    transform, crop = make_crop(config, sample, image, ignore, variant)
    row = config.format.encode(crop, image_id=sample.image_id, variant=variant, licence=sample.licence)
    about = {name: row[name] for name in ("image_id", "variant", "licence", "crc32")} | {
        "file_name": sample.file_name,
        "people": len(sample.keypoints),
        "affine": transform.matrix.ravel().tolist(),
        "mirrored": transform.mirrored,
        "bytes": sum(len(block) for block in row.values() if isinstance(block, bytes)),
        "masked": float(config.format.decode_mask(row["mask"]).mean()),
        **measures.of_crop(transform, crop, config.format.skeleton),
    }
    return row, about


def _gather(config: BuildConfig, selection: Selection, plan: dict) -> records.Manifest:
    """All shards are there: write samples.parquet, the card, then the manifest, which makes the set complete."""
    _remove_unfinished(config.out / records.SHARDS)  # of workers that died while others did their work
    folders = sorted((config.out / records.SHARDS).iterdir())
    shards = [shard_facts(folder, variant=int(folder.name[1:4])) for folder in folders]
    tables = [pq.read_table(folder / records.SHARD_ROWS) for folder in folders]
    listed = {entry["image_id"]: entry for t in tables for entry in json.loads(t.schema.metadata[b"skipped"])}
    samples = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    if not len(samples):
        shutil.rmtree(config.out / records.SHARDS)
        raise UserError(
            f"image folder {config.images}: none of {len(listed)} images can be read; first: {next(iter(listed.values()))}"
        )
    _refuse_uneven(config, samples, listed)
    temporary = config.out / f".{records.SAMPLES}"
    pq.write_table(samples, temporary, compression="zstd")
    os.replace(temporary, config.out / records.SAMPLES)
    skipped = [listed[image_id] for image_id in sorted(listed)]
    lines = ["image_id\tfile_name\treason", *("\t".join(map(str, entry.values())) for entry in skipped)]
    _write_whole(config.out / SKIPPED, "\n".join(lines) + "\n")
    rows = zip(*(samples[name].to_pylist() for name in ("image_id", "variant", "bytes", "crc32")), strict=True)
    manifest = records.Manifest(
        **plan,
        seed=config.seed,
        num_variants=config.variants,
        num_images=len(samples) // config.variants,
        num_samples=len(samples),
        counts={**selection.counts, "images_skipped": len(listed)},
        licences={str(id): name for id, name in selection.licences.items()},
        skipped=skipped,
        digest=records.content_digest(rows),
        samples=records.file_facts(config.out / records.SAMPLES),
        shards=shards,
    )
    pkgutil.resolve_name(CARD_WRITER)(config.out, manifest)
    _write_whole(config.out / records.MANIFEST, manifest.to_json())
    return manifest


def _refuse_uneven(config: BuildConfig, samples: pa.Table, skipped: dict[int, dict]) -> None:
    """Every variant has the same images, unless one became readable or unreadable while the set was built in parts."""
    images = {v: set(samples.filter(pc.field("variant") == v)["image_id"].to_pylist()) for v in range(config.variants)}
    if odd := set.union(*images.values()) - set.intersection(*images.values()):
        named = min(odd)
        raise UserError(
            f"image folder {config.images}: image {named} could be read for some variants and not for others "
            f"({skipped.get(named, {}).get('reason', 'unknown')}); restore it, remove {config.out} and build anew"
        )


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _print_summary(out: Path, manifest: records.Manifest) -> None:
    for name, count in sorted(manifest.counts.items()):
        print(f"  {name.replace('_', ' '):<28}{count:>10,}")
    for entry in manifest.skipped[:10]:
        print(f"  skipped {entry['file_name']}: {entry['reason']}")
    if len(manifest.skipped) > 10:
        print(f"  … and {len(manifest.skipped) - 10} more: see {out / SKIPPED}")
    size = sum(facts["bytes"] for shard in manifest.shards for facts in shard.files.values())
    print(
        f"{out}: {manifest.num_samples:,} samples of {manifest.num_images:,} images, {manifest.num_variants} variants, "
        f"{len(manifest.shards)} shards, {size / 1e6:,.1f} MB, digest {manifest.digest[:16]}"
    )
