"""The command `simulate`: what every rank of a large job would read, from a set with as many rows and shards as COCO's."""

import itertools
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.build.worker import BUILDER_VERSION, shard_name
from pipeline.files import file_facts
from pipeline.progress import progress_bar
from pipeline.records.codec import SCHEMA_VERSION, RecordFormat, row_crc32
from pipeline.records.manifest import MANIFEST, SAMPLES, SHARDS, Manifest
from pipeline.records.reader import shard_facts
from pipeline.samples.augment import Crop
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import COCO18

INSIZE = 32  # of the rows written: their number and their index are COCO's, their pixels are not


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """How a record set would be shared by many ranks: balance, coverage, files, bytes, and the time until the first batch.

    Writes a set of so many small rows in a temporary folder, so that opening it takes what a real one of that size takes, and asks
    the stream itself what every rank would read.

    Example: python -m trainer simulate
    """

    num_images: int = 56_599
    """Rows of a variant. Default: train2017's images with keypoints."""
    shards: int = 64
    """Shards of a variant."""
    sample_kb: float = 36.1
    """Kilobytes of a real sample, as `python -m pipeline bench-build` measures it."""
    batch_size: int = 10
    """Samples a step of one rank."""
    ranks: tuple[int, ...] = (1, 8, 64, 512)
    """Sizes of the jobs."""
    device_rate: float = 35.0
    """Samples a second of one device."""

    def __post_init__(self) -> None:
        for name in ("num_images", "shards", "sample_kb", "batch_size", "device_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.ranks or min(self.ranks) < 1:
            raise ValueError(f"ranks must be numbers from 1 on, got {self.ranks}")


def run(config: SimulateConfig) -> int:
    """The command `simulate`."""
    with tempfile.TemporaryDirectory(prefix="simulate-") as temporary:
        bounds = write_set(Path(temporary), config)
        titles = ("samples a rank", "shards a rank", "blanks", "each once", "MB/s a rank", "order ms", "first batch s")
        print(f"{'ranks':>6}" + "".join(f"{title:>18}" for title in titles))
        for world in config.ranks:
            print(_line(Path(temporary), config, bounds, world), flush=True)
    return 0


def _line(folder: Path, config: SimulateConfig, bounds: np.ndarray, world: int) -> str:
    from trainer.data.order import BLANK, order
    from trainer.data.stream import Stream

    seen, shards, seconds = [], [], []
    for rank in progress_bar(range(world), desc=f"{world} ranks", unit="rank"):
        start_s = time.perf_counter()
        indices = order(config.num_images, seed=0, epoch=0, batch_size=config.batch_size, rank=rank, world=world)
        seconds.append(time.perf_counter() - start_s)
        seen.append(indices[indices != BLANK])
        shards.append(len(np.unique(np.searchsorted(bounds, seen[-1], side="right"))))
        steps = indices.size
    start_s = time.perf_counter()
    batches = Stream(folder, batch_size=config.batch_size, seed=0, rank=world - 1, world=world).batches()
    next(batches)
    first_s = time.perf_counter() - start_s
    batches.close()
    counts = [len(part) for part in seen]
    once = np.array_equal(np.sort(np.concatenate(seen)), np.arange(config.num_images))
    fields = (
        f"{min(counts):,} to {max(counts):,}", f"{min(shards)} to {max(shards)}", f"{steps * world - sum(counts):,}",
        "yes" if once else "NO", f"{config.device_rate * config.sample_kb / 1e3:.2f}", f"{1e3 * np.median(seconds):.1f}",
        f"{first_s:.2f}",
    )  # fmt: skip
    return f"{world:>6}" + "".join(f"{field:>18}" for field in fields)


def write_set(folder: Path, config: SimulateConfig) -> np.ndarray:
    """A complete record set of one variant. Returns the number of the first row behind each of its shards."""
    from pipeline.records.writer import ShardWriter  # loads mindspore

    (folder / SHARDS).mkdir(parents=True)
    form = RecordFormat(skeleton=COCO18, targets=TargetConfig(insize=INSIZE))
    blank = Crop(
        image=np.zeros((INSIZE, INSIZE, 3), np.uint8), ignore=np.zeros(form.targets.grid_hw, bool),
        keypoints=np.zeros((0, COCO18.num_joints, 3), np.float32),
    )  # fmt: skip
    row = form.encode(blank, image_id=0, variant=0, license=0)
    bounds = np.linspace(0, config.num_images, config.shards + 1).round().astype(int)
    schema = pa.schema([("image_id", pa.int64()), ("crc32", pa.int64()), ("row", pa.int64())])
    with progress_bar(total=config.num_images, desc="writing rows", unit="row") as progress:
        for number, (low, high) in enumerate(itertools.pairwise(bounds)):
            writer = ShardWriter(folder / SHARDS / shard_name(0, number), page_bytes=form.page_bytes)
            for image_id in range(low, high):
                own = {**row, "image_id": image_id}
                writer.write({**own, "crc32": row_crc32(own)}, {"image_id": image_id, "crc32": row_crc32(own)})
            writer.publish(schema)
            progress.update(high - low)
    pq.write_table(pa.table({"image_id": np.arange(config.num_images)}), folder / SAMPLES)
    shards = [shard_facts(folder / SHARDS / shard_name(0, number), variant=0) for number in range(config.shards)]
    manifest = Manifest(
        schema_version=SCHEMA_VERSION, builder_version=BUILDER_VERSION, skeleton=COCO18.to_dict(),
        config={**asdict(form.targets), "image_codec": form.image_codec, "jpeg_quality": form.jpeg_quality},
        seed=0, num_variants=1, num_images=config.num_images, num_samples=config.num_images, sources={}, counts={},
        licenses={}, skipped=[], digest="", samples=file_facts(folder / SAMPLES), shards=shards,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.to_json())
    return bounds[1:]
