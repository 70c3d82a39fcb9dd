"""Charts of a card, uint8 RGB. OpenCV draws them, because equal numbers must produce files with equal bytes."""

from pathlib import Path

import cv2
import numpy as np

from data_cards.record_cards.statistics import Histogram
from pipeline.wording import counted

INK, PALE, GRID = (38, 43, 52), (120, 126, 136), (228, 231, 235)
SERIES_COLORS = ((46, 105, 178), (236, 146, 52), (90, 160, 90))
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_ROW_PX, _BAR_PX, _WIDTH_PX, _TOP_PX = 20, 12, 720, 58


def bar_chart(histogram: Histogram) -> np.ndarray:
    """Draw one row per bin and one bar per series; the length of a bar is the share."""
    num_rows, series = len(histogram.bins), list(histogram.counts)
    row_px = max(_ROW_PX, _BAR_PX * len(series) + 8)
    names = [_ascii(name) for name in histogram.bins]
    left = 16 + max(_text_width(name, 0.4) for name in names) + 10
    canvas = _Canvas(_WIDTH_PX, _TOP_PX + row_px * num_rows + 16)
    canvas.text(16, 22, _ascii(histogram.title, 80), 0.52, INK)
    canvas.legend(16, 43, [histogram.heading(name) for name in series])
    max_share = max(histogram.shares(name).max(initial=0) for name in series)
    length = _WIDTH_PX - left - 110
    for row, name in enumerate(names):
        y = _TOP_PX + row * row_px
        canvas.box(left, y, _WIDTH_PX - 16, y + 1, GRID)
        canvas.text(left - 10 - _text_width(name, 0.4), y + row_px // 2 + 5, name, 0.4, INK)
        bar_px = (row_px - 8) // len(series)
        for i, key in enumerate(series):
            count, share = int(histogram.counts[key][row]), float(histogram.shares(key)[row])
            end = left + (round(length * share / max_share) if max_share else 0)
            top = y + 4 + i * bar_px
            canvas.box(left, top, max(end, left + 1 if count else left), top + bar_px - 1, SERIES_COLORS[i])
            if count or i == 0:
                canvas.text(end + 6, top + bar_px // 2 + 4, f"{count:,}  {share:.1%}" if count else "0", 0.34, PALE)
    return canvas.pixels


def position_chart(maps: dict[str, np.ndarray], titles: dict[str, str]) -> np.ndarray:
    """Draw position maps, int (h, w), side by side, from white (no people) to dark blue (maximum)."""
    side, gap = 320, 24
    canvas = _Canvas(gap + len(maps) * (side + gap), side + 84)
    for number, (name, counts) in enumerate(maps.items()):
        x = gap + number * (side + gap)
        canvas.text(x, 30, titles[name], 0.5, INK)
        smooth = cv2.GaussianBlur(counts.astype(np.float32), (0, 0), 1.2, borderType=cv2.BORDER_REFLECT)
        share = cv2.resize(smooth / max(float(smooth.max()), 1e-9), (side, side), interpolation=cv2.INTER_CUBIC)
        share = share.clip(0, 1)[..., None] ** 0.8
        colors = 255 + share * (np.array((23, 55, 120), np.float32) - 255)
        canvas.paste(x, 46, np.rint(colors).astype(np.uint8))
        canvas.frame(x, 46, x + side, 46 + side)
        canvas.text(
            x, side + 68, f"{counted(int(counts.sum()), 'person')}, at most {counts.max(initial=0):,} per cell", 0.4, PALE
        )
    return canvas.pixels


def save(picture: np.ndarray, path: Path) -> None:
    """Write a JPEG file; PNG would take six times as long. Raises OSError."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 86, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert encoded, path
    path.write_bytes(data.tobytes())


class _Canvas:
    """A white image with drawing functions; coordinates in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.full((height, width, 3), 255, np.uint8)

    def box(self, x0: int, y0: int, x1: int, y1: int, color: tuple[int, int, int]) -> None:
        self.pixels[y0:y1, x0:x1] = color

    def frame(self, x0: int, y0: int, x1: int, y1: int) -> None:
        cv2.rectangle(self.pixels, (x0, y0), (x1 - 1, y1 - 1), PALE)

    def paste(self, x: int, y: int, picture: np.ndarray) -> None:
        self.pixels[y : y + picture.shape[0], x : x + picture.shape[1]] = picture

    def text(self, x: int, y: int, text: str, size: float, color: tuple[int, int, int]) -> None:
        cv2.putText(self.pixels, text, (x, y), _FONT, size, color, 1, cv2.LINE_AA)

    def legend(self, x: int, y: int, names: list[str]) -> None:
        for name, color in zip(names, SERIES_COLORS, strict=False):
            self.box(x, y - 9, x + 10, y + 1, color)
            self.text(x + 16, y, name, 0.42, PALE)
            x += 16 + _text_width(name, 0.42) + 24


def _text_width(text: str, size: float) -> int:
    return cv2.getTextSize(text, _FONT, size, 1)[0][0]


def _ascii(text: str, max_length: int = 48) -> str:
    """Return a text that cv2 can draw: ASCII only. Names of licenses and keypoints in a file can have any characters and length."""
    text = text.encode("ascii", "replace").decode()
    return text if len(text) <= max_length else text[: max_length - 3] + "..."
