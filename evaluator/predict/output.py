"""The output folder of `predict`, written image by image: a long video is never held in memory."""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.decoding import People
from evaluator.drawings import draw_found
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.clock import Clock
from evaluator.inference.fields import Fields, find_people_or_fail
from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.streaming import Stream
from evaluator.metrics.results import to_results
from evaluator.options import choose_batch_size
from evaluator.predict import openpose_json
from evaluator.predict.config import PredictConfig
from evaluator.predict.video import VideoWriter
from pipeline.draw import write_picture
from pipeline.images import UnreadableImage, read_image
from pipeline.progress import progress_bar

PERSON_CATEGORY = 1  # in COCO


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image file, or a frame of a video: its number, counted from 0, and its pixels.

    name: file name of the drawing, without suffix.
    """

    file: Path
    name: str
    frame: int | None = None
    pixels: np.ndarray | None = None


class Output:
    """Finds people and writes the output folder. Use it as a context manager. `unreadable`: reasons by file name."""

    def __init__(self, folder: Path, config: PredictConfig, network: FieldNetwork, device: str) -> None:
        self.folder, self.config = folder, config
        self.network, self.skeleton = AugmentedNetwork(network, config.inference), network.skeleton
        self.batch_size = choose_batch_size(config.batch_size, device)
        self.unreadable: dict[str, str] = {}
        self.num_images = self.num_people = self.num_drawn = 0
        self._ids = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> "Output":
        self._results = self._stack.enter_context(JsonList(self.folder / "results.json"))
        self._images = self._stack.enter_context(JsonList(self.folder / "images.json"))
        if self.config.openpose_json:
            (self.folder / "openpose").mkdir()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, pictures: Iterable[Picture], total: int | None, writer: VideoWriter | None = None) -> None:
        """Find people in image files, or in the frames of one video, whose annotated frames go to `writer`."""
        stream = Stream(network=self.network, read=_read, work=self._draw, batch_size=self.batch_size, clock=Clock())
        with progress_bar(total=total, desc="finding people", unit="image") as progress:
            for group in stream.run(_groups(iter(pictures), self.batch_size)):
                for picture, result in group:
                    image_id = next(self._ids)
                    if isinstance(result, UnreadableImage):
                        self.unreadable[str(picture.file)] = str(result)
                        continue
                    people, drawing = result
                    self._write(image_id, picture, people, drawing.shape)
                    if writer:
                        writer.write(drawing)
                progress.update(len(group))

    def _draw(self, picture: Picture, pixels: np.ndarray, fields: Fields) -> tuple[People, np.ndarray]:
        people = find_people_or_fail(fields, self.skeleton, self.config.decoding, str(picture.file))
        drawing = draw_found(pixels, people, self.skeleton, self.config.draw_min_score)
        if picture.frame is None:
            write_picture(self.folder / f"{picture.name}.jpg", drawing)
        return people, drawing

    def _write(self, image_id: int, picture: Picture, people: People, shape: tuple[int, ...]) -> None:
        for entry in to_results(people, image_id=image_id, category_id=PERSON_CATEGORY, skeleton=self.skeleton):
            self._results.append(entry)
        drawing = f"{picture.name}.jpg" if picture.frame is None else f"{picture.name}.mp4"
        about = {"id": image_id, "file_name": str(picture.file), "width": shape[1], "height": shape[0], "drawing": drawing}
        self._images.append(about if picture.frame is None else {**about, "frame": picture.frame})
        if self.config.openpose_json:
            openpose_json.write(self.folder / "openpose", picture.name, picture.frame, people)
        self.num_images += 1
        self.num_people += len(people)
        self.num_drawn += int((people.scores >= self.config.draw_min_score).sum())


def _read(picture: Picture) -> np.ndarray:
    return read_image(picture.file) if picture.pixels is None else picture.pixels


def _groups(pictures: Iterator[Picture], size: int) -> Iterator[list[Picture]]:
    while group := list(itertools.islice(pictures, size)):
        yield group


class JsonList(AbstractContextManager):
    """A JSON file with a list of objects, one per line, written entry by entry."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._separator = "[\n"

    def append(self, entry: Any) -> None:
        """Write one entry."""
        self._file.write(self._separator + json.dumps(entry))
        self._separator = ",\n"

    def __exit__(self, *error: object) -> None:
        self._file.write("\n]\n" if self._separator != "[\n" else "[]\n")
        self._file.close()
