"""The command `export`: write the network of a checkpoint for other engines.

Imports `pipeline`, `evaluator.decoding`, `evaluator.options`; MindSpore, ONNX and `trainer` inside functions.
"""
