"""Inference: input sizes, test-time augmentation, stored fields, and a stream that overlaps reading, network and decoding.

Imports `evaluator.decoding`, `pipeline` and the options of `trainer.networks`.
"""
