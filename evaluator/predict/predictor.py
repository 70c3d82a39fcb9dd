"""The Python interface: finds people in images, with the network of a checkpoint or of an exported file."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar, overload

import numpy as np

from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import SelectConfig
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.clock import Clock
from evaluator.inference.config import InferConfig
from evaluator.inference.engines import load_engine
from evaluator.inference.fields import Fields, find_people_or_fail
from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.scoring import Calibration, calibration_of, map_of, settings_of, warn_of_other_settings
from evaluator.inference.streaming import Stream
from evaluator.inference.tuned import decoding_of
from evaluator.options import choose_batch_size, require_batch_size
from evaluator.predict.prediction import Prediction, to_prediction
from pipeline.images import UnreadableImage
from pipeline.photos import Photo, read_photo, whole
from trainer.device import DeviceConfig

Source = str | os.PathLike[str] | np.ndarray
"""An image: a file, or an array uint8 RGB (H, W, 3)."""
EVERYBODY = SelectConfig(min_score=0)
Item = TypeVar("Item")
Output = TypeVar("Output")


class Predictor:
    """Finds people in images.

        predictor = Predictor("openpose.onnx")
        for person in predictor("photo.jpg").people:
            print(person.score, person.joints["nose"])

    network: what computes the fields. skeleton: the joints that it finds. calibration: of the scores, None if
    the network has none. to_scores: the map from raw scores to scores.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        device: Literal["auto", "CPU", "Ascend"] = "auto",
        scales: Sequence[float] = (1.0,),
        mirror: bool = False,
        insize: int | None = None,
        decoding: DecodeConfig | None = None,
        min_score: float = SelectConfig.min_score,
        min_joints: int = SelectConfig.min_joints,
        max_people: int | None = SelectConfig.max_people,
        batch_size: int | None = None,
        precision: Literal["O0", "O2", "O3"] = "O0",
    ) -> None:
        """Load a network.

        model: an exported network (.onnx), which needs no MindSpore, a checkpoint, or a run folder.
        All others: as the options of `python -m evaluator predict`. People with scores below `min_score` are left out; 0 keeps all.
        Raises UserError for a file that cannot be used, ValueError for other values that cannot.
        """
        inference = InferConfig(scales=tuple(scales), mirror=mirror, insize=insize, precision=precision)
        require_batch_size(batch_size)
        network, name = load_engine(Path(model), DeviceConfig(device_target=device), inference)
        decoding = decoding or decoding_of(network)
        select = SelectConfig(min_score=min_score, min_joints=min_joints, max_people=max_people)
        self._set(network, inference, decoding, calibration_of(network), select, choose_batch_size(batch_size, name))

    @classmethod
    def of(
        cls,
        network: FieldNetwork,
        *,
        inference: InferConfig | None = None,
        decoding: DecodeConfig | None = None,
        calibration: Calibration | None = None,
        select: SelectConfig | None = None,
        batch_size: int = 1,
    ) -> "Predictor":
        """Return the predictor of a network that is loaded already, or of your own."""
        predictor = cls.__new__(cls)
        chosen = inference or InferConfig(), decoding or DecodeConfig(), calibration, select or SelectConfig()
        predictor._set(network, *chosen, batch_size)
        return predictor

    def _set(
        self,
        network: FieldNetwork,
        inference: InferConfig,
        decoding: DecodeConfig,
        calibration: Calibration | None,
        select: SelectConfig,
        batch_size: int,
    ) -> None:
        self.network, self.decoding, self.select, self.batch_size = network, decoding, select, batch_size
        self.skeleton, self.calibration = network.skeleton, calibration
        self.to_scores = map_of(calibration, network.skeleton)
        self._augmented = AugmentedNetwork(network, inference)
        warn_of_other_settings(calibration, settings_of(inference, self._augmented.insize, decoding))

    # A str is an iterable of str, too, and an iterator is an iterable: the first signature that fits is the right one.
    @overload
    def __call__(self, source: Source) -> Prediction: ...  # type: ignore[overload-overlap] # see above
    @overload
    def __call__(self, source: Iterator[Source]) -> Iterator[Prediction]: ...  # type: ignore[overload-overlap] # see above
    @overload
    def __call__(self, source: Iterable[Source]) -> list[Prediction]: ...

    def __call__(self, source: Source | Iterable[Source]) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Find people in an image, in a list of images, or in those of an iterator, which is read as the results are taken.

        Several images take less time per image: the next ones are read, and the last ones decoded, while the network computes.
        Raises UnreadableImage, with the name of the file. `stream` goes on with the next image instead.
        """
        if isinstance(source, (str, os.PathLike, np.ndarray)):
            return self._predict(source)
        found = (_require_readable(*pair) for pair in self.stream(source))
        return found if isinstance(source, Iterator) else list(found)

    def stream(self, sources: Iterable[Source]) -> Iterator[tuple[Source, Prediction | UnreadableImage]]:
        """Yield each source with its prediction, in order; with the error if it cannot be read. Reads a few sources ahead."""
        items = iter(sources)
        groups = iter(lambda: list(itertools.islice(items, self.batch_size)), [])
        for group in self.run(groups, read=_read, work=lambda source, _photo, prediction: prediction, path_of=_path):
            yield from group

    def run(
        self,
        groups: Iterable[Sequence[Item]],
        *,
        read: Callable[[Item], Photo],
        work: Callable[[Item, Photo, Prediction], Output],
        path_of: Callable[[Item], Path | None],
        clock: Clock | None = None,
    ) -> Iterator[list[tuple[Item, Output | UnreadableImage]]]:
        """Predict groups of items of any kind, one list per group, in order.

        read: returns the photo of an item, or raises UnreadableImage. work: what to do with its prediction, in another thread.
        path_of: the file of an item. Images of one size in a group share batches of `batch_size`.
        """

        def decode(item: Item, photo: Photo, fields: Fields) -> Output:
            return work(item, photo, self._decode(fields, path_of(item)))

        stream = Stream(
            network=self._augmented, read=read, work=decode, batch_size=self.batch_size, clock=Clock() if clock is None else clock
        )
        return stream.run(groups)

    def _predict(self, source: Source) -> Prediction:
        """Predict one image in this thread: no batch, and no image waits for the next one."""
        try:
            photo = _read(source)
        except UnreadableImage as error:
            return _require_readable(source, error)
        outputs = []
        for view in self._augmented.prepare(photo.pixels, photo.size_wh):
            heatmaps, pafs = self._augmented.compute([view])
            outputs.append((heatmaps[0], pafs[0]))
        return self._decode(self._augmented.combine(outputs, photo.size_wh), _path(source))

    def _decode(self, fields: Fields, path: Path | None) -> Prediction:
        people = find_people_or_fail(fields, self.skeleton, self.decoding, "array" if path is None else str(path))
        return to_prediction(people, fields.size_wh, self.skeleton, self.to_scores, path).selected(self.select)


def _path(source: Source) -> Path | None:
    return None if isinstance(source, np.ndarray) else Path(source)


def _read(source: Source) -> Photo:
    path = _path(source)
    if path is not None:
        return read_photo(path)
    assert isinstance(source, np.ndarray), "a source is a path or an array"
    if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
        raise ValueError(f"image must be an array uint8 RGB (H, W, 3), got {source.dtype} {source.shape}")
    return whole(source)


def _require_readable(source: Source, result: Prediction | UnreadableImage) -> Prediction:
    if isinstance(result, UnreadableImage):
        raise UnreadableImage(f"image {_path(source)}: {result}") from result
    return result
