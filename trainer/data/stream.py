"""Batches from the shards of a record set, read and decoded in threads ahead of the device.

Which samples a batch holds is a pure function of (seed, epoch, rank, world, batch size): see `order`. What the device is to change in a sample
is one of (seed, epoch, sample): see `draw_changes`.
"""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.records.codec import DamagedRow, RecordFormat, Row
from pipeline.records.manifest import SHARDS, check_files, read_manifest
from pipeline.records.reader import ShardReader
from trainer.config import JitterConfig
from trainer.data.order import BLANK, draw_changes, order
from trainer.device import num_cores


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step of one rank learns from. A blank place is entirely masked.

    images: uint8 (B, S, S, 3) RGB. heatmaps: uint8 (B, J + 1, h, w). pafs: int8 (B, 2 L, h, w).
    mask: uint8 (B, h, w), 1 = ignored. image_ids: int64 (B,), -1 for a blank. changes: float32 (B, 4), see `draw_changes`.
    epoch, position: where to go on after this batch; position counts the samples of the epoch seen by all ranks.
    """

    images: np.ndarray
    heatmaps: np.ndarray
    pafs: np.ndarray
    mask: np.ndarray
    image_ids: np.ndarray
    changes: np.ndarray
    epoch: int
    position: int

    @property
    def num_samples(self) -> int:
        """Samples that are not blank."""
        return int(np.count_nonzero(self.image_ids != BLANK))


class Stream:
    """The batches of one rank. Epoch e reads variant e mod the number of variants, each of its samples once.

    Raises UserError, naming what is wrong, for a record set that is not complete: files missing or of another
    size, or, if `check_hashes`, of another SHA-256, which reads everything. (Every row is checked against its CRC when it is read.)
    """

    def __init__(
        self,
        records: Path,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        num_parallel_workers: int = 2,
        check_hashes: bool = False,
        jitter: JitterConfig | None = None,
    ) -> None:
        self.records = Path(records)
        self.manifest = read_manifest(self.records)
        if faults := check_files(self.records, self.manifest, hashes=check_hashes):
            more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
            raise UserError(f"record set {self.records}: {faults[0]}{more}; copy or build it again")
        self.format = self.manifest.format
        self.num_samples = self.manifest.num_images
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.jitter = jitter or JitterConfig()
        self._num_workers = min(num_parallel_workers, num_cores())

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // (self.batch_size * self.world))

    def batches(self, epoch: int = 0, position: int = 0) -> Iterator[Batch]:
        """Batches without end, from a position of an epoch on. The next epoch is opened while the current one is read."""
        if position >= self.num_samples:
            epoch, position = epoch + 1, 0
        readings = [self._open(epoch, position)]
        try:
            while True:
                readings.append(self._open(epoch + 1, 0))
                yield from self._read(readings[0], epoch, position)
                readings.pop(0).close()
                epoch, position = epoch + 1, 0
        finally:
            for reading in readings:
                reading.close()

    def _open(self, epoch: int, position: int) -> "_Reading":
        variant = epoch % self.manifest.num_variants
        shards = [shard for shard in self.manifest.shards if shard.variant == variant and shard.num_rows]
        indices = order(
            self.num_samples, seed=self.seed, epoch=epoch, batch_size=self.batch_size, rank=self.rank, world=self.world,
            position=position,
        )  # fmt: skip
        changes = draw_changes(self.jitter, self.num_samples, seed=self.seed, epoch=epoch)
        return _Reading(self.records, [shard.name for shard in shards], indices, changes, self.format, self._num_workers)

    def _read(self, reading: "_Reading", epoch: int, position: int) -> Iterator[Batch]:
        for arrays in reading:
            position = min(position + self.batch_size * self.world, self.num_samples)
            yield Batch(**arrays, epoch=epoch, position=position)


class _Reading:
    """The rows at `indices` (B at a time) of shards that follow one another, made into batches by threads that start now.

    Every thread makes whole batches. Reading, CRC, JPEG and zstd let go of Python's lock, so that threads are enough.
    """

    def __init__(
        self,
        records: Path,
        shards: list[str],
        indices: np.ndarray,
        changes: np.ndarray,
        row_format: RecordFormat,
        num_workers: int,
    ) -> None:
        cv2.setNumThreads(1)  # our threads are enough
        self._records, self._format = records, row_format
        self._indices, self._changes = iter(indices), changes
        self._buffers = threading.local()
        self._readers = [self._named(ShardReader, records / SHARDS / name) for name in shards]
        self._first = np.cumsum([0, *map(len, self._readers)])
        self._threads = ThreadPoolExecutor(num_workers, "stream")
        self._ahead: deque[Future] = deque()
        self._num_ahead = 2 * num_workers
        self._look_ahead()

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        while self._ahead:
            arrays = self._named(self._ahead.popleft().result)
            self._look_ahead()
            yield arrays

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for reader in self._readers:
            reader.close()

    def _look_ahead(self) -> None:
        while len(self._ahead) < self._num_ahead and (indices := next(self._indices, None)) is not None:
            self._ahead.append(self._threads.submit(self._batch, indices))

    def _batch(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The samples at `indices`; a BLANK place is ignored everywhere, so that it adds nothing to the loss."""
        count, form, skeleton = len(indices), self._format, self._format.skeleton
        side, grid = form.targets.insize, form.targets.grid_hw
        images = np.empty((count, side, side, 3), np.uint8)
        heatmaps = np.empty((count, skeleton.num_heatmaps, *grid), np.uint8)
        pafs = np.empty((count, skeleton.num_pafs, *grid), np.int8)
        mask, image_ids = np.empty((count, *grid), np.uint8), np.empty(count, np.int64)
        for i, index in enumerate(indices):
            if index == BLANK:
                images[i], heatmaps[i], pafs[i], mask[i], image_ids[i] = 0, 0, 0, 1, BLANK
                continue
            row = self._row(int(index))
            images[i] = form.decode_image(row["image"])
            heatmaps[i], pafs[i] = form.decode_targets(row["targets"])
            mask[i], image_ids[i] = form.decode_mask(row["mask"]), row["image_id"]
        arrays = {"images": images, "heatmaps": heatmaps, "pafs": pafs, "mask": mask, "image_ids": image_ids}
        return {**arrays, "changes": self._changes[indices]}

    def _row(self, index: int) -> Row:
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        if not hasattr(self._buffers, "row"):
            self._buffers.row = np.empty(max(reader.most_bytes for reader in self._readers), np.uint8)
        return self._readers[shard].read(index - int(self._first[shard]), self._buffers.row)

    def _named(self, work, *arguments):
        """Do it; a damaged row or a file that cannot be read names the record set."""
        try:
            return work(*arguments)
        except (DamagedRow, OSError) as error:
            check = f"`python -m pipeline verify {self._records}` lists all faults"
            raise UserError(f"record set {self._records}: {error}; {check}") from error
