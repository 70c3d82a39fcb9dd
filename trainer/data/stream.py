"""Batches from the shards of a record set, read and decoded in threads ahead of the device.

The samples of a batch are a pure function of seed, epoch, rank, world size and batch size (`order`), and the augmentation of a sample is a
pure function of seed, epoch and sample (`draw_augmentation`).
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.records.codec import SOURCE_SHIFT, DamagedRow, Row
from pipeline.records.contents import check_files
from pipeline.records.manifest import SHARDS, Manifest, read_manifest
from pipeline.records.reader import ShardReader
from trainer.data.config import JitterConfig
from trainer.data.order import BLANK, draw_augmentation, order, places
from trainer.data.weights import epoch_size, source_weights
from trainer.device import num_cores

P = ParamSpec("P")
T = TypeVar("T")

Prepare = Callable[[Mapping[str, Any]], Any]
"""Makes the inputs of the device from the fields of a batch, by name. Runs in the threads of the stream."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The batch of one step on one rank. The mask of a blank place is 1 everywhere.

    images: uint8 (B, S, S, 3) RGB. heatmaps: uint8 (B, J + 1, h, w). pafs: int8 (B, 2 L, h, w).
    mask: uint8 (B, h, w), 1 = ignored. labeled: uint8 (B, J + 1 + 2 L), 1 = the source of the sample labels this channel.
    image_ids: int64 (B,), -1 for a blank place.
    augmentation: float32 (B, 4), see `draw_augmentation`. number: of this batch since the iterator
    started, from 0. inputs: what `prepare` made of the fields; None without it.
    epoch, position: where to resume after this batch; position counts the samples of the epoch seen by all ranks.
    """

    images: np.ndarray
    heatmaps: np.ndarray
    pafs: np.ndarray
    mask: np.ndarray
    labeled: np.ndarray
    image_ids: np.ndarray
    augmentation: np.ndarray
    number: int
    inputs: Any = None
    epoch: int
    position: int

    @property
    def num_samples(self) -> int:
        """Number of samples, not counting blank places."""
        return int(np.count_nonzero(self.image_ids != BLANK))


class Stream:
    """The batches of one rank. Epoch e reads variant e mod K of K variants, each sample once, or as often as the weight of its source
    says (`weights`: by name of the source; others keep the weight of the record set).

    Raises UserError if the record set is incomplete: a file is missing or has another size or, with `check_hashes` (which reads the
    whole set), another SHA-256. The CRC of every row is checked when the row is read.
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
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.records = Path(records)
        self.manifest = read_manifest(self.records)
        if faults := check_files(self.records, self.manifest, hashes=check_hashes):
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise UserError(f"record set {self.records}: {faults[0]}{more}; copy or build it again")
        self.format = self.manifest.format
        self.weights = source_weights(self.manifest, weights or {})
        self.num_samples = epoch_size(self.manifest, self.weights)
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self.jitter = jitter or JitterConfig()
        self._num_workers = min(num_parallel_workers, num_cores())

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // (self.batch_size * self.world))

    def batches(self, epoch: int = 0, position: int = 0, prepare: Prepare | None = None) -> Generator[Batch, None, None]:
        """Yield batches endlessly from a position of an epoch. Opens the next epoch while the current one is read.

        With `prepare`, threads also make each batch's `inputs`, several batches ahead of the device.
        """
        if position >= self.num_samples:
            epoch, position = epoch + 1, 0
        readers, number = [self._open(epoch, position, 0, prepare)], 0
        try:
            while True:
                number += readers[0].num_batches
                readers.append(self._open(epoch + 1, 0, number, prepare))
                yield from self._read(readers[0], epoch, position)
                readers.pop(0).close()
                epoch, position = epoch + 1, 0
        finally:
            for reader in readers:
                reader.close()

    def _places(self, epoch: int) -> np.ndarray:
        """Return the samples of an epoch; see `places`."""
        if not self.weights:
            return np.arange(self.manifest.num_images)
        return places(self.manifest.images_per_source, self.weights, seed=self.seed, epoch=epoch)

    def _open(self, epoch: int, position: int, first_number: int, prepare: Prepare | None) -> "_EpochReader":
        variant = epoch % self.manifest.num_variants
        shards = [shard for shard in self.manifest.shards if shard.variant == variant and shard.num_rows]
        indices = order(
            self.num_samples, seed=self.seed, epoch=epoch, batch_size=self.batch_size, rank=self.rank, world=self.world,
            position=position,
        )  # fmt: skip
        augmentation = draw_augmentation(self.jitter, self.num_samples, seed=self.seed, epoch=epoch)
        names = [shard.name for shard in shards]
        return _EpochReader(
            self.records,
            names,
            self._places(epoch),
            indices,
            augmentation,
            self.manifest,
            self._num_workers,
            first_number,
            prepare,
        )

    def _read(self, reader: "_EpochReader", epoch: int, position: int) -> Iterator[Batch]:
        for arrays in reader:
            position = min(position + self.batch_size * self.world, self.num_samples)
            yield Batch(**arrays, epoch=epoch, position=position)


class _EpochReader:
    """Reads the samples at `indices` of `samples` (one row of indices per batch) from consecutive shards, in threads that start at once.

    Each thread makes whole batches. Reading, CRC, JPEG and zstd release the global interpreter lock, so that no processes are needed.
    """

    def __init__(
        self,
        records: Path,
        shards: list[str],
        samples: np.ndarray,
        indices: np.ndarray,
        augmentation: np.ndarray,
        manifest: Manifest,
        num_workers: int,
        first_number: int,
        prepare: Prepare | None,
    ) -> None:
        cv2.setNumThreads(1)  # the threads of the stream already use all cores
        self._records, self._format, self._prepare = records, manifest.format, prepare
        self._samples, self._labeled = samples, manifest.labeled_channels
        self.num_batches = len(indices)
        self._indices, self._augmentation = iter(enumerate(indices, first_number)), augmentation
        self._buffers = threading.local()
        self._readers = [self._checked(ShardReader, records / SHARDS / name) for name in shards]
        self._first = np.cumsum([0, *map(len, self._readers)])
        self._threads = ThreadPoolExecutor(num_workers, "stream")
        self._ahead: deque[Future[dict[str, Any]]] = deque()
        self._num_ahead = 2 * num_workers
        self._read_ahead()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self._ahead:
            arrays = self._checked(self._ahead.popleft().result)
            self._read_ahead()
            yield arrays

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        for reader in self._readers:
            reader.close()

    def _read_ahead(self) -> None:
        while len(self._ahead) < self._num_ahead and (batch := next(self._indices, None)) is not None:
            self._ahead.append(self._threads.submit(self._batch, *batch))

    def _batch(self, number: int, indices: np.ndarray) -> dict[str, Any]:
        """Read the samples at `indices`. A BLANK place is masked everywhere and so adds nothing to the loss."""
        count, form, skeleton = len(indices), self._format, self._format.skeleton
        side, grid = form.targets.insize, form.targets.grid_hw
        images = np.empty((count, side, side, 3), np.uint8)
        heatmaps = np.empty((count, skeleton.num_heatmaps, *grid), np.uint8)
        pafs = np.empty((count, skeleton.num_pafs, *grid), np.int8)
        mask, image_ids = np.empty((count, *grid), np.uint8), np.empty(count, np.int64)
        labeled = np.ones((count, skeleton.num_heatmaps + skeleton.num_pafs), np.uint8)
        for i, index in enumerate(indices):
            if index == BLANK:
                images[i], heatmaps[i], pafs[i], mask[i], image_ids[i] = 0, 0, 0, 1, BLANK
                continue
            row = self._row(int(self._samples[index]))
            images[i] = form.decode_image(row["image"])
            heatmaps[i], pafs[i] = form.decode_targets(row["targets"])
            mask[i], image_ids[i] = form.decode_mask(row["mask"]), row["image_id"]
            if len(self._labeled) > 1:
                labeled[i] = self._labeled[row["image_id"] >> SOURCE_SHIFT]
        samples = {"images": images, "heatmaps": heatmaps, "pafs": pafs, "mask": mask, "labeled": labeled, "image_ids": image_ids}
        arrays = {**samples, "augmentation": self._augmentation[indices], "number": number}
        return {**arrays, "inputs": self._prepare(arrays) if self._prepare is not None else None}

    def _row(self, index: int) -> Row:
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        if not hasattr(self._buffers, "row"):
            self._buffers.row = np.empty(max(reader.max_bytes for reader in self._readers), np.uint8)
        return self._readers[shard].read(index - int(self._first[shard]), self._buffers.row)

    def _checked(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `read`. If a row is damaged or a file cannot be read, raise UserError that names the record set."""
        try:
            return read(*args, **kwargs)
        except (DamagedRow, OSError) as error:
            check = f"run `python -m pipeline verify {self._records}` to list all faults"
            raise UserError(f"record set {self._records}: {error}; {check}") from error
