"""Networks: one module per architecture, the layers they share, and inference.

`config` holds the options and imports nothing heavy; `network` is the entry point for training, `inference` for evaluation.
May import `pipeline`, and nothing else of `trainer`.
"""
