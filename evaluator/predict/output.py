"""The output folder of `predict`, written image by image: a long video is never held in memory."""

import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.inference.clock import Clock
from evaluator.jobs.partial import Unfinished
from evaluator.predict import openpose_json
from evaluator.predict.config import PredictConfig
from evaluator.predict.prediction import Prediction, to_prediction
from evaluator.predict.predictor import Predictor
from evaluator.predict.previous import IMAGES, RESULTS, SKIPPED, Previous, Skipped
from evaluator.predict.video import VideoWriter
from pipeline.draw import write_picture
from pipeline.files import write_json
from pipeline.images import UnreadableImage
from pipeline.photos import Photo, read_photo, whole
from pipeline.progress import progress_bar
from pipeline.wording import printable

DRAWING_SUFFIX, VIDEO_SUFFIX = ".jpg", ".mp4"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image file, or a frame of a video: its number, counted from 0, and its pixels.

    name: file name of the drawing below the output folder, without suffix.
    """

    file: Path
    name: str
    frame: int | None = None
    pixels: np.ndarray | None = None


Item = tuple[int, Picture]
"""A picture and its id in images.json, counted from 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """What was found in a picture, as it is written: all that takes time is done in another thread than the network's.

    prediction: everybody. num_shown: people that are drawn and written. entries: lines of results.json. drawing: a frame of a video
    with these people, uint8 RGB (H, W, 3); that of an image is in its file. drawing_wh: its width and height. document: the file in
    OpenPose's format, with --openpose-json.
    """

    prediction: Prediction
    num_shown: int
    entries: list[str]
    drawing: np.ndarray | None
    drawing_wh: tuple[int, int]
    document: str | None


class Output:
    """Finds people and writes the output folder. Use it as a context manager.

    unreadable: reasons and numbers of images or frames by file name.
    work: keeps the people that were found until the folder is complete; what is in it already is not computed again.
    previous: what the output has already.
    """

    def __init__(
        self, folder: Path, config: PredictConfig, predictor: Predictor, work: Unfinished, previous: Previous, clock: Clock
    ) -> None:
        self.folder, self.config, self.predictor, self.work, self.clock = folder, config, predictor, work, clock
        self.unreadable: dict[str, Skipped] = {entry["file_name"]: entry for entry in previous.skipped}
        self.num_images = self.num_people = self.num_reduced = 0
        self._previous = previous
        self._ids = itertools.count(previous.last_id + 1)
        self._stack = ExitStack()

    def __enter__(self) -> "Output":
        self._results = self._stack.enter_context(JsonList(self.folder / RESULTS, self._previous.results))
        self._images = self._stack.enter_context(JsonList(self.folder / IMAGES, self._previous.images))
        if self.config.openpose_json:
            (self.folder / "openpose").mkdir()
        if self.work.found.people:
            print(f"continuing: {len(self.work.found.people):,} images are done", flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._stack.close()
        if (self.unreadable or self._previous.skipped) and kind is None:
            write_json(self.folder / SKIPPED, list(self.unreadable.values()))

    def retry(self, files: Iterable[Path]) -> None:
        """Forget that files could not be read, because they are read again."""
        for file in files:
            self.unreadable.pop(printable(str(file)), None)

    @property
    def num_unreadable(self) -> int:
        """Number of images and frames that could not be read."""
        return sum(entry.get("num_images", 1) for entry in self.unreadable.values())

    def skip(self, file: Path, reason: str, num_images: int = 1) -> None:
        """Note that a file, or a number of frames of a video, cannot be read."""
        name = printable(str(file))
        self.unreadable[name] = {"file_name": name, "reason": reason, "num_images": num_images}

    def add(self, pictures: Iterable[Picture], total: int | None, writer: VideoWriter | None = None) -> None:
        """Find people in image files, or in the frames of one video, whose annotated frames go to `writer`."""
        items = ((next(self._ids), picture) for picture in pictures)
        with progress_bar(total=total, desc="finding people", unit="image") as progress:
            for group in self._find(_groups(items, self.predictor.batch_size)):
                for (image_id, picture), result in group:
                    if isinstance(result, UnreadableImage):
                        self.skip(picture.file, str(result))
                        continue
                    with self.clock.timed("write"):
                        self._write(image_id, picture, result)
                        if writer and result.drawing is not None:
                            writer.write(result.drawing)
                progress.update(len(group))
                self.clock.count(len(group))

    def _find(self, groups: Iterator[list[Item]]) -> Iterator[list[tuple[Item, Drawn | UnreadableImage]]]:
        """Yield the groups in order. A group is computed as a whole, so that a continued run has the same batches."""
        known = self.work.found.people
        for is_known, several in itertools.groupby(groups, key=lambda group: all(image_id in known for image_id, _ in group)):
            if is_known:
                for group in several:
                    yield [(item, self._drawn_again(item)) for item in group]
                continue
            stream = self.predictor.run(
                several, read=_read, work=self._drawn, path_of=lambda item: item[1].file, clock=self.clock
            )
            for computed in stream:
                found = {item[0]: done.prediction.found for item, done in computed if not isinstance(done, UnreadableImage)}
                self.work.append(found)
                yield computed

    def _drawn(self, item: Item, photo: Photo, prediction: Prediction) -> Drawn:
        shown, picture = prediction.selected(self.config.select), item[1]
        drawing = shown.draw(photo.pixels)
        if picture.frame is None:
            path = self.folder / f"{picture.name}{DRAWING_SUFFIX}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_picture(path, drawing)
        return Drawn(
            prediction=prediction,
            num_shown=len(shown.people),
            entries=[json.dumps(entry) for entry in shown.to_coco(item[0])],
            drawing=None if picture.frame is None else drawing,
            drawing_wh=(drawing.shape[1], drawing.shape[0]),
            document=json.dumps(shown.to_openpose()) if self.config.openpose_json else None,
        )

    def _drawn_again(self, item: Item) -> Drawn | UnreadableImage:
        try:
            photo = _read(item)
        except UnreadableImage as error:  # its file was changed while the command was running
            return error
        found = self.work.found.people[item[0]]
        return self._drawn(
            item, photo, to_prediction(found, photo.size_wh, self.predictor.skeleton, self.predictor.to_scores, item[1].file)
        )

    def _write(self, image_id: int, picture: Picture, done: Drawn) -> None:
        prediction = done.prediction
        self._results.extend(done.entries)
        name = f"{picture.name}{DRAWING_SUFFIX if picture.frame is None else VIDEO_SUFFIX}"
        width, height = prediction.size_wh
        about = {"id": image_id, "file_name": str(picture.file), "width": width, "height": height, "drawing": name}
        if done.drawing_wh != prediction.size_wh:
            about |= {"drawing_width": done.drawing_wh[0], "drawing_height": done.drawing_wh[1]}
            self.num_reduced += 1
        if picture.frame is not None:
            about["frame"] = picture.frame
        if done.document is not None:
            about["openpose_json"] = openpose_json.write(self.folder / "openpose", picture.name, picture.frame, done.document)
        self._images.extend([json.dumps(about)])
        self.num_images += 1
        self.num_people += done.num_shown


def require_text_name(file: Path) -> None:
    """Raise UnreadableImage if the name of a file is not text, so that images.json cannot contain it."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UnreadableImage("its name is not UTF-8; rename the file") from None


def _read(item: Item) -> Photo:
    picture = item[1]
    require_text_name(picture.file)
    return read_photo(picture.file) if picture.pixels is None else whole(picture.pixels)


def _groups(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while group := list(itertools.islice(items, size)):
        yield group


class JsonList(AbstractContextManager):
    """A JSON file with a list of objects, one per line, written entry by entry."""

    def __init__(self, path: Path, entries: Iterable[Any] = ()) -> None:
        """entries: those that it begins with."""
        self._file = path.open("w", encoding="utf-8")
        self._separator = "[\n"
        self.extend(json.dumps(entry) for entry in entries)

    def extend(self, entries: Iterable[str]) -> None:
        """Write entries, each as JSON."""
        for entry in entries:
            self._file.write(self._separator + entry)
            self._separator = ",\n"

    def __exit__(self, *error: object) -> None:
        self._file.write("\n]\n" if self._separator != "[\n" else "[]\n")
        self._file.close()
