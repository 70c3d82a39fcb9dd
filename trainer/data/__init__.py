"""Batches: the order of samples, the stream of records, on-device augmentation. Imports `pipeline` and `trainer.config`."""
