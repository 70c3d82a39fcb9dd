"""Scoring: metrics of COCO and of other data sets, OKS and error analysis of results.

Imports `evaluator.decoding`, `pipeline` and pycocotools.
"""
