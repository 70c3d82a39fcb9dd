"""Names of the output files of `predict`: one per input, whatever the inputs are called. Checked before the work begins."""

import itertools
import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.errors import UserError
from pipeline.wording import printable

FRAME_DIGITS = 12  # as OpenPose names the frames of a video: NAME_000000000012_keypoints.json
WINDOWS_NAME_MAX = 255
# Files of the output folder itself, and where it has others.
RESERVED = {"openpose", "results.json", "images.json", "prediction.json", "skipped.json", "config.yaml"}
LONGEST_SUFFIX = f"_{'0' * FRAME_DIGITS}_keypoints.json"
_FRAME = re.compile(rf"(.+)_\d{{{FRAME_DIGITS}}}", re.DOTALL)
_PORTABLE = re.compile(r"[A-Za-z0-9 ._/-]+")


def output_names(
    files: Sequence[Path],
    is_video: Sequence[bool],
    folder: Path,
    places: Sequence[str] = (),
    taken: Iterable[tuple[str, bool]] = (),
) -> list[str]:
    """Return a name without suffix for the outputs of each file in `folder`, in order.

    It is the file's own, shortened if the file system requires that, and with a number if another file has the same one: also if
    they differ only in case, or if it is that of a frame of a video. places: the folder of each file's outputs below `folder`, by
    which its name begins; default: none. taken: names that `folder` has already, and whether they are those of videos.
    Raises UserError, naming the file, if the file system of `folder` does not accept a name.
    """
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else WINDOWS_NAME_MAX
    max_bytes = longest - len(LONGEST_SUFFIX)
    used: defaultdict[str, _Names] = defaultdict(_Names)
    for name, video in taken:
        place, _, stem = name.rpartition("/")
        used[place].add(stem, video)
    names: list[str] = []
    for file, video, place in zip(files, is_video, places or [""] * len(files), strict=True):
        shown = "/".join(_printable(part) for part in place.split("/"))
        if _same(shown.split("/")[0]) in RESERVED:
            shown = f"_{shown}"
        name = used[shown].choose(_printable(file.stem), video, max_bytes)
        names.append(f"{shown}/{name}" if shown else name)
    _require_accepted(files, names, folder)
    return names


class _Names:
    """The names in one folder."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._videos: set[str] = set()
        self._like_frames: set[str] = set()  # what precedes the number in names that are like those of frames
        self._next_number: Counter[str] = Counter()

    def choose(self, stem: str, video: bool, max_bytes: int) -> str:
        """Return a free name, and take it."""
        for number in itertools.count(self._next_number[_same(stem)] + 1):
            name = _shortened(stem, "" if number == 1 else f"-{number}", max_bytes)
            if self._is_free(_same(name), video):
                break
        self._next_number[_same(stem)] = number
        self.add(name, video)
        return name

    def _is_free(self, same: str, video: bool) -> bool:
        frame = _FRAME.fullmatch(same)
        return same not in self._taken and not (same in self._like_frames if video else frame and frame[1] in self._videos)

    def add(self, name: str, video: bool) -> None:
        """Take a name."""
        same = _same(name)
        self._taken.add(same)
        if video:
            self._videos.add(same)
        elif frame := _FRAME.fullmatch(same):
            self._like_frames.add(frame[1])


def _printable(name: str) -> str:
    """Return a name without control characters and what is not UTF-8."""
    return "".join("_" if unicodedata.category(c).startswith("C") else c for c in name)


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
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}{LONGEST_SUFFIX}").touch()
            (folder / f"{name}{LONGEST_SUFFIX}").unlink()
        except OSError as error:
            raise UserError(
                f"image {printable(str(file))}: the file system of --out does not accept this name ({error.strerror}); rename the "
                "file, or choose another --out"
            ) from error
