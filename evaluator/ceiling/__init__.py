"""Upper bounds and robustness of the decoder: the commands `oracle`, `stress` and `bench-decode`.

Imports `evaluator.decoding`, `evaluator.inference`, `evaluator.metrics`, `evaluator.options` and `pipeline`.
"""
