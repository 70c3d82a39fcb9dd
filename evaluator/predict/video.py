"""Reading video files frame by frame, and writing annotated ones. Frames are uint8 RGB (H, W, 3)."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.files import require_regular
from pipeline.images import UnreadableImage

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
DEFAULT_FPS = 25.0  # for files that do not state their rate
MAX_FPS = 1000.0


class Video:
    """A video file, open for reading. `num_stated`: number of frames that the file states, 0 if it states none."""

    def __init__(self, path: Path) -> None:
        """Raises UnreadableImage for a file that is missing or not a video."""
        try:
            require_regular(path)  # opening a pipe would wait for its writer
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error)) from error
        self._capture = cv2.VideoCapture(str(path.absolute()))  # FFmpeg could take a relative path for a protocol
        if not self._capture.isOpened():
            raise UnreadableImage("not a video that OpenCV can decode")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < MAX_FPS else DEFAULT_FPS
        self.num_stated = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames in order and close the file at the end."""
        try:
            while True:
                success, frame = self._capture.read()
                if not success:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


class VideoWriter:
    """Writes an MP4 file (MPEG-4 Part 2, the codec that all OpenCV packages can write). Use it as a context manager."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._num_frames = 0

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame. Raises UserError if the file cannot be written."""
        # The codec supports even sides only.
        frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            size = frame.shape[1], frame.shape[0]
            self._writer = cv2.VideoWriter(str(self.path.absolute()), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self._writer.isOpened():
                raise UserError(
                    f"video {self.path}: OpenCV cannot write MP4 files of {size[0]} x {size[1]} pixels on this machine"
                )
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._num_frames += 1

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Finish the file. Raises UserError if it is incomplete: OpenCV ignores a full disk."""
        if self._writer is None:
            return
        self._writer.release()
        written = cv2.VideoCapture(str(self.path.absolute())).get(cv2.CAP_PROP_FRAME_COUNT)
        if kind is None and written != self._num_frames:
            raise UserError(
                f"video {self.path.name}: {int(written):,} of {self._num_frames:,} frames were written; free space on the disk of "
                "--out, then run the command again"
            )
