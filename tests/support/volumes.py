"""Mounted file systems for tests."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Mount something at `place`, a new folder unless it exists. Skips the test where mounting is not permitted."""
    if not place.exists():
        place.mkdir(parents=True)
    done = subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def volume(place: Path, size_bytes: int = 1 << 28) -> Iterator[Path]:
    """Mount an empty file system, with the folder that ext file systems have."""
    with mounted(place, "-t", "tmpfs", "-o", f"size={size_bytes}", "none"):
        (place / "lost+found").mkdir()
        yield place


def read_only(place: Path):
    """Mount a file system that cannot be written."""
    return mounted(place, "-t", "tmpfs", "-o", "ro", "none")
