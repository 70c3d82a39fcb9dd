"""Reads a source in a thread of its own and keeps only the newest frame: frames are dropped, never queued."""

import itertools
import sys
import threading
import time
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from evaluator.live.inputs import Source, frames_per_s, open_source
from evaluator.live.rates import Rate
from pipeline.errors import UserError
from pipeline.wording import printable

RETRY_S, MAX_RETRY_S = 1.0, 10.0
JOIN_S = 1.0

State = Literal["opening", "running", "reconnecting", "ended"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A frame. number: counted from 1, dropped ones included. captured_s: `time.monotonic()` when it was decoded.

    pixels: uint8 RGB (H, W, 3).
    """

    number: int
    captured_s: float
    pixels: np.ndarray


class Capture:
    """The newest frame of a source. Use it as a context manager, which opens the source and raises UserError as `open_source` does.

    A camera or stream is read from then on, a file from the first `take` on.

    num_captured, num_dropped: numbers of frames that were read, and of those that a newer frame replaced before they were taken.
    state: "reconnecting" while the connection to a stream is lost, "ended" after the last frame. fps: rate that the source states.
    """

    def __init__(self, source: Source, *, loop: bool = False) -> None:
        """loop: begin a file again at its end."""
        self.source, self._loop = source, loop
        self.state: State = "opening"
        self.fps = 0.0
        self.num_captured = self.num_dropped = 0
        self.rate = Rate()
        self._newest: tuple[int, float, np.ndarray] | None = None
        self._failure: BaseException | None = None
        self._changed, self._stop, self._wanted = threading.Condition(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __enter__(self) -> "Capture":
        self._thread.start()  # it also opens the source, for which Ctrl-C need not wait
        with self._changed:
            self._changed.wait_for(lambda: self.state != "opening")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._wanted.set()
        self._thread.join(JOIN_S)  # a stream that sends nothing holds it for longer; it ends with the process

    def take(self) -> Frame | None:
        """Return the newest frame, once; wait for it if necessary. None after the last one. Raises UserError if the source fails."""
        self._wanted.set()
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self.state == "ended")
            newest, self._newest = self._newest, None
        if newest is None and self._failure is not None:
            raise self._failure
        if newest is None:
            return None
        number, captured_s, pixels = newest
        return Frame(number=number, captured_s=captured_s, pixels=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))

    def _run(self) -> None:
        try:
            self._video = open_source(self.source)
            self.fps = frames_per_s(self._video)
            self._change("running")
            if self.source.is_file:
                self._wanted.wait()
            while self._read() and self._open_again():
                pass
            self._video.release()
        except Exception as error:  # raised again in the main thread
            self._failure = error
        finally:
            self._change("ended")

    def _change(self, state: State) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()

    def _read(self) -> bool:
        """Read until the source ends. Return whether it may be opened again."""
        start_s, before = time.monotonic(), self.num_captured
        for number in itertools.count(1):
            success, pixels = self._video.read()
            if self._stop.is_set():
                return False
            if not success:
                break
            if self.source.is_file:
                self._stop.wait(start_s + number / self.fps - time.monotonic())
            self._put(pixels)
        if self.source.is_stream:
            return True
        if self.source.is_camera:
            raise UserError(f"{self.source.name}: delivers no more frames; check its cable, then run the command again")
        if self.num_captured == before:
            raise UserError(f"{self.source.name}: none of its frames can be decoded")
        return self._loop

    def _put(self, pixels: np.ndarray) -> None:
        with self._changed:
            self.num_captured += 1
            self.num_dropped += self._newest is not None
            self._newest = self.num_captured, time.monotonic(), pixels
            self.rate.add(self._newest[1])
            self._changed.notify_all()

    def _open_again(self) -> bool:
        """Open a file again, or a stream as soon as that is possible. Return False if the command ends."""
        self._video.release()
        if self.source.is_file:
            self._video = open_source(self.source)
            return True
        self._change("reconnecting")
        print(f"{printable(self.source.name)}: connection lost; trying again", file=sys.stderr, flush=True)
        delay_s = RETRY_S
        while not self._stop.wait(delay_s):
            delay_s = min(2 * delay_s, MAX_RETRY_S)
            try:
                self._video = open_source(self.source)
            except UserError:
                continue
            self._change("running")
            print(f"{printable(self.source.name)}: connected again", file=sys.stderr, flush=True)
            return True
        return False
