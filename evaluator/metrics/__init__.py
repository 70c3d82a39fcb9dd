"""COCO metrics, OKS and error analysis of results. Imports `evaluator.decoding` and `pipeline`."""
