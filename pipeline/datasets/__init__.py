"""Annotation files: read and check them, select images and people; readers of other formats in `formats`.

Imports the shared modules of `pipeline`, no other sub-package.
"""
