"""What the page shows: the newest frame with its people, as JPEG, and figures about it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg

from evaluator.decoding.scores import SelectConfig
from evaluator.live.capture import Frame
from evaluator.live.rates import Rate
from evaluator.predict.prediction import Person, Prediction
from evaluator.tracking.tracks import UNTRACKED

MAX_SIDE_PX = 1280  # larger frames are shown smaller
JPEG_QUALITY = 85
MAX_LISTED = 20
FAREWELL_S = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A drawn frame. version: increases with every drawing; frame, captured_s: those of the `Frame`; jpeg: the file."""

    version: int
    frame: int
    captured_s: float
    jpeg: bytes


class View:
    """The newest frame and its people. The main thread calls `show`, the threads of the server everything else.

    num_shown: number of frames that were shown. is_closed: whether no other will follow.
    """

    def __init__(self, min_score: float) -> None:
        """min_score: people with at least this score are drawn."""
        self._min_score = min_score
        self.num_shown = 0
        self._drawing = threading.Lock()  # held while a frame is drawn, so that `wait` can still return the last picture
        self._shown: tuple[Frame, Prediction] | None = None
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._num_viewers, self.is_closed = 0, False
        self._rate = Rate()

    def show(self, frame: Frame, prediction: Prediction) -> None:
        """Draw the next frame, with the identities of the people who have one.

        The time from its capture until the JPEG file is complete counts as latency.
        """
        with self._drawing:
            self._shown = _reduced(frame), prediction
            self._draw()
        now_s = time.monotonic()
        self._rate.add(now_s, now_s - frame.captured_s)
        self.num_shown += 1

    def set_min_score(self, min_score: float) -> None:
        """Draw people with at least this score from now on, and draw the newest frame again."""
        with self._drawing:
            self._min_score = min_score
            if self._shown is not None:
                self._draw()

    def wait(self, after: int, timeout_s: float) -> Picture | None:
        """Return the picture as soon as its version exceeds `after`; None if that takes longer than the timeout, or after `close`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self.is_closed or (self._picture is not None and self._picture.version > after), timeout_s
            )
            picture = self._picture
        return picture if picture is not None and picture.version > after else None

    @contextmanager
    def viewer(self) -> Iterator[int]:
        """Count a viewer within a block; yield how many there are."""
        with self._changed:
            self._num_viewers += 1
            number = self._num_viewers
        try:
            yield number
        finally:
            with self._changed:
                self._num_viewers -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """End all `wait`, and give the viewers a moment to receive what they wait for."""
        with self._changed:
            self.is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._num_viewers, FAREWELL_S)

    def facts(self) -> dict[str, Any]:
        """Return what the page shows beside the picture. Times are in milliseconds."""
        with self._drawing:
            shown, min_score = self._shown, self._min_score
        latency = self._rate.median_and_largest()
        facts: dict[str, Any] = {
            "min_score": min_score,
            "num_analyzed": self.num_shown,
            "fps": round(self._rate.per_s(), 2),
            "latency_ms": latency and round(latency[0] * 1000, 1),
            "largest_latency_ms": latency and round(latency[1] * 1000, 1),
            "num_people": 0,
            "num_drawn": 0,
            "people": [],
        }
        if shown is not None:
            _, prediction = shown
            scores = [person.score for person in prediction.people]
            facts |= {"num_people": len(scores), "num_drawn": sum(score >= min_score for score in scores)}
            facts["people"] = [
                {
                    "id": _number(person),
                    "score": round(person.score, 3),
                    "num_joints": len(person.joints),
                    "drawn": person.score >= min_score,
                }
                for person in prediction.people[:MAX_LISTED]
            ]
        return facts

    def _draw(self) -> None:
        assert self._shown is not None, "nothing to draw"
        frame, prediction = self._shown
        drawing = prediction.selected(SelectConfig(min_score=self._min_score)).draw(frame.pixels)
        scale = frame.pixels.shape[1] / prediction.size_wh[0]
        for person in prediction.people:
            if person.score >= self._min_score and (number := _number(person)) is not None:
                place = person.box.x + person.box.width / 2, person.box.y
                _write_number(drawing, number, (place[0] * scale, place[1] * scale))
        jpeg = simplejpeg.encode_jpeg(drawing, quality=JPEG_QUALITY)
        with self._changed:
            version = 1 if self._picture is None else self._picture.version + 1
            self._picture = Picture(version=version, frame=frame.number, captured_s=frame.captured_s, jpeg=jpeg)
            self._changed.notify_all()


def _number(person: Person) -> int | None:
    """The identity of a person; None without one."""
    return None if person.identity in (None, UNTRACKED) else person.identity


def _reduced(frame: Frame) -> Frame:
    """Return a frame that is not larger than what is shown."""
    height, width = frame.pixels.shape[:2]
    scale = MAX_SIDE_PX / max(height, width)
    if scale >= 1:
        return frame
    size = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = cv2.resize(frame.pixels, size, interpolation=cv2.INTER_AREA)
    return Frame(number=frame.number, captured_s=frame.captured_s, pixels=pixels)


def _write_number(drawing: np.ndarray, number: int, place: tuple[float, float]) -> None:
    """Write an identity in black on white, centered above a place in pixels, inside the drawing."""
    height, width = drawing.shape[:2]
    size = max(0.4, min(height, width) / 700)
    thickness = max(1, round(1.6 * size))
    (text_width, text_height), below = cv2.getTextSize(str(number), cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    pad = 2 + round(3 * size)
    left = round(min(max(place[0] - text_width / 2, pad), max(width - text_width - pad, pad)))
    bottom = round(min(max(place[1] - 4 * pad, text_height + pad), height - below - pad))
    cv2.rectangle(drawing, (left - pad, bottom - text_height - pad), (left + text_width + pad, bottom + pad), (255, 255, 255), -1)
    cv2.putText(drawing, str(number), (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), thickness, cv2.LINE_AA)
