"""Order of the samples and their augmentation: pure functions of seed, epoch, rank, world size and position."""

from collections.abc import Sequence

import numpy as np

from trainer.data.config import JitterConfig

BLANK = -1
"""Index of a blank place: a place of the last batch for which no sample is left."""

IDENTITY = (0.0, 1.0, 1.0, 1.0)
"""Augmentation that changes nothing, in the columns of `draw_augmentation`."""


def order(
    num_samples: int, *, seed: int, epoch: int, batch_size: int, rank: int = 0, world: int = 1, position: int = 0
) -> np.ndarray:
    """Return the samples of an epoch in the order in which a rank sees them: intp (number of batches, batch_size).

    In every step, all ranks together take the next world * batch_size samples of one permutation. Their batches are disjoint,
    cover the epoch, and contain the same samples for every split of that product. Missing samples of the last step are BLANK.
    To resume in the middle of an epoch, `position` skips that number of samples of the permutation (over all ranks).
    """
    if not 0 <= position <= num_samples or not 0 <= rank < world or batch_size < 1:
        raise ValueError(f"no position {position} of {num_samples} samples for rank {rank} of {world}, batch size {batch_size}")
    remaining = np.random.default_rng([seed, epoch]).permutation(num_samples)[position:]
    num_steps = -(-len(remaining) // (world * batch_size))
    padded = np.full(num_steps * world * batch_size, BLANK)
    padded[: len(remaining)] = remaining
    return padded.reshape(num_steps, world, batch_size)[:, rank]


def places(counts: Sequence[int], weights: Sequence[float], *, seed: int, epoch: int) -> np.ndarray:
    """Return the samples of an epoch, with repetitions, in the order of the sources: intp (number of places,).

    counts: samples of each source; those of the first source are numbered first. A weight of 2.25 shows all samples of a source
    twice, and a random quarter of them, another one in every epoch, a third time. The number of places is the same in every epoch.
    """
    starts = np.cumsum([0, *counts])
    parts = []
    for number, (count, weight) in enumerate(zip(counts, weights, strict=True)):
        repeats, rest = divmod(round(weight * count), count)
        chosen = np.random.default_rng([seed, epoch, 2, number]).choice(count, rest, replace=False)
        parts += [np.tile(np.arange(count), repeats), np.sort(chosen)]
        parts[-2:] = [part + starts[number] for part in parts[-2:]]
    return np.concatenate(parts)


def draw_augmentation(config: JitterConfig, num_samples: int, *, seed: int, epoch: int) -> np.ndarray:
    """Draw the augmentation of every sample of an epoch: float32 (N + 1, 4); the last row is for BLANK.

    Columns: mirror (0 or 1), then the factors of brightness, contrast and saturation.
    """
    augmentation = np.full((num_samples + 1, 4), IDENTITY, np.float32)
    uniform = np.random.default_rng([seed, epoch, 1]).random((num_samples, 4), np.float32)
    if config.mirror:
        augmentation[:-1, 0] = uniform[:, 0] < 0.5
    augmentation[:-1, 1:] += config.color_jitter * (2 * uniform[:, 1:] - 1)
    return augmentation
