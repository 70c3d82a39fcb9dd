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
from evaluator.decoding.scores import ScoreMap, select
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.clock import Clock
from evaluator.inference.fields import Fields, find_people_or_fail
from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.streaming import Stream
from evaluator.jobs.partial import Unfinished
from evaluator.metrics.results import to_results
from evaluator.predict import openpose_json
from evaluator.predict.config import PredictConfig
from evaluator.predict.video import VideoWriter
from pipeline.draw import draw_people, write_picture
from pipeline.files import write_json
from pipeline.images import UnreadableImage, read_image
from pipeline.progress import progress_bar
from pipeline.wording import printable

PERSON_CATEGORY = 1  # in COCO
SKIPPED = "skipped.json"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image file, or a frame of a video: its number, counted from 0, and its pixels.

    name: file name of the drawing, without suffix.
    """

    file: Path
    name: str
    frame: int | None = None
    pixels: np.ndarray | None = None


Item = tuple[int, Picture]
"""A picture and its id in images.json, counted from 1."""
Drawn = tuple[People, np.ndarray]
"""The people of a picture and the drawing, uint8 RGB (H, W, 3)."""


class Output:
    """Finds people and writes the output folder. Use it as a context manager.

    unreadable: reasons by file name. num_unreadable: number of images and frames that could not be read.
    work: keeps the people that were found until the folder is complete; what is in it already is not computed again.
    """

    def __init__(
        self, folder: Path, config: PredictConfig, network: FieldNetwork, batch_size: int, work: Unfinished, to_scores: ScoreMap
    ) -> None:
        self.folder, self.config, self.batch_size, self.work, self.to_scores = folder, config, batch_size, work, to_scores
        self.network, self.skeleton = AugmentedNetwork(network, config.inference), network.skeleton
        self.unreadable: dict[str, str] = {}
        self.num_images = self.num_people = self.num_unreadable = 0
        self._ids = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> "Output":
        self._results = self._stack.enter_context(JsonList(self.folder / "results.json"))
        self._images = self._stack.enter_context(JsonList(self.folder / "images.json"))
        if self.config.openpose_json:
            (self.folder / "openpose").mkdir()
        if self.work.found.people:
            print(f"continuing: {len(self.work.found.people):,} images are done", flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._stack.close()
        if self.unreadable and kind is None:
            skipped = [{"file_name": name, "reason": reason} for name, reason in self.unreadable.items()]
            write_json(self.folder / SKIPPED, skipped)

    def skip(self, file: Path, reason: str, num_images: int = 1) -> None:
        """Note that a file, or a number of frames of a video, cannot be read."""
        self.unreadable[printable(str(file))] = reason
        self.num_unreadable += num_images

    def add(self, pictures: Iterable[Picture], total: int | None, writer: VideoWriter | None = None) -> None:
        """Find people in image files, or in the frames of one video, whose annotated frames go to `writer`."""
        items = ((next(self._ids), picture) for picture in pictures)
        with progress_bar(total=total, desc="finding people", unit="image") as progress:
            for group in self._find(_groups(items, self.batch_size)):
                for (image_id, picture), result in group:
                    if isinstance(result, UnreadableImage):
                        self.skip(picture.file, str(result))
                        continue
                    people, drawing = result
                    self._write(image_id, picture, people, drawing)
                    if writer:
                        writer.write(drawing)
                progress.update(len(group))

    def _find(self, groups: Iterator[list[Item]]) -> Iterator[list[tuple[Item, Drawn | UnreadableImage]]]:
        """Yield the groups in order. A group is computed as a whole, so that a continued run has the same batches."""
        stream = Stream(network=self.network, read=_read, work=self._compute, batch_size=self.batch_size, clock=Clock())
        known = self.work.found.people
        for is_known, several in itertools.groupby(groups, key=lambda group: all(image_id in known for image_id, _ in group)):
            if is_known:
                for group in several:
                    yield [(item, self._drawn_again(item)) for item in group]
                continue
            for computed in stream.run(several):
                self.work.append({item[0]: result[0] for item, result in computed if not isinstance(result, UnreadableImage)})
                yield computed

    def _compute(self, item: Item, pixels: np.ndarray, fields: Fields) -> Drawn:
        people = find_people_or_fail(fields, self.skeleton, self.config.decoding, str(item[1].file))
        return people, draw_people(pixels, self._selected(people).keypoints, self.skeleton)

    def _selected(self, people: People) -> People:
        """Return the people that are drawn and written."""
        kept = select(people.keypoints, self.to_scores(people.scores), self.config.select)
        return People(keypoints=people.keypoints[kept], scores=people.scores[kept])

    def _drawn_again(self, item: Item) -> Drawn | UnreadableImage:
        people = self.work.found.people[item[0]]
        try:
            return people, draw_people(_read(item), self._selected(people).keypoints, self.skeleton)
        except UnreadableImage as error:  # its file was changed while the command was running
            return error

    def _write(self, image_id: int, picture: Picture, people: People, drawing: np.ndarray) -> None:
        people = self._selected(people)
        facts: Any = {
            "image_id": image_id,
            "category_id": PERSON_CATEGORY,
            "skeleton": self.skeleton,
            "to_scores": self.to_scores,
        }
        for entry in to_results(people, **facts):
            self._results.append(entry)
        name = f"{picture.name}.jpg" if picture.frame is None else f"{picture.name}.mp4"
        about = {"id": image_id, "file_name": str(picture.file), "width": drawing.shape[1], "height": drawing.shape[0]}
        about["drawing"] = name
        if picture.frame is None:
            write_picture(self.folder / name, drawing)
        else:
            about["frame"] = picture.frame
        if self.config.openpose_json:
            about["openpose_json"] = openpose_json.write(self.folder / "openpose", picture.name, picture.frame, people)
        self._images.append(about)
        self.num_images += 1
        self.num_people += len(people)


def require_text_name(file: Path) -> None:
    """Raise UnreadableImage if the name of a file is not text, so that images.json cannot contain it."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UnreadableImage("its name is not UTF-8; rename the file") from None


def _read(item: Item) -> np.ndarray:
    picture = item[1]
    require_text_name(picture.file)
    return read_image(picture.file) if picture.pixels is None else picture.pixels


def _groups(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while group := list(itertools.islice(items, size)):
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
