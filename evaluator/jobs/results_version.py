"""The version of everything that decides the results of an evaluation. Imports nothing."""

# Raise it by one when the same images, weights and options produce different results: a change of resizing, padding,
# test-time augmentation, decoding, grouping, or of the conversion to COCO results. Unfinished evaluations and shards store
# the version, so that results of two versions are never mixed. Refactoring and comments do not need a new version.
# tests/evaluator/test_results_version.py compares results with a golden file and fails if you forget to raise it.
RESULTS_VERSION = 4
