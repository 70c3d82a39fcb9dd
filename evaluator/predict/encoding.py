"""Writing annotated videos: H.264 with the sound of the original by the program ffmpeg, or else MPEG-4 Part 2 by OpenCV."""

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.wording import printable

WITHOUT_FFMPEG = (
    "ffmpeg was not found: annotated videos have no sound, and their codec, MPEG-4 Part 2, is not played by browsers; install ffmpeg, "
    "or the package imageio-ffmpeg"
)
BACKGROUND = ("-loglevel", "error", "-nostdin", "-y")


@dataclass(frozen=True, kw_only=True)
class Sound:
    """The sound of an annotated video: that of the file `source` from `start_s` to `end_s` (None: its end), played at `speed`."""

    source: Path
    start_s: float = 0.0
    end_s: float | None = None
    speed: float = 1.0

    def arguments(self) -> list[str]:
        """Return the arguments of ffmpeg for a second input, after the frames."""
        until = [] if self.end_s is None else ["-t", f"{self.end_s - self.start_s:.6f}"]
        tempo = [] if self.speed == 1 else ["-af", ",".join(_tempo(self.speed))]
        source = ["-ss", f"{self.start_s:.6f}", *until, "-i", f"file:{self.source.absolute()}"]
        return [*source, "-map", "0:v:0", "-map", "1:a:0?", "-c:a", "aac", *tempo]


def _tempo(speed: float) -> list[str]:
    """Filters of ffmpeg that play sound at this speed; each is limited to 0.5 to 2."""
    filters = []
    while not 0.5 <= speed <= 2:
        factor = 0.5 if speed < 1 else 2.0
        filters.append(f"atempo={factor}")
        speed /= factor
    return [*filters, f"atempo={speed:.6f}"]


def find_ffmpeg() -> str | None:
    """Return the program ffmpeg that can write H.264: that of the system, or of the package imageio-ffmpeg; None without both."""
    found = shutil.which("ffmpeg")
    if found and "libx264" in subprocess.run([found, "-hide_banner", "-encoders"], capture_output=True, text=True).stdout:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


class VideoWriter:
    """Writes an MP4 file. Use it as a context manager."""

    def __init__(self, path: Path, fps: float, ffmpeg: str | None = None, sound: Sound | None = None) -> None:
        """ffmpeg: the program; without it, OpenCV writes the file, without sound."""
        self.path, self.fps, self._ffmpeg, self._sound = path, fps, ffmpeg, sound
        self._writer: cv2.VideoWriter | None = None
        self._process: subprocess.Popen | None = None
        self._errors: IO[bytes] | None = None
        self._num_frames = 0

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 RGB (H, W, 3). Raises UserError if the file cannot be written."""
        # The codecs support even sides only.
        frame = cv2.copyMakeBorder(frame, 0, frame.shape[0] % 2, 0, frame.shape[1] % 2, cv2.BORDER_REPLICATE)
        if not self._num_frames:
            self._open(frame.shape[1], frame.shape[0])
        self._num_frames += 1
        if self._writer is not None:
            self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        elif self._process is not None and self._process.stdin is not None:
            try:
                self._process.stdin.write(np.ascontiguousarray(frame).data)
            except BrokenPipeError as error:
                raise UserError(self._reason()) from error

    def _open(self, width: int, height: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._ffmpeg is None:
            size = width, height
            self._writer = cv2.VideoWriter(str(self.path.absolute()), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self._writer.isOpened():
                raise UserError(f"video {self.path}: OpenCV cannot write MP4 files of {width} x {height} pixels on this machine")
            return
        frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self.fps:.6f}", "-i", "pipe:0"]
        coding = [
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-pix_fmt",
            "yuv420p",
            "-movflags",
            "+faststart",
            "-fflags",
            "+bitexact",
        ]
        sound = self._sound.arguments() if self._sound else []
        command = [self._ffmpeg, *BACKGROUND, *frames, *sound, *coding, f"file:{self.path.absolute()}"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self._process = subprocess.Popen(  # ends when its input does, also that of a killed process
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors
        )

    def _reason(self) -> str:
        """Return why ffmpeg has failed."""
        lines = [b""]
        if self._errors is not None:
            self._errors.seek(0)
            lines = self._errors.read().splitlines() or lines
        reason = next((line for line in lines if b"No space" in line), lines[-1])
        advice = "; free space on the disk of --out, then run the command again" if b"No space" in reason else ""
        return f"video {self.path.name}: ffmpeg cannot write it: {printable(reason.decode(errors='replace'))}{advice}"

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Finish the file. Raises UserError if it is incomplete: OpenCV ignores a full disk."""
        if self._process is not None:
            self._end_process(kind is not None)
        elif self._writer is not None:
            self._writer.release()
        if kind is not None or not self._num_frames:
            return
        written = cv2.VideoCapture(str(self.path.absolute())).get(cv2.CAP_PROP_FRAME_COUNT)
        if written != self._num_frames:
            raise UserError(
                f"video {self.path.name}: {int(written):,} of {self._num_frames:,} frames were written; free space on the disk of "
                "--out, then run the command again"
            )

    def _end_process(self, is_failed: bool) -> None:
        assert self._process is not None and self._process.stdin is not None, "it was started with a pipe"
        try:
            if is_failed:
                self._process.kill()
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # its exit code says that it failed
        code = self._process.wait()
        reason = self._reason()
        if self._errors is not None:
            self._errors.close()
        if code and not is_failed:
            raise UserError(reason)
