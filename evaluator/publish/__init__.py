"""The command `publish`: a folder with weights, exports, figures and a model card, to pass a network on.

Imports `pipeline`, `evaluator.export`, `evaluator.jobs` and `trainer`; MindSpore and ONNX only when the command runs.
"""
