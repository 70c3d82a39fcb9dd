"""Batches from the shards of a record set, read and decoded in threads ahead of the device.

Which samples a batch holds is a pure function of (seed, epoch, rank, world, batch size): see `order`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import mindspore.dataset as ds
import numpy as np

from pipeline.cli import UserError
from pipeline.records import COLUMNS, SHARD_FILE, SHARDS, DamagedRow, RecordFormat, check_files, read_manifest, row_crc32
from trainer.device import num_cores

BLANK = -1
_ARRAYS = ("images", "heatmaps", "pafs", "mask", "image_ids")


def order(
    num_samples: int, *, seed: int, epoch: int, batch_size: int, rank: int = 0, world: int = 1, position: int = 0
) -> np.ndarray:
    """Samples of an epoch in the order in which a rank sees them: intp (number of batches, batch_size).

    All ranks together take world * batch_size samples a step out of one permutation, so that their batches are disjoint,
    cover everything, and are the same for every split of that product. What the last step lacks is BLANK. `position`
    samples of the permutation (over all ranks) are left out: the way back into the middle of an epoch.
    """
    if not 0 <= position <= num_samples or not 0 <= rank < world or batch_size < 1:
        raise ValueError(f"no position {position} of {num_samples} samples for rank {rank} of {world}, batch size {batch_size}")
    left = np.random.default_rng([seed, epoch]).permutation(num_samples)[position:]
    num_steps = -(-len(left) // (world * batch_size))
    padded = np.full(num_steps * world * batch_size, BLANK)
    padded[: len(left)] = left
    return padded.reshape(num_steps, world, batch_size)[:, rank]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one step of one rank learns from. A blank place is entirely masked.

    images: uint8 (B, S, S, 3) RGB. heatmaps: uint8 (B, J + 1, h, w). pafs: int8 (B, 2 L, h, w).
    mask: uint8 (B, h, w), 1 = ignored. image_ids: int64 (B,), -1 for a blank.
    epoch, position: where to go on after this batch; position counts the samples of the epoch seen by all ranks.
    """

    images: np.ndarray
    heatmaps: np.ndarray
    pafs: np.ndarray
    mask: np.ndarray
    image_ids: np.ndarray
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
    ) -> None:
        self.records = Path(records)
        self.manifest = read_manifest(self.records)
        if faults := check_files(self.records, self.manifest, hashes=check_hashes):
            more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
            raise UserError(f"record set {self.records}: {faults[0]}{more}; copy or build it again")
        self.format = self.manifest.format
        self.num_samples = self.manifest.num_images
        self.batch_size, self.seed, self.rank, self.world = batch_size, seed, rank, world
        self._num_workers = min(num_parallel_workers, num_cores())

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_samples // (self.batch_size * self.world))

    def batches(self, epoch: int = 0, position: int = 0) -> Iterator[Batch]:
        """Batches without end, from a position of an epoch on. The next epoch is opened while the current one is read."""
        if position >= self.num_samples:
            epoch, position = epoch + 1, 0
        current = self._open(epoch, position)
        while True:
            following = self._open(epoch + 1, 0)
            try:
                yield from self._read(current, epoch, position)
            finally:
                current.close()
            current, epoch, position = following, epoch + 1, 0

    def _open(self, epoch: int, position: int) -> "_Pipeline":
        variant = epoch % self.manifest.num_variants
        shards = [shard for shard in self.manifest.shards if shard.variant == variant and shard.num_rows]
        files = [str(self.records / SHARDS / shard.name / SHARD_FILE) for shard in shards]
        indices = order(
            self.num_samples, seed=self.seed, epoch=epoch, batch_size=self.batch_size, rank=self.rank, world=self.world,
            position=position,
        )  # fmt: skip
        return _Pipeline(self.records, files, indices, self.format, self._num_workers)

    def _read(self, pipeline: "_Pipeline", epoch: int, position: int) -> Iterator[Batch]:
        for arrays in pipeline:
            position = min(position + self.batch_size * self.world, self.num_samples)
            yield Batch(**arrays, epoch=epoch, position=position)


class _Pipeline:
    """The rows of `files` at `indices` (B at a time), decoded by threads that start now; yields the arrays of each batch."""

    def __init__(self, records: Path, files: list[str], indices: np.ndarray, row_format: RecordFormat, num_workers: int) -> None:
        self._records, self._indices, self._format = records, indices, row_format
        wanted = indices[indices != BLANK].tolist()
        rows = ds.MindDataset(
            files, columns_list=list(COLUMNS), sampler=ds.SubsetSampler(wanted or [0]), num_parallel_workers=num_workers
        )
        rows = rows.map(
            _decoder(row_format), input_columns=list(COLUMNS), output_columns=list(_ARRAYS), num_parallel_workers=num_workers,
            python_multiprocessing=False,
        )  # fmt: skip
        rows = rows.batch(indices.shape[1], num_parallel_workers=1)
        self._rows = rows.create_dict_iterator(num_epochs=1, output_numpy=True)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for indices in self._indices:
            blanks = int(np.count_nonzero(indices == BLANK))
            if blanks == 0:
                yield self._next()
                continue
            blank = self._blank(blanks)
            yield blank if blanks == len(indices) else {n: np.concatenate([a, blank[n]]) for n, a in self._next().items()}

    def _next(self) -> dict[str, np.ndarray]:
        try:
            return next(self._rows)
        except RuntimeError as error:
            # MindSpore gives the traceback of the thread as text; the last line that names our error says what it is.
            lines = [line for line in str(error).splitlines() if DamagedRow.__name__ + ":" in line] or [str(error)]
            cause = lines[-1].split(DamagedRow.__name__ + ":")[-1].strip()
            check = f"`python -m pipeline verify {self._records}` lists all faults"
            raise UserError(f"record set {self._records}: {cause}; {check}") from error

    def _blank(self, count: int) -> dict[str, np.ndarray]:
        """Places without a sample: all of them ignored, so that they add nothing to the loss."""
        side, grid, skeleton = self._format.targets.insize, self._format.targets.grid_hw, self._format.skeleton
        return {
            "images": np.zeros((count, side, side, 3), np.uint8),
            "heatmaps": np.zeros((count, skeleton.num_heatmaps, *grid), np.uint8),
            "pafs": np.zeros((count, skeleton.num_pafs, *grid), np.int8),
            "mask": np.ones((count, *grid), np.uint8),
            "image_ids": np.full(count, BLANK, np.int64),
        }

    def close(self) -> None:
        self._rows.stop()


def _decoder(row_format: RecordFormat):
    """The one function that makes arrays of a row's columns. It raises DamagedRow for a row that is not what was written."""
    cv2.setNumThreads(1)  # the threads of the pipeline are enough

    def decode(*values):
        row = dict(zip(COLUMNS, values, strict=True))
        row |= {name: v.view(np.uint8) if COLUMNS[name] == "bytes" else int(v.ravel()[0]) for name, v in row.items()}
        if row_crc32(row) != row["crc32"]:
            raise DamagedRow(f"image {row['image_id']}, variant {row['variant']}: CRC32 does not match")
        image, mask = row_format.decode_image(row["image"]), row_format.decode_mask(row["mask"])
        return image, *row_format.decode_targets(row["targets"]), mask, np.int64(row["image_id"])

    return decode
