"""What `predict` reads: files, folders, patterns and lists of them, and where in the output folder their results belong."""

import glob
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluator.predict.video import SUFFIXES as VIDEO_SUFFIXES
from pipeline.errors import UserError
from pipeline.storage.folders import is_litter
from pipeline.wording import counted, printable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
CONVERTIBLE = (".heic", ".heif", ".avif", ".gif")  # images that are not read
STDIN, LIST = "-", "@"
MAX_SUFFIXES = 5  # listed


@dataclass(kw_only=True)
class Sources:
    """The files to read.

    files: in order. places: for each file, the folder of its outputs below the output folder, "" for the output folder itself.
    ignored: number of files in folders that are neither images nor videos, by suffix.
    """

    files: list[Path] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    def add(self, file: Path, place: str = "") -> None:
        """Add a file."""
        self.files.append(file)
        self.places.append(place)

    def without(self, file_names: set[str]) -> "Sources":
        """Return the files that do not have one of these names."""
        left = Sources()
        for file, place in zip(self.files, self.places, strict=True):
            if str(file) not in file_names:
                left.add(file, place)
        return left

    def report_ignored(self) -> None:
        """Print how many files were ignored, and what to do about images of other formats."""
        if not self.ignored:
            return
        listed = [f"{number:,} {printable(suffix)}" for suffix, number in self.ignored.most_common(MAX_SUFFIXES)]
        if len(self.ignored) > MAX_SUFFIXES:
            listed.append("…")
        print(f"ignored {counted(self.ignored.total(), 'file')}: {', '.join(listed)}", file=sys.stderr)
        if formats := [suffix for suffix in CONVERTIBLE if self.ignored[suffix]]:
            print(
                f"{', '.join(formats)}: not read; convert them, for example with ImageMagick: magick IMAGE IMAGE.jpg",
                file=sys.stderr,
            )


def is_video(file: Path) -> bool:
    """Whether the suffix is that of a video."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def list_sources(names: Iterable[Path], exclude: Sequence[Path] = ()) -> Sources:
    """Return the files that these names stand for.

    A folder stands for the images and videos in it and in the folders below it, sorted by path; a pattern such as "2024/**/*.jpg"
    for the files that match; "@LIST" for the names in a file, one per line; "-" for those on stdin. A file that exists is always
    that file. exclude: folders that are not searched, such as the output folder.

    Raises UserError for names that stand for nothing.
    """
    sources, excluded = Sources(), {path.absolute() for path in exclude}
    for name in names:
        text = str(name)
        if text == STDIN or (text.startswith(LIST) and not name.exists()):
            for line in _lines(text):
                _add(sources, Path(line), excluded)
        else:
            _add(sources, name, excluded)
    return sources


def _lines(name: str) -> Iterator[str]:
    what = "stdin" if name == STDIN else f"list {name[1:]}"
    try:
        text = sys.stdin.read() if name == STDIN else Path(name[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what}: not UTF-8: {error.reason} at byte {error.start}; write it as UTF-8, one file per line"
        ) from error
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{what}: contains no file names; write one per line")
    yield from lines


def _add(sources: Sources, name: Path, excluded: set[Path]) -> None:
    if name.is_dir():
        num_before = len(sources.files)
        _add_below(sources, name, name, excluded)
        if len(sources.files) == num_before:
            sources.report_ignored()
            raise UserError(f"folder {name}: contains no image or video ({', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)})")
    elif name.exists():
        sources.add(name)
    elif glob.has_magic(str(name)):
        _add_matches(sources, name, excluded)
    else:
        raise UserError(f"image {name}: no such file or folder")


def _add_below(sources: Sources, top: Path, folder: Path, excluded: set[Path], above: tuple[Path, ...] = ()) -> None:
    """Add what is in a folder, sorted by path. Follows links to folders, unless they lead back to a folder above."""
    real = folder.resolve()
    if folder.absolute() in excluded or real in excluded or real in above:
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"folder {folder}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith(".") or is_litter(entry.name):
            continue
        if entry.is_dir() and entry.suffix.lower() not in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
            _add_below(sources, top, entry, excluded, (*above, real))
        else:
            _add_if_known(sources, entry, folder.relative_to(top).as_posix())


def _add_matches(sources: Sources, pattern: Path, excluded: set[Path]) -> None:
    fixed = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts[:-1]))
    matches = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))
    files = [match for match in matches if match.is_file() and not excluded & {*match.absolute().parents}]
    if not files:
        raise UserError(f"pattern {pattern}: matches no file; check it, and quote it so that the shell does not expand it")
    for file in files:
        _add_if_known(sources, file, file.parent.relative_to(fixed).as_posix())


def _add_if_known(sources: Sources, file: Path, place: str) -> None:
    if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES:
        sources.add(file, "" if place == "." else place)
    else:
        sources.ignored[file.suffix.lower() or "without suffix"] += 1
