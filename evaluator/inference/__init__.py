"""Images to fields to people: input sizes, test-time augmentation, stored fields, threads. Imports `evaluator.decoding` and `pipeline`."""
