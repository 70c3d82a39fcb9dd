"""Reading video files frame by frame. Frames are uint8 RGB (H, W, 3), turned as the file states (cv2 does that)."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from evaluator.predict.config import VideoConfig
from pipeline.images import UnreadableImage
from pipeline.storage.files import require_regular

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
DEFAULT_FPS = 25.0  # for files that do not state their rate
MAX_FPS = 1000.0


_TURNS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class Video:
    """A video file, open for reading.

    fps: frames per second of the file. num_stated: number of frames to read, as the file states it, 0 if it states none.
    """

    def __init__(self, path: Path, config: VideoConfig | None = None) -> None:
        """Raises UnreadableImage for a file that is missing or not a video, and for one without the frames that are asked for."""
        self.config = config or VideoConfig()
        try:
            require_regular(path)  # opening a pipe would wait for its writer
        except OSError as error:
            raise UnreadableImage(error.strerror or str(error)) from error
        self._capture = cv2.VideoCapture(str(path.absolute()))  # FFmpeg could take a relative path for a protocol
        if not self._capture.isOpened():
            raise UnreadableImage("not a video that OpenCV can decode")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < MAX_FPS else DEFAULT_FPS
        in_file = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        first, end = self.config.range
        self.num_stated = len(range(first, in_file if end is None else min(end, in_file), self.config.step))
        if in_file and not self.num_stated:
            raise UnreadableImage(f"has {in_file:,} frames, none of --frames {self.config.frames}")

    def frames(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the numbers of the frames in the file, from 0, and the frames; close the file at the end."""
        first, end = self.config.range
        try:
            number = 0
            while (end is None or number < end) and self._capture.grab():
                if number >= first and (number - first) % self.config.step == 0:
                    success, frame = self._capture.retrieve()
                    if not success:
                        return
                    frame = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
                    yield number, cv2.rotate(frame, _TURNS[self.config.rotate]) if self.config.rotate else frame
                number += 1
        finally:
            self._capture.release()
