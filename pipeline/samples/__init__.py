"""From one image to one training sample: augmentation, ignore mask, targets. Imports `pipeline.datasets` and the shared vocabulary."""
