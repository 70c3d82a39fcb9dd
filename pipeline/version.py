"""The version of this package. Imports nothing else of this project."""

from importlib import metadata

PACKAGE = "openpose-mindspore"


def package_version() -> str:
    """Return the version of this package as installed (from setup.cfg)."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
