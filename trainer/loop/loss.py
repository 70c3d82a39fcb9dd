"""Masked mean squared error of heatmaps and PAFs over all stages (Cao et al., CVPR 2017, equations 5 and 7)."""

import mindspore as ms
from mindspore import ops

from pipeline.samples.targets import HEATMAP_LEVELS, PAF_LEVELS


def stage_losses(outputs, heatmaps, pafs, mask):
    """Loss of every stage and branch: float32 (S, 2), heatmaps then PAFs; 0 where a stage does not have the branch.

    outputs: per stage float32 (B, J+1, h, w) and (B, 2L, h, w), or None for a branch that it does not have. heatmaps: uint8 (B, J+1, h, w), 255 = 1.
    pafs: int8 (B, 2L, h, w), 127 = 1. mask: uint8 (B, h, w), 1 = does not count.
    The mean runs over all cells, ignored ones count as zero: so the losses of equal parts of a batch average to the batch's.
    """
    counts = ops.expand_dims(1.0 - ops.cast(mask, ms.float32), 1)
    true_heatmaps = ops.cast(heatmaps, ms.float32) * (1 / HEATMAP_LEVELS)
    true_pafs = ops.cast(pafs, ms.float32) * (1 / PAF_LEVELS)
    losses = ()
    for stage_heatmaps, stage_pafs in outputs:
        losses += (ops.stack((_loss(stage_heatmaps, true_heatmaps, counts), _loss(stage_pafs, true_pafs, counts))),)
    return ops.stack(losses)


def _loss(fields, truth, counts):
    if fields is None:
        return ms.Tensor(0.0, ms.float32)
    return ops.reduce_mean(ops.square(fields - truth) * counts)
