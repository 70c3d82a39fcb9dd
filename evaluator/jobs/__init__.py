"""Evaluation jobs that can be stopped, resumed and sharded: `run`, `merge`, `watch`.

Imports `pipeline`, `evaluator.inference`, `evaluator.metrics`, `evaluator.drawings`; of `trainer` only what reads run folders.
MindSpore is imported inside functions.
"""
