"""Annotation files: read and check them, select images and people. Imports the shared modules of `pipeline`, no other sub-package."""
