"""The command `simulate`: show how many ranks would share a record set with as many rows and shards as COCO's."""

import itertools
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.build.shards import shard_name
from pipeline.build.worker import BUILDER_VERSION
from pipeline.datasets.selection import PersonFilter
from pipeline.records.codec import SCHEMA_VERSION, RecordFormat, Row, row_crc32
from pipeline.records.manifest import MANIFEST, SAMPLES, SHARDS, Manifest, Source
from pipeline.records.reader import shard_facts
from pipeline.records.writer import ShardWriter
from pipeline.runtime.progress import progress_bar
from pipeline.samples.augment import Crop
from pipeline.samples.targets import TargetConfig, render_targets
from pipeline.skeletons import COCO18
from pipeline.storage.files import file_facts
from pipeline.wording import counted
from trainer.commands.config import SimulateConfig
from trainer.data.order import BLANK, order
from trainer.data.stream import Stream

NO_DIGEST = "0" * 64
INSIZE = 32  # of the simulated rows: their number and index are those of COCO, their pixels are not


def run(config: SimulateConfig) -> int:
    """Run the command `simulate`."""
    with tempfile.TemporaryDirectory(prefix="simulate-") as temporary:
        bounds = write_records(Path(temporary), config)
        titles = ("samples/rank", "shards/rank", "blanks", "each once", "MB/s per rank", "order ms", "first batch s")
        print(f"{'ranks':>6}" + "".join(f"{title:>18}" for title in titles))
        for world in config.ranks:
            print(_line(Path(temporary), config, bounds, world), flush=True)
    return 0


def _line(folder: Path, config: SimulateConfig, bounds: np.ndarray, world: int) -> str:
    """Return the line of the table for `world` ranks."""
    samples, num_shards, seconds, num_places = [], [], [], 0
    for rank in progress_bar(range(world), desc=counted(world, "rank"), unit="rank"):
        start_s = time.perf_counter()
        indices = order(config.num_images, seed=0, epoch=0, batch_size=config.batch_size, rank=rank, world=world)
        seconds.append(time.perf_counter() - start_s)
        samples.append(indices[indices != BLANK])
        num_shards.append(len(np.unique(np.searchsorted(bounds, samples[-1], side="right"))))
        num_places += indices.size
    counts = [len(part) for part in samples]
    once = np.array_equal(np.sort(np.concatenate(samples)), np.arange(config.num_images))
    fields = (
        f"{min(counts):,} to {max(counts):,}", f"{min(num_shards)} to {max(num_shards)}", f"{num_places - sum(counts):,}",
        "yes" if once else "NO", f"{config.device_rate * config.sample_kb / 1e3:.2f}", f"{1e3 * np.median(seconds):.1f}",
        f"{_first_batch_s(folder, config, world):.2f}",
    )  # fmt: skip
    return f"{world:>6}" + "".join(f"{field:>18}" for field in fields)


def _first_batch_s(folder: Path, config: SimulateConfig, world: int) -> float:
    """Return the seconds that the last of `world` ranks takes to open the record set and read one batch."""
    start_s = time.perf_counter()
    batches = Stream(folder, batch_size=config.batch_size, seed=0, rank=world - 1, world=world).batches()
    next(batches)
    seconds = time.perf_counter() - start_s
    batches.close()
    return seconds


def write_records(folder: Path, config: SimulateConfig) -> np.ndarray:
    """Write a complete record set of one variant. Returns the end of each shard: the index after its last row."""
    (folder / SHARDS).mkdir(parents=True)
    form = RecordFormat(skeleton=COCO18, targets=TargetConfig(insize=INSIZE))
    bounds = np.linspace(0, config.num_images, config.shards + 1).round().astype(int)
    _write_shards(folder, form, bounds)
    pq.write_table(pa.table({"image_id": np.arange(config.num_images)}), folder / SAMPLES)
    shards = [shard_facts(folder / SHARDS / shard_name(0, number), variant=0) for number in range(config.shards)]
    source: Source = {"name": "none", "bytes": 0, "sha256": NO_DIGEST}
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, builder_version=BUILDER_VERSION, skeleton=COCO18.to_dict(),
        config={**asdict(form.targets), **asdict(PersonFilter()), "image_codec": form.image_codec, "jpeg_quality": form.jpeg_quality},
        seed=0, num_variants=1, num_images=config.num_images, num_samples=config.num_images, sources={"annotations": source}, counts={},
        licenses={}, skipped=[], digest=NO_DIGEST, samples_file=file_facts(folder / SAMPLES), shards=shards,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.to_json())
    return bounds[1:]


def _write_shards(folder: Path, form: RecordFormat, bounds: np.ndarray) -> None:
    """Write one shard for each range of image ids between two bounds. All rows have the same content."""
    schema = pa.schema([("image_id", pa.int64()), ("crc32", pa.int64()), ("row", pa.int64())])
    content = _blank_row(form)
    with progress_bar(total=int(bounds[-1]), desc="writing rows", unit="row") as progress:
        for number, (low, high) in enumerate(itertools.pairwise(bounds)):
            writer = ShardWriter(folder / SHARDS / shard_name(0, number), page_bytes=form.page_bytes)
            for image_id in range(low, high):
                row = {**content, "image_id": image_id}
                crc32 = row_crc32(row)
                writer.write({**row, "crc32": crc32}, {"image_id": image_id, "crc32": crc32})
            writer.publish(schema)
            progress.update(high - low)


def _blank_row(form: RecordFormat) -> Row:
    """Return an encoded sample without people."""
    side = form.targets.insize
    crop = Crop(
        image=np.zeros((side, side, 3), np.uint8), ignore=np.zeros(form.targets.grid_hw, bool),
        keypoints=np.zeros((0, form.skeleton.num_joints, 3), np.float32),
    )  # fmt: skip
    heatmaps, pafs = render_targets(crop.keypoints, skeleton=form.skeleton, config=form.targets)
    return form.encode(crop, heatmaps, pafs, image_id=0, variant=0, license=0)
