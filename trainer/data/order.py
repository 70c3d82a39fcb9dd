"""Which samples a batch holds, and how the device changes them: pure functions of seed, epoch, rank, world and position."""

import numpy as np

from trainer.config import JitterConfig

BLANK = -1
UNCHANGED = (0.0, 1.0, 1.0, 1.0)


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


def draw_changes(config: JitterConfig, num_samples: int, *, seed: int, epoch: int) -> np.ndarray:
    """What the device changes in each sample of an epoch: float32 (N + 1, 4), the last row for BLANK.

    Columns: mirrored (0 or 1), then the factors of brightness, contrast and saturation.
    """
    changes = np.full((num_samples + 1, 4), UNCHANGED, np.float32)
    uniform = np.random.default_rng([seed, epoch, 1]).random((num_samples, 4), np.float32)
    if config.mirror:
        changes[:-1, 0] = uniform[:, 0] < 0.5
    changes[:-1, 1:] += config.color_jitter * (2 * uniform[:, 1:] - 1)
    return changes
