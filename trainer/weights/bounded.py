"""Reading of weight files of unknown origin: no more memory than the file's size justifies, and one kind of error.

The readers check every size that a file states before they reserve memory for it. What is wrong with a file they raise as
ValueError; `reading` turns that, and the errors of the libraries, into a UserError that names the file.
"""

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError

from pipeline.errors import UserError
from pipeline.storage.files import require_regular
from pipeline.wording import printable

Tensors = dict[str, np.ndarray]

# bfloat16 becomes twice as large, shared tensors are stored once, and zeros compress well; a file that needs more is an attack.
MAX_EXPANSION, FREE_BYTES = 8, 64 << 20
MAX_DIRECTORY_BYTES = 16 << 20  # of a zip file: about 300,000 entries
MAX_DIMENSIONS, MAX_ELEMENTS = 16, 1 << 48
MAX_NAME_LENGTH = 500
MAX_TENSORS = 100_000
_CHUNK = 1 << 20
_MAX_MESSAGE = 300
# What the libraries raise for damaged files; SyntaxError and TokenError come from NumPy.
_FAULTS = (
    *(ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError, RuntimeError, MemoryError, SyntaxError),
    *(struct.error, zipfile.BadZipFile, zlib.error, SafetensorError, tokenize.TokenError),
)


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Raise UserError, naming the file and its kind ("PyTorch file"), for whatever is wrong with the file."""
    try:
        yield
    except (OSError, *_FAULTS) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read as a {kind}: {printable(cause[:_MAX_MESSAGE])}") from error


class BoundedFile(io.BufferedReader):
    """A regular file. Refuses to read more than MAX_DIRECTORY_BYTES at once, which reserves memory whatever the file's size."""

    def __init__(self, path: Path) -> None:
        require_regular(path)  # opening a pipe would wait for ever
        super().__init__(io.FileIO(path))
        self.num_bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY_BYTES:
            raise ValueError(f"it states a part of {size:,} bytes; at most {MAX_DIRECTORY_BYTES:,} are read at once")
        return super().read(size)

    def read_array(self, num_bytes: int) -> np.ndarray:
        """Return the next bytes, uint8 (num_bytes,). Raises ValueError if the file ends before."""
        self._require(num_bytes)
        return _fill(self, num_bytes)

    def skip(self, num_bytes: int) -> None:
        """Pass over the next bytes. Raises ValueError if the file ends before."""
        self._require(num_bytes)
        self.seek(num_bytes, io.SEEK_CUR)

    def _require(self, num_bytes: int) -> None:
        if num_bytes > (left := self.num_bytes - self.tell()):
            raise ValueError(f"truncated: it states {num_bytes:,} bytes of data, but {left:,} follow")


def open_zip(file: BoundedFile) -> zipfile.ZipFile:
    """Open a zip file. Raises ValueError if two entries have the same name."""
    archive = zipfile.ZipFile(file)
    name, number = Counter(archive.namelist()).most_common(1)[0] if archive.namelist() else ("", 0)
    if number > 1:
        raise ValueError(f"entry {name[:80]!r} occurs {number} times")
    return archive


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Return an entry's bytes, uint8, checked against its CRC32. The caller has checked `info.file_size`."""
    with archive.open(info) as entry:
        return _fill(cast(io.BufferedIOBase, entry), info.file_size)


def _fill(stream: io.BufferedIOBase, num_bytes: int) -> np.ndarray:
    array = np.empty(num_bytes, np.uint8)
    view, done = array.data, 0
    while done < num_bytes and (count := stream.readinto(view[done : done + _CHUNK])):
        done += count
    if done < num_bytes:
        raise ValueError(f"the data end after {done:,} of {num_bytes:,} bytes")
    return array


def check_total(num_bytes: int, file_bytes: int) -> None:
    """Raise ValueError if tensors of `num_bytes` altogether cannot come from an honest file of this size."""
    if num_bytes > MAX_EXPANSION * file_bytes + FREE_BYTES:
        raise ValueError(f"{file_bytes:,} bytes would unpack to {num_bytes:,}; this is not a file of weights")


def check_shape(shape: tuple[int, ...]) -> int:
    """Return the number of elements. Raises ValueError for a shape that no tensor of a network has."""
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape):,} dimensions, at most {MAX_DIMENSIONS} are read")
    if any(type(size) is not int for size in shape):
        raise ValueError("a tensor has a size that is not an integer")
    if min(shape, default=0) < 0 or math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise ValueError(f"a tensor has the impossible shape {str(shape)[:100]}")
    return math.prod(shape)


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Return bfloat16 numbers, given as uint16 bits of any shape, as float32. Exact: bfloat16 is the upper half of float32."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)
