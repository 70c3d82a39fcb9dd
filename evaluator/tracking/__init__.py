"""Identities of people over the frames of a video, and smooth keypoints.

`tracker` (identities), `smoothing` (One-Euro filter), `metrics` of identities against annotations, `frames` (the order of the
images of an annotation file). `tracker` and `smoothing` import NumPy and SciPy, `pipeline.skeleton` and `evaluator.decoding`, so
that they run without MindSpore.
"""
