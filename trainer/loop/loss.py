"""Masked mean squared error of heatmaps and PAFs over all stages (Cao et al., CVPR 2017, equations 5 and 7)."""

import mindspore as ms
from mindspore import ops

from pipeline.samples.targets import HEATMAP_LEVELS, PAF_LEVELS
from trainer.networks.network import Fields


def stage_losses(
    outputs: tuple[Fields, ...],
    heatmaps: ms.Tensor,
    pafs: ms.Tensor,
    mask: ms.Tensor,
    labeled: ms.Tensor,
    positive_weight: float = 0.0,
) -> ms.Tensor:
    """Return the loss of each stage and branch, float32 (S, 2): heatmaps, PAFs; 0 for a branch that a stage does not have.

    outputs: per stage float32 (B, J + 1, h, w) and (B, 2 L, h, w), None for a missing branch.
    heatmaps: uint8 (B, J + 1, h, w), 255 = 1. pafs: int8 (B, 2 L, h, w), 127 = 1. mask: uint8 (B, h, w), 1 = ignored.
    labeled: uint8 (B, J + 1 + 2 L) or (1, …), 0 = the source of the sample does not label this channel.
    positive_weight: a cell of a channel counts 1 + positive_weight * t, where t is the height of the joint's heatmap, the length of the
    limb's PAF, or the height of the nearest joint for the background.
    The mean is over all cells and channels; those that are ignored or not labeled count as 0. The losses of equal parts of a batch therefore average to that of the
    batch.
    """
    counts = ops.expand_dims(1.0 - ops.cast(mask, ms.float32), 1)
    known = ops.expand_dims(ops.expand_dims(ops.cast(labeled, ms.float32), -1), -1)
    num_heatmaps = heatmaps.shape[1]
    heatmap_counts, paf_counts = counts * known[:, :num_heatmaps], counts * known[:, num_heatmaps:]
    true_heatmaps = ops.cast(heatmaps, ms.float32) * (1 / HEATMAP_LEVELS)
    true_pafs = ops.cast(pafs, ms.float32) * (1 / PAF_LEVELS)
    if positive_weight:
        people = ops.concat((true_heatmaps[:, :-1], 1.0 - true_heatmaps[:, -1:]), axis=1)
        heatmap_counts = heatmap_counts * (1.0 + positive_weight * people)
        squares = ops.square(true_pafs)
        lengths = ops.sqrt(squares[:, 0::2] + squares[:, 1::2])
        paf_counts = paf_counts * (1.0 + positive_weight * ops.repeat_interleave(lengths, 2, 1))
    losses = ()  # compiled: the graph compiler accepts no annotation here
    for stage_heatmaps, stage_pafs in outputs:
        losses += (ops.stack((_loss(stage_heatmaps, true_heatmaps, heatmap_counts), _loss(stage_pafs, true_pafs, paf_counts))),)  # type: ignore[assignment]  # see above
    return ops.stack(losses)


def _loss(fields: ms.Tensor | None, truth: ms.Tensor, counts: ms.Tensor) -> ms.Tensor:
    if fields is None:
        return ms.Tensor(0.0, ms.float32)
    return ops.reduce_mean(ops.square(fields - truth) * counts)
