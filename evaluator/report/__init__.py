"""The command `report`: evaluations as one HTML page. Imports `evaluator.metrics` and `evaluator.jobs`."""
