"""Names of the output files of `predict`: one per input, whatever the inputs are called. Checked before the work begins."""

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.wording import printable

FRAME_DIGITS = 12  # as OpenPose names the frames of a video: NAME_000000000012_keypoints.json
WINDOWS_NAME_MAX = 255
LONGEST_SUFFIX = f"_{'0' * FRAME_DIGITS}_keypoints.json"
_FRAME = re.compile(rf"(.+)_\d{{{FRAME_DIGITS}}}", re.DOTALL)
_PORTABLE = re.compile(r"[A-Za-z0-9 ._-]+")


def output_names(files: Sequence[Path], is_video: Sequence[bool], folder: Path) -> list[str]:
    """Return a name without suffix for the outputs of each file in `folder`, in order.

    It is the file's own, shortened if the file system requires that, and with a number if another file has the same one: also if
    they differ only in case, or if it is that of a frame of a video. Raises UserError, naming the file, if the file system of
    `folder` does not accept a name.
    """
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else WINDOWS_NAME_MAX
    max_bytes = longest - len(LONGEST_SUFFIX)
    names: list[str] = []
    taken: set[str] = set()
    videos: set[str] = set()
    like_frames: set[str] = set()  # what precedes the number in names that are like those of frames
    next_number: Counter[str] = Counter()
    for file, video in zip(files, is_video, strict=True):
        stem = "".join("_" if unicodedata.category(c).startswith("C") else c for c in file.stem)
        for number in itertools.count(next_number[_same(stem)] + 1):
            name = _shortened(stem, "" if number == 1 else f"-{number}", max_bytes)
            frame = _FRAME.fullmatch(_same(name))
            if _same(name) not in taken and not (_same(name) in like_frames if video else frame and frame[1] in videos):
                break
        next_number[_same(stem)] = number
        taken.add(_same(name))
        if video:
            videos.add(_same(name))
        elif frame:
            like_frames.add(frame[1])
        names.append(name)
    _require_accepted(files, names, folder)
    return names


def _same(name: str) -> str:
    """Return what is equal for names that are the same file on some file system."""
    return unicodedata.normalize("NFC", name).casefold()


def _shortened(stem: str, ending: str, max_bytes: int) -> str:
    return stem.encode()[: max_bytes - len(ending)].decode(errors="ignore") + ending


def _require_accepted(files: Sequence[Path], names: Sequence[str], folder: Path) -> None:
    for file, name in zip(files, names, strict=True):
        if _PORTABLE.fullmatch(name):
            continue
        try:
            (folder / f"{name}{LONGEST_SUFFIX}").touch()
            (folder / f"{name}{LONGEST_SUFFIX}").unlink()
        except OSError as error:
            raise UserError(
                f"image {printable(str(file))}: the file system of --out does not accept this name ({error.strerror}); rename the "
                "file, or choose another --out"
            ) from error
