"""The command `convert`: readers of other annotation formats, one module each, and the writer of COCO keypoint files that they share.

A reader is a function `read(request, faults) -> Source`; `registry` lists them. Imports the shared modules of `pipeline` and
`pipeline.datasets`.
"""
