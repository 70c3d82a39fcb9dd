"""From an image to a training sample: augmentation, ignore mask, targets. Imports `pipeline.datasets` and the shared modules."""
