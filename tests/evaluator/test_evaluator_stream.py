"""The stream reads ahead of the network and decodes after it, in order and with bounded queues."""

import threading
from itertools import chain

import numpy as np
import pytest
from job_data import NoiseNetwork

from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.clock import Clock
from evaluator.inference.config import InferConfig
from evaluator.inference.streaming import MAX_GROUPS_READ_AHEAD, MAX_GROUPS_TO_DECODE, Stream
from pipeline.images import UnreadableImage
from pipeline.photos import whole

NUM_IMAGES = 12


class Log:
    """A thread-safe list of events that can be waited for."""

    def __init__(self):
        self.events, self.changed = [], threading.Condition()

    def add(self, event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait(self, event):
        with self.changed:
            assert self.changed.wait_for(lambda: event in self.events, timeout=30), f"{event} did not happen in parallel"

    def count(self, kind):
        with self.changed:
            return sum(event[0] == kind for event in self.events)


def stream_of(network, read, work, batch_size=1):
    return Stream(
        network=AugmentedNetwork(network, InferConfig()),
        read=lambda item: whole(read(item)),
        work=work,
        batch_size=batch_size,
        clock=Clock(),
    )


def test_reading_decoding_and_the_caller_overlap_with_the_network():
    log = Log()

    class Waiting(NoiseNetwork):
        def fields(self, images):
            number = log.count("network")
            log.add(("network", number))
            if number + 1 < NUM_IMAGES:
                log.wait(("read", number + 1))
            if number:
                log.wait(("decoded", number - 1))
            return super().fields(images)

    def read(number):
        assert number <= log.count("network") + MAX_GROUPS_READ_AHEAD + 1, "read too far ahead"
        log.add(("read", number))
        return np.full((64, 64, 3), number, np.uint8)

    def work(number, image, fields):
        log.add(("decoded", number))
        return int(image.pixels[0, 0, 0])

    done = []
    for group in stream_of(Waiting(), read, work).run([number] for number in range(NUM_IMAGES)):
        done += group
        if len(done) + MAX_GROUPS_TO_DECODE < NUM_IMAGES:  # the caller need not ask for the next group
            log.wait(("network", len(done) + MAX_GROUPS_TO_DECODE))
        limit = len(done) + MAX_GROUPS_TO_DECODE + MAX_GROUPS_READ_AHEAD + 1
        assert log.count("network") <= limit, "too many groups wait to be decoded"
    assert done == [(number, number) for number in range(NUM_IMAGES)]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_unreadable_images_keep_their_position(batch_size):
    def read(number):
        if number % 3 == 0:
            raise UnreadableImage(f"no {number}")
        return np.zeros((64, 64 + 64 * (number % 2), 3), np.uint8)

    network = NoiseNetwork()
    stream = stream_of(network, read, lambda number, image, fields: fields.size_wh, batch_size)
    groups = list(stream.run([[0, 1, 2, 3, 4, 5], [6], [7, 8]]))
    assert [[number for number, _ in group] for group in groups] == [[0, 1, 2, 3, 4, 5], [6], [7, 8]]
    for number, result in chain(*groups):
        if number % 3 == 0:
            assert isinstance(result, UnreadableImage) and str(result) == f"no {number}"
        else:
            assert result == (64 + 64 * (number % 2), 64)
    assert {shape[0] for shape in network.shapes} == {batch_size}


@pytest.mark.parametrize("where", ["read", "work"])
def test_other_errors_are_raised(where):
    def fail(*_):
        raise ZeroDivisionError(where)

    def read(_):
        return np.zeros((64, 64, 3), np.uint8)

    stream = stream_of(NoiseNetwork(), fail if where == "read" else read, fail)
    with pytest.raises(ZeroDivisionError, match=where):
        list(stream.run([number] for number in range(100)))
