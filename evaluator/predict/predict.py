"""The command `predict`: people in any images and videos, as drawings and as JSON."""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.decoding.decode import People
from evaluator.drawings import draw_found, write_picture
from evaluator.inference.clock import Clock
from evaluator.inference.infer import FieldNetwork, Fields, Looks, find_or_explain
from evaluator.inference.streaming import Stream, ahead
from evaluator.jobs.config import PredictConfig, choose_batch_size
from evaluator.jobs.outcome import report_unreadable
from evaluator.jobs.run import load
from evaluator.metrics.coco_eval import to_results
from evaluator.predict import openpose_json
from evaluator.predict.video import SUFFIXES as VIDEO_SUFFIXES
from evaluator.predict.video import Video, VideoWriter
from pipeline.cli import save_config
from pipeline.errors import UserError
from pipeline.files import new_folder, refuse_used
from pipeline.images import UnreadableImage, read_image
from pipeline.progress import progress_bar

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
PERSON = 1  # COCO's category
FRAMES_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image file, or a frame of a video (its number from 0, and its pixels). name: of its drawing, without a suffix."""

    file: Path
    name: str
    frame: int | None = None
    pixels: np.ndarray | None = None


def run(config: PredictConfig) -> int:
    """Raises UserError for input that cannot be used and for an output folder that is not empty."""
    refuse_used(config.out)
    files = list_files(config.images)
    network, device = load(config.checkpoint, config.device_target, average=not config.inference.raw_weights)
    return predict(config, files, network, device)


def list_files(paths: Iterable[Path]) -> list[Path]:
    """Files as given, folders as the images and videos in them (not below them) by name. Raises UserError for what is not there."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES + VIDEO_SUFFIXES)
            if not inside:
                raise UserError(f"folder {path}: no image or video ({', '.join(SUFFIXES + VIDEO_SUFFIXES)}) in it")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"image {path}: no such file or folder")
    return files


def is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


def predict(config: PredictConfig, files: list[Path], network: FieldNetwork, device: str = "CPU") -> int:
    """Find people in `files` with `network` and write the output folder."""
    unreadable: dict[str, str] = {}
    named = list(zip(files, unique_names(files), strict=True))
    with new_folder(config.out) as folder:
        with Output(folder, config, network) as output:
            for video, group in itertools.groupby(named, key=lambda pair: is_video(pair[0])):
                if not video:
                    pictures = [Picture(file=file, name=name) for file, name in group]
                    output.add(pictures, len(pictures), device, unreadable)
                    continue
                for file, name in group:
                    _add_video(output, file, name, device, unreadable)
        if not output.num_images:
            raise UserError(f"none of {len(files)} files can be read, such as {files[0]}: {unreadable[str(files[0])]}")
        save_config(config, folder / "config.yaml")
    few = f"{output.num_drawn} of them drawn (--draw-min-score {config.draw_min_score:g})"
    print(
        f"{output.num_people} people in {output.num_images} images, {few}; drawings, results.json and images.json in {config.out}"
    )
    return report_unreadable(unreadable, "are left out", allowed=False)


def _add_video(output: "Output", file: Path, name: str, device: str, unreadable: dict[str, str]) -> None:
    before = output.num_images
    try:
        video = Video(file)
    except UnreadableImage as error:
        unreadable[str(file)] = str(error)
        return
    frames = (Picture(file=file, name=name, frame=i, pixels=frame) for i, frame in enumerate(video.frames()))
    with VideoWriter(output.folder / f"{name}.mp4", video.fps) as writer:
        output.add(ahead(frames, FRAMES_AHEAD), video.announced or None, device, unreadable, writer)
    num_frames = output.num_images - before
    if not num_frames:
        unreadable[str(file)] = "no frame of it can be decoded"
    elif num_frames < video.announced:
        print(f"video {file}: says that it has {video.announced} frames, {num_frames} could be read", file=sys.stderr)


class Output:
    """The folder of a prediction, written as the images come: nothing of a long video is held in memory; a context."""

    def __init__(self, folder: Path, config: PredictConfig, network: FieldNetwork) -> None:
        self.folder, self.config, self.network = folder, config, network
        self.looks = Looks(network, config.inference)
        self.num_images = self.num_people = self.num_drawn = 0
        self._ids = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> "Output":
        self._results, self._images = (
            self._stack.enter_context(JsonList(self.folder / name)) for name in ("results.json", "images.json")
        )
        if self.config.openpose_json:
            (self.folder / "openpose").mkdir()
        return self

    def __exit__(self, *error) -> None:
        self._stack.close()

    def add(
        self,
        pictures: Iterable[Picture],
        total: int | None,
        device: str,
        unreadable: dict[str, str],
        writer: VideoWriter | None = None,
    ) -> None:
        """Find people in image files, or in the frames of one video, whose annotated frames go to `writer`."""
        batch_size = choose_batch_size(self.config.batch_size, device)
        stream = Stream(looks=self.looks, read=_read, work=self._draw, batch_size=batch_size, clock=Clock())
        with progress_bar(total=total, desc="finding people", unit="image") as progress:
            for group in stream.run(_groups(iter(pictures), batch_size)):
                for picture, result in group:
                    image_id = next(self._ids)
                    if isinstance(result, UnreadableImage):
                        unreadable[str(picture.file)] = str(result)
                        continue
                    people, drawing = result
                    self._write(image_id, picture, people, drawing.shape)
                    if writer:
                        writer.write(drawing)
                progress.update(len(group))

    def _draw(self, picture: Picture, pixels: np.ndarray, fields: Fields) -> tuple[People, np.ndarray]:
        people = find_or_explain(fields, self.network.skeleton, self.config.decoding, str(picture.file))
        drawing = draw_found(pixels, people, self.network.skeleton, self.config.draw_min_score)
        if picture.frame is None:
            write_picture(self.folder / f"{picture.name}.jpg", drawing)
        return people, drawing

    def _write(self, image_id: int, picture: Picture, people: People, shape: tuple[int, ...]) -> None:
        for entry in to_results(people, image_id=image_id, category_id=PERSON, skeleton=self.network.skeleton):
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
    """A JSON file with a list of objects, one a line, written as they come."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._before = "[\n"

    def append(self, entry: Any) -> None:
        self._file.write(self._before + json.dumps(entry))
        self._before = ",\n"

    def __exit__(self, *error) -> None:
        self._file.write("\n]\n" if self._before != "[\n" else "[]\n")
        self._file.close()


def unique_names(files: list[Path]) -> list[str]:
    """A name for each drawing: the file's without its suffix, numbered where two have the same."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = file.stem, 1
        while name in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name)
        names.append(name)
    return names
