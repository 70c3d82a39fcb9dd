"""Images through a network, with reading before it and decoding behind it in threads, so that it waits for neither.

NumPy, OpenCV and MindSpore let other threads run while they compute. Everything is bounded: a few groups are read ahead, a few
wait to be decoded. What comes out has the order of what went in.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np

from evaluator.inference.clock import Clock
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.fields import Fields
from pipeline.images import UnreadableImage

Item = TypeVar("Item")
Result = TypeVar("Result")

NUM_READERS, NUM_DECODERS = 2, 1
GROUPS_AHEAD, GROUPS_BEHIND = 2, 2


END = object()


def ahead(items: Iterator[Item], depth: int) -> Iterator[Item]:
    """The same items, of which a thread of their own takes up to `depth` before they are asked for."""
    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(next, items, END) for _ in range(depth))
        try:
            while (item := pending.popleft().result()) is not END:
                pending.append(pool.submit(next, items, END))
                yield item
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Stream(Generic[Item, Result]):
    """read: item -> uint8 RGB (H, W, 3), or UnreadableImage. work: item, image, its fields -> what is wanted of it.

    batch_size: images that the network gets at once; a batch that is not full is filled up, so that it has no other shape.
    """

    network: AugmentedNetwork
    read: Callable[[Item], np.ndarray]
    work: Callable[[Item, np.ndarray, Fields], Result]
    batch_size: int
    clock: Clock

    def run(self, groups: Iterable[Sequence[Item]]) -> Iterator[list[tuple[Item, Result | UnreadableImage]]]:
        """For each group of items, in order, the items with their results; images of a group that have equal sizes share batches.

        What `read` or `work` raises, other than UnreadableImage, comes out here.
        """
        with ThreadPoolExecutor(NUM_READERS) as readers, ThreadPoolExecutor(NUM_DECODERS) as decoders:
            try:
                yield from self._run(iter(groups), readers, decoders)
            finally:
                for pool in (readers, decoders):
                    pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, groups: Iterator[Sequence[Item]], readers: ThreadPoolExecutor, decoders: ThreadPoolExecutor):
        ahead: deque = deque()
        behind: deque = deque()

        def look_ahead() -> None:
            for group in islice(groups, GROUPS_AHEAD + 1 - len(ahead)):
                ahead.append([(item, readers.submit(self._read, item)) for item in group])

        look_ahead()
        while ahead:
            behind.append(self._compute(ahead.popleft(), decoders))
            look_ahead()
            while len(behind) > GROUPS_BEHIND or (behind and not ahead):
                yield [(item, self._result(future)) for item, future in behind.popleft()]

    def _read(self, item: Item) -> tuple[np.ndarray, list[np.ndarray]]:
        with self.clock.timed("read"):
            image = self.read(item)
            return image, self.network.prepare(image)

    def _compute(self, group: list[tuple[Item, Future]], decoders: ThreadPoolExecutor) -> list[tuple[Item, Future]]:
        """Waits for the images of a group and computes their fields; what becomes of them is found by the decoders."""
        by_size: dict[Hashable, list[int]] = {}
        futures: dict[int, Future] = {}
        for number, (_, read) in enumerate(group):
            if isinstance(read.exception(), UnreadableImage):
                futures[number] = read
            else:
                by_size.setdefault(tuple(view.shape for view in read.result()[1]), []).append(number)
        for numbers in by_size.values():
            for first in range(0, len(numbers), self.batch_size):
                part = numbers[first : first + self.batch_size]
                outputs = self._fields([group[number][1].result()[1] for number in part])
                for number, views in zip(part, outputs, strict=True):
                    item, image = group[number][0], group[number][1].result()[0]
                    futures[number] = decoders.submit(self._work, item, image, views)
        return [(item, futures[number]) for number, (item, _) in enumerate(group)]

    def _fields(self, views: list[list[np.ndarray]]) -> list[list[tuple[np.ndarray, np.ndarray]]]:
        """Views of each image of a batch, one per scale -> heatmaps and PAFs (C, h, w) of each image, one pair per scale."""
        filled = views + views[:1] * (self.batch_size - len(views))
        with self.clock.timed("network"):
            scales = [self.network.compute(inputs) for inputs in zip(*filled, strict=True)]
        return [[(heatmaps[i], pafs[i]) for heatmaps, pafs in scales] for i in range(len(views))]

    def _work(self, item: Item, image: np.ndarray, outputs: list[tuple[np.ndarray, np.ndarray]]) -> Result:
        with self.clock.timed("decode"):
            fields = self.network.combine(outputs, (image.shape[1], image.shape[0]))
            return self.work(item, image, fields)

    @staticmethod
    def _result(future: Future) -> Result | UnreadableImage:
        error = future.exception()
        return error if isinstance(error, UnreadableImage) else future.result()
