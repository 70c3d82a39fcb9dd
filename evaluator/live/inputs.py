"""Cameras, streams and video files, opened with OpenCV."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2

from evaluator.predict.video import DEFAULT_FPS, MAX_FPS
from pipeline.errors import UserError
from pipeline.storage.files import require_regular
from pipeline.wording import printable

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
TIMEOUT_MS = 5000  # of a stream, to connect and between two frames
FATAL_ERRORS = "8"  # log level of FFmpeg. A stream that is joined in the middle begins with frames that cannot be decoded.
_DEVICE = re.compile(r"(?:/dev/video)?(\d{1,4})")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where frames come from: the number of a camera, the address of a stream, or a video file.

    name: what is shown to users, without the password of an address.
    """

    place: int | str | Path
    name: str

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera of this machine."""
        return isinstance(self.place, int)

    @property
    def is_stream(self) -> bool:
        """Whether it is an address, to which a lost connection can be opened again."""
        return isinstance(self.place, str)

    @property
    def is_file(self) -> bool:
        """Whether it is a file, which is read at the speed of the video."""
        return isinstance(self.place, Path)


def parse_source(text: str) -> Source:
    """Return the source that a user means. Raises UserError for an address of an unknown kind."""
    if device := _DEVICE.fullmatch(text):
        return Source(place=int(device[1]), name=f"camera {int(device[1])}")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Source(place=Path(text), name=f"video {text}")
    if scheme.lower() not in SCHEMES:
        raise UserError(
            f"source {printable(_without_secrets(text))}: not an address of a stream; use {', '.join(SCHEMES)}, or a file"
        )
    return Source(place=text, name=f"stream {_without_secrets(text)}")


def _without_secrets(address: str) -> str:
    """Return an address without its user, password and query, which are often secrets."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{re.split('[?#]', rest)[0].rpartition('@')[2]}"


def open_source(source: Source) -> cv2.VideoCapture:
    """Open a source. Raises UserError if it is missing or cannot be decoded."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FATAL_ERRORS)
    level = cv2.setLogLevel(0)  # the exception says what failed
    try:
        if isinstance(source.place, int):
            return _opened(source, cv2.VideoCapture(source.place), _advice_for_cameras())
        if isinstance(source.place, str):
            limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, TIMEOUT_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, TIMEOUT_MS]
            video = cv2.VideoCapture(source.place, cv2.CAP_FFMPEG, limits)
            return _opened(source, video, "check address, password and network")
        try:
            require_regular(source.place)
        except OSError as error:
            raise UserError(f"{source.name}: {error.strerror or error}; give a camera, an address or a video file") from error
        # FFmpeg could take a relative path for a protocol.
        return _opened(source, cv2.VideoCapture(str(source.place.absolute())), "it is not a video that OpenCV can decode")
    finally:
        cv2.setLogLevel(level)


def _opened(source: Source, video: cv2.VideoCapture, advice: str) -> cv2.VideoCapture:
    if not video.isOpened():
        raise UserError(f"{source.name}: cannot be opened; {advice}")
    if source.is_camera:
        video.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # older frames would only add latency
    return video


def _advice_for_cameras() -> str:
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    if not devices:
        return "this machine has no camera (/dev/video*); connect one, or give an address or a video file"
    return f"this machine has {', '.join(devices)}; choose one of these, and close other programs that use it"


def frames_per_s(video: cv2.VideoCapture) -> float:
    """Return the rate that a source states, or the usual one."""
    fps = float(video.get(cv2.CAP_PROP_FPS))
    return fps if 0 < fps < MAX_FPS else DEFAULT_FPS
