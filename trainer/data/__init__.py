"""Batches: the order of samples, the stream of records, and augmentation on the device.

`config` and `order` import NumPy at most; the others load mindspore. May import `pipeline` and `trainer.device`.
"""
