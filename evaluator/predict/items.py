"""Pictures to search for people, and what was found in them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluator.predict.people import Prediction
from pipeline.images import UnreadableImage


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image file, or a frame of a video: its number, counted from 0, its time, and its pixels.

    name: file name of the drawing below the output folder, without suffix.
    """

    file: Path
    name: str
    frame: int | None = None
    seconds: float | None = None
    pixels: np.ndarray | None = None


Item = tuple[int, Picture]
"""A picture and its id in images.json, counted from 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What was found in a picture, as it is written: all that takes time is done in another thread than the network's.

    entries: lines of results.json. drawing_wh: width and height of the drawing, which is in its file. document: the file in
    OpenPose's format, with --openpose-json.
    frame: the pixels of a frame that `FrameSequence.finish` still has to draw, uint8 RGB (H, W, 3).
    """

    prediction: Prediction
    num_drawn: int
    entries: list[str]
    drawing_wh: tuple[int, int]
    document: str | None
    frame: np.ndarray | None = None


Group = list[tuple[Item, Drawn | UnreadableImage]]
"""Pictures that are computed together, with what was found in each."""


def require_text_name(file: Path) -> None:
    """Raise UnreadableImage if the name of a file is not text, so that images.json cannot contain it."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UnreadableImage("its name is not UTF-8; rename the file") from None
