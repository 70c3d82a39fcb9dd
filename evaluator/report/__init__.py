"""The command `report`: evaluations as one HTML page (`page/`: its HTML, CSS and JavaScript).

Imports `pipeline`, `evaluator.metrics`, `evaluator.jobs`; of `trainer` only what reads run folders.
"""
