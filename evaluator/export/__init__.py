"""The command `export`: write the network of a checkpoint for other engines.

Imports `pipeline`, `evaluator.decoding`, `evaluator.options`, `trainer.device`; MindSpore, ONNX and the rest of `trainer` inside functions.
"""
