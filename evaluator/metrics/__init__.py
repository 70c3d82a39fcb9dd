"""Scoring: COCO metrics, OKS and error analysis of results.

Imports `evaluator.decoding`, `pipeline` and pycocotools.
"""
