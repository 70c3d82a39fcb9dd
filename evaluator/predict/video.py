"""Video files, frame by frame: reading them, and writing annotated ones. Frames are uint8 RGB (H, W, 3)."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.images import UnreadableImage

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
USUAL_FPS = 25.0  # where a file does not say


class Video:
    """A video file, open for reading. `announced`: how many frames the file says it has, 0 where it does not say."""

    def __init__(self, path: Path) -> None:
        """Raises UnreadableImage for a file that is missing or no video."""
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise UnreadableImage("no such file" if not path.exists() else "not a video that can be decoded")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else USUAL_FPS
        self.announced = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def frames(self) -> Iterator[np.ndarray]:
        """One after the other; the file is closed behind the last."""
        try:
            while True:
                there, frame = self._capture.read()
                if not there:
                    return
                yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        finally:
            self._capture.release()


class VideoWriter:
    """An MP4 file (MPEG-4 part 2, which OpenCV's packages can write everywhere); a context."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path, self.fps = path, fps
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Raises UserError where the file cannot be written."""
        # The codec has even sides only.
        frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
        if self._writer is None:
            size = frame.shape[1], frame.shape[0]
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*"mp4v"), self.fps, size)
            if not self._writer.isOpened():
                raise UserError(f"video {self.path}: OpenCV cannot write MP4 files of {size[0]} x {size[1]} pixels here")
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __exit__(self, *error) -> None:
        if self._writer is not None:
            self._writer.release()
