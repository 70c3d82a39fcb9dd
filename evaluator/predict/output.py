"""The output folder of `predict`, written image by image: a long video is never held in memory."""

import itertools
import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from evaluator.inference.clock import Clock
from evaluator.jobs.partial import Unfinished
from evaluator.predict import openpose_json
from evaluator.predict.coco_video import NAME, CocoVideo
from evaluator.predict.config import PredictConfig
from evaluator.predict.drawn import Drawn, Group, Item, Picture, require_text_name
from evaluator.predict.frames import FrameSequence
from evaluator.predict.json_list import JsonList
from evaluator.predict.prediction import Prediction, to_prediction
from evaluator.predict.predictor import Predictor
from evaluator.predict.previous import IMAGES, RESULTS, SKIPPED, Previous, Skipped
from evaluator.predict.styles import draw_styled
from evaluator.predict.tables import PeopleTable
from pipeline.draw import write_picture
from pipeline.images import UnreadableImage
from pipeline.photos import Photo, read_photo, whole
from pipeline.runtime.progress import progress_bar
from pipeline.storage.files import write_json
from pipeline.wording import printable

DRAWING_SUFFIX, VIDEO_SUFFIX = ".jpg", ".mp4"
MAX_GROUPS_TO_FINISH = 2  # of a video, waiting to be drawn


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
        self._table: PeopleTable | None = None
        self._coco_video: CocoVideo | None = None
        self._stack = ExitStack()

    def __enter__(self) -> "Output":
        with ExitStack() as stack:
            self._results = stack.enter_context(JsonList(self.folder / RESULTS, self._previous.results))
            self._images = stack.enter_context(JsonList(self.folder / IMAGES, self._previous.images))
            if self.config.openpose_json:
                (self.folder / "openpose").mkdir()
            if self.config.table:
                self._table = stack.enter_context(PeopleTable(self.folder, self.config.table, self.predictor.skeleton))
            if self.config.coco_video:
                self._coco_video = stack.enter_context(CocoVideo(self.folder, self.predictor.skeleton))
            if self._previous.images:
                self._copy_previous()
            self._stack = stack.pop_all()  # an error above has closed the files
        if self.work.found.people:
            print(f"continuing: {len(self.work.found.people):,} images are done", flush=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._stack.__exit__(kind, *error)  # type: ignore[arg-type] # what Python passes
        if (self.unreadable or self._previous.skipped) and kind is None:
            write_json(self.folder / SKIPPED, list(self.unreadable.values()))

    def _copy_previous(self) -> None:
        """Begin the table and the videos with those of the finished output."""
        last_id = self._previous.last_id  # a command that was killed while it added files has left images with larger ids
        if self._table:
            self._table.copy(self.config.out / f"people.{self.config.table}", last_id)
        if self._coco_video:
            self._coco_video.copy(self.config.out / NAME, last_id)

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

    def add(self, pictures: Iterable[Picture], total: int | None) -> None:
        """Find people in image files."""
        items = ((next(self._ids), picture) for picture in pictures)
        with progress_bar(total=total, desc="finding people", unit="image") as progress:
            for group in self._find(_groups(items, self.predictor.batch_size)):
                self._write_group(group)
                progress.update(len(group))

    def add_video(self, frames: Iterable[Picture], total: int | None, sequence: FrameSequence, file: Path, fps: float) -> None:
        """Find people in the frames of one video. fps: frames per second of the file.

        One thread follows the people, draws and encodes the frames, in order, while the network computes the next ones.
        """
        if self._coco_video:
            self._coco_video.start(file, fps)
        items = ((next(self._ids), frame) for frame in frames)
        with progress_bar(total=total, desc="finding people", unit="image") as progress, ThreadPoolExecutor(1) as tail:
            pending: deque[Future[Group]] = deque()
            try:
                for group in self._find(_groups(items, self.predictor.batch_size)):
                    pending.append(tail.submit(self._finish, group, sequence, fps))
                    while len(pending) > MAX_GROUPS_TO_FINISH:
                        self._write_group(pending.popleft().result())
                    progress.update(len(group))
                while pending:
                    self._write_group(pending.popleft().result())
            finally:
                tail.shutdown(wait=True, cancel_futures=True)

    def _finish(self, group: Group, sequence: FrameSequence, fps: float) -> Group:
        return [(item, self._finished(item, done, sequence, fps)) for item, done in group]

    def _finished(
        self, item: Item, done: Drawn | UnreadableImage, sequence: FrameSequence, fps: float
    ) -> Drawn | UnreadableImage:
        """Complete a frame: identities, drawing, and what is written about it."""
        if isinstance(done, UnreadableImage):
            return done
        assert done.frame is not None, "a frame of a video is drawn here"
        prediction = sequence.finish(done.prediction, done.frame)
        described = self._described(item, prediction, prediction.size_wh)
        if self._coco_video:
            self._coco_video.add(described.shown, item[0], item[1].frame or 0)
        return described

    def _write_group(self, group: Group) -> None:
        for (image_id, picture), result in group:
            if isinstance(result, UnreadableImage):
                self.skip(picture.file, str(result))
                continue
            with self.clock.timed("write"):
                self._write(image_id, picture, result)
        self.clock.count(len(group))

    def _find(self, groups: Iterator[list[Item]]) -> Iterator[Group]:
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
        if item[1].frame is not None:
            return Drawn(prediction=prediction, shown=prediction, drawing_wh=prediction.size_wh, frame=photo.pixels)
        drawing = draw_styled(photo.pixels, prediction, self.config.select, self.config.drawing)
        path = self.folder / f"{item[1].name}{DRAWING_SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, drawing)
        return self._described(item, prediction, (drawing.shape[1], drawing.shape[0]))

    def _described(self, item: Item, prediction: Prediction, drawing_wh: tuple[int, int]) -> Drawn:
        """Return what is written about a picture."""
        shown = prediction.selected(self.config.select)
        return Drawn(
            prediction=prediction,
            shown=shown,
            drawing_wh=drawing_wh,
            entries=[json.dumps(entry) for entry in shown.to_coco(item[0])],
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
        if self._table:
            self._table.add(done.shown, picture.file, image_id, picture.frame, picture.seconds)
        if picture.frame is not None:
            about["frame"] = picture.frame
        if done.document is not None:
            about["openpose_json"] = openpose_json.write(self.folder / "openpose", picture.name, picture.frame, done.document)
        self._images.extend([json.dumps(about)])
        self.num_images += 1
        self.num_people += len(done.shown.people)


def _read(item: Item) -> Photo:
    picture = item[1]
    require_text_name(picture.file)
    return read_photo(picture.file) if picture.pixels is None else whole(picture.pixels)


def _groups(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while group := list(itertools.islice(items, size)):
        yield group
