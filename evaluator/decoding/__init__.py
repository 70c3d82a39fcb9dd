"""The decoder: heatmaps and PAFs to people.

Imports `pipeline.skeleton`, NumPy and OpenCV only, so that it runs without MindSpore:

    from evaluator.decoding import DecodeConfig, decode
"""

from evaluator.decoding.decoder import DecodeConfig, People, decode

__all__ = ["DecodeConfig", "People", "decode"]
