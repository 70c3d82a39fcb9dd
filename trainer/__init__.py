"""Training stage: record shards -> batches -> network -> checkpoints."""

from trainer import device as device  # settles the CPU instruction set before mindspore convolves anything
