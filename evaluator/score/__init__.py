"""The command `score`: results files of any program, scored as those of `run`.

Imports `evaluator.jobs`, `evaluator.metrics`, `evaluator.report`, `evaluator.options` and `pipeline`.
"""
