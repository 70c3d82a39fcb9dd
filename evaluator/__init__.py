"""Evaluation stage: run a checkpoint on images, decode its fields into people, and score, draw and report them.

Sub-packages: `decoding` (fields to people), `inference` (images to fields), `metrics` (scores), `jobs` (resumable evaluations),
`predict`, `export`, `report` and `ceiling` (limits of the decoder). Imports `pipeline` and `trainer`; importing it does nothing.
"""
