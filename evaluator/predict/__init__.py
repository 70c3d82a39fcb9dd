"""The command `predict`: find people in images and videos. Imports `evaluator.inference`, `evaluator.drawings`, `evaluator.jobs`."""
