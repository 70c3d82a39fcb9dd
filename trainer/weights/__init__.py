"""Readers of pretrained weights, one module per format. May import `pipeline`, and nothing else of `trainer`."""
