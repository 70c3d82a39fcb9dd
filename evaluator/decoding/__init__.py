"""Fields to people. Imports `pipeline.skeleton`, NumPy and OpenCV alone, so that it runs without MindSpore."""
