"""A stream of images through a network: threads read ahead of it and decode after it, so that the network never waits.

The network has a thread of its own: it computes the next images while the caller writes the last ones. NumPy, OpenCV, MindSpore
and ONNX Runtime release the GIL while they compute. All queues are bounded: a few groups are read ahead, a few wait to be
decoded. Results come out in the order of the input.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.clock import NETWORK, Clock
from evaluator.inference.fields import Fields
from pipeline.images import UnreadableImage
from pipeline.photos import Photo

Item = TypeVar("Item")
Output = TypeVar("Output")
Loaded = tuple[Photo, list[np.ndarray]]
"""A photo and its network input at each scale."""

NUM_READERS, NUM_DECODERS = 2, 2
MAX_GROUPS_READ_AHEAD, MAX_GROUPS_TO_DECODE = 2, 2


def prefetch(items: Iterator[Item], depth: int) -> Generator[Item, None, None]:
    """Yield the items while a thread takes up to `depth` of them ahead of time."""
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(list, islice(items, 1)) for _ in range(depth))
        try:
            while taken := pending.popleft().result():
                pending.append(pool.submit(list, islice(items, 1)))
                yield taken[0]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Stream(Generic[Item, Output]):
    """A pipeline of reading, network and decoding.

    read: returns the photo of an item, or raises UnreadableImage.
    work: returns the output for an item, its photo and its fields.
    batch_size: number of images per call of the network. Incomplete batches are filled up, so that all have the same shape.
    """

    network: AugmentedNetwork
    read: Callable[[Item], Photo]
    work: Callable[[Item, Photo, Fields], Output]
    batch_size: int
    clock: Clock

    def run(self, groups: Iterable[Sequence[Item]]) -> Iterator[list[tuple[Item, Output | UnreadableImage]]]:
        """Yield, for each group in order, its items with their outputs. Images of equal size in a group share batches.

        Raises whatever `read` or `work` raises, except UnreadableImage, which takes the place of the output.
        """
        pools = ThreadPoolExecutor(NUM_READERS), ThreadPoolExecutor(1), ThreadPoolExecutor(NUM_DECODERS)
        try:
            yield from self._run(iter(groups), *pools)
        finally:
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            for pool in pools:
                pool.shutdown()

    def _run(
        self,
        groups: Iterator[Sequence[Item]],
        readers: ThreadPoolExecutor,
        network: ThreadPoolExecutor,
        decoders: ThreadPoolExecutor,
    ) -> Iterator[list[tuple[Item, Output | UnreadableImage]]]:
        computing: deque[Future[list[tuple[Item, Future[Output] | UnreadableImage]]]] = deque()
        decoding: deque[list[tuple[Item, Future[Output] | UnreadableImage]]] = deque()

        def read_ahead() -> None:
            for group in islice(groups, MAX_GROUPS_READ_AHEAD + 1 - len(computing)):
                loading = [(item, readers.submit(self._read, item)) for item in group]
                computing.append(network.submit(self._compute, loading, decoders))

        read_ahead()
        while computing:
            decoding.append(computing.popleft().result())
            read_ahead()
            while len(decoding) > MAX_GROUPS_TO_DECODE or (decoding and not computing):
                yield [
                    (item, output if isinstance(output, UnreadableImage) else output.result())
                    for item, output in decoding.popleft()
                ]

    def _read(self, item: Item) -> Loaded:
        with self.clock.timed("read"):
            photo = self.read(item)
            return photo, self.network.prepare(photo.pixels, photo.size_wh)

    def _compute(
        self, group: list[tuple[Item, Future[Loaded]]], decoders: ThreadPoolExecutor
    ) -> list[tuple[Item, Future[Output] | UnreadableImage]]:
        """Wait for the images of a group, compute their fields, and hand these to the decoders."""
        loaded: dict[int, Loaded] = {}
        outputs: dict[int, Future[Output] | UnreadableImage] = {}
        by_shape: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        for number, (_, future) in enumerate(group):
            error = future.exception()
            if isinstance(error, UnreadableImage):
                outputs[number] = error
            else:
                loaded[number] = future.result()
                by_shape.setdefault(tuple(view.shape for view in loaded[number][1]), []).append(number)
        for numbers in by_shape.values():
            for first in range(0, len(numbers), self.batch_size):
                batch = numbers[first : first + self.batch_size]
                batch_fields = self._fields([loaded[number][1] for number in batch])
                for number, fields in zip(batch, batch_fields, strict=True):
                    outputs[number] = decoders.submit(self._work, group[number][0], loaded[number][0], fields)
        return [(item, outputs[number]) for number, (item, _) in enumerate(group)]

    def _fields(self, views: list[list[np.ndarray]]) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Compute a batch. views: one network input per scale for each image. Returns heatmaps and PAFs (C, h, w) likewise."""
        filled = views + views[:1] * (self.batch_size - len(views))
        with self.clock.timed(NETWORK):
            scales = [self.network.compute(inputs) for inputs in zip(*filled, strict=True)]
        return [[(heatmaps[i], pafs[i]) for heatmaps, pafs in scales] for i in range(len(views))]

    def _work(self, item: Item, photo: Photo, outputs: list[tuple[np.ndarray, np.ndarray]]) -> Output:
        with self.clock.timed("decode"):
            return self.work(item, photo, self.network.combine(outputs, photo.size_wh))
