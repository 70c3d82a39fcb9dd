"""Identities of people over the frames of a video, and smooth keypoints.

`tracker` (identities), `tracks` (motion of a person), `appearance` (colors of clothes), `exchange` (joints that the decoder mixed up),
`smoothing` (One-Euro filter), `sequences` (identities and scores of the videos of an annotation file). All but the last import NumPy,
SciPy, OpenCV, `pipeline.skeleton` and `evaluator.decoding`, so that they run without MindSpore.
"""
