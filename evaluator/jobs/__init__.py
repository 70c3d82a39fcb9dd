"""Evaluation jobs that can be stopped, resumed and sharded: `run`, `merge`, `watch`.

Imports `pipeline`, `evaluator.inference`, `evaluator.metrics`, `evaluator.drawings`; of `evaluator.predict` the listing of files; of `trainer` the device and what reads run folders.
MindSpore is imported inside functions.
"""
