"""What a prediction returns: people, their joints, and their conversion to the formats of COCO and OpenPose."""

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from evaluator.decoding import People
from evaluator.decoding.scores import ScoreMap, SelectConfig, select
from evaluator.inference.sizes import Size
from evaluator.metrics.results import to_results
from evaluator.predict import openpose_json
from pipeline import geometry
from pipeline.draw import draw_people
from pipeline.photos import read_photo
from pipeline.skeleton import Skeleton

PERSON_CATEGORY = 1  # in COCO


class Joint(NamedTuple):
    """A joint that was found: its place in pixels of the image, and the height of its peak, about 1 for a certain one."""

    x: float
    y: float
    confidence: float


class Box(NamedTuple):
    """The smallest box around the joints of a person, in pixels of the image. x and y are those of its upper left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """A person in an image.

    keypoints: float32 (J, 3), x and y in pixels of the image and the confidence, in the order of `skeleton.joints`; 0, 0, 0 for a
    joint that was not found. score: from 0 to 1, the probability that the person is right if the network is calibrated. raw_score:
    the sum of the decoder, from which it is computed. identity: in a video, the number of the person, the same in all frames, -1 if
    it is not known; None in an image.
    """

    keypoints: np.ndarray = field(repr=False)
    score: float
    raw_score: float
    skeleton: Skeleton = field(repr=False)
    identity: int | None = None

    @functools.cached_property
    def joints(self) -> Mapping[str, Joint]:
        """The joints that were found, by name."""
        named = zip(self.skeleton.joints, self.keypoints.tolist(), strict=True)
        return MappingProxyType({name: Joint(*values) for name, values in named if values[2] > 0})

    @functools.cached_property
    def box(self) -> Box:
        """The box around the joints that were found."""
        found = self.keypoints[self.keypoints[:, 2] > 0, :2]
        (left, top), (right, bottom) = found.min(axis=0).tolist(), found.max(axis=0).tolist()
        return Box(left, top, right - left, bottom - top)

    def to_coco(self, image_id: int = 1, category_id: int = PERSON_CATEGORY, *, size_wh: Size | None = None) -> dict[str, Any]:
        """Return an entry of a COCO results file, whose keypoints are in the order of `skeleton.source_joints`.

        size_wh: width and height of the image, which the guessed places of missing joints (v = 0) do not leave.

        Also has `raw_score`, `confidences`, one for each of these keypoints, 0 if it was not found, `box`: x, y, width, height, and
        `track_id` of a person with an identity. (pycocotools would use `bbox` in place of the keypoints to sort people by size.)
        """
        people = People(keypoints=self.keypoints[None], scores=np.array([self.raw_score], np.float32))
        [entry] = to_results(people, image_id=image_id, category_id=category_id, skeleton=self.skeleton, size_wh=size_wh)
        tracked = {} if self.identity is None else {"track_id": self.identity}
        return {**entry, "score": self.score, "box": [round(value, 2) for value in self.box], **tracked}


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The people in one image, best score first.

    size_wh: width and height of the image in pixels, upright. source: the file, None for an array.
    """

    people: tuple[Person, ...]
    size_wh: tuple[int, int]
    skeleton: Skeleton = field(repr=False)
    source: Path | None = None

    @functools.cached_property
    def keypoints(self) -> np.ndarray:
        """float32 (P, J, 3): those of all people, see `Person.keypoints`."""
        return np.stack([person.keypoints for person in self.people]) if self.people else self._no_keypoints()

    def _no_keypoints(self) -> np.ndarray:
        return np.zeros((0, self.skeleton.num_joints, 3), np.float32)

    @property
    def found(self) -> People:
        """The same people as arrays, as the decoder returned them: keypoints and raw scores."""
        return People(keypoints=self.keypoints, scores=np.array([person.raw_score for person in self.people], np.float32))

    def selected(self, config: SelectConfig) -> "Prediction":
        """Return a copy with only the people that `config` selects, best score first."""
        kept = select(self.keypoints, np.array([person.score for person in self.people]), config)
        return dataclasses.replace(self, people=tuple(self.people[i] for i in kept))

    def tracked(self, identities: np.ndarray, keypoints: np.ndarray) -> "Prediction":
        """Return a copy in which the people have these identities, int (P,), and these keypoints, float32 (P, J, 3)."""
        people = tuple(
            dataclasses.replace(person, identity=identity, keypoints=points)
            for person, identity, points in zip(self.people, identities.tolist(), keypoints, strict=True)
        )
        return dataclasses.replace(self, people=people)

    def to_coco(self, image_id: int = 1, category_id: int = PERSON_CATEGORY) -> list[dict[str, Any]]:
        """Return the entries of a COCO results file, see `Person.to_coco`."""
        return [person.to_coco(image_id, category_id, size_wh=self.size_wh) for person in self.people]

    def to_openpose(self) -> dict[str, Any]:
        """Return the document that OpenPose writes for an image (`--write_json`)."""
        return openpose_json.to_document(self.keypoints, [person.identity for person in self.people])

    def draw(self, image: np.ndarray | None = None, *, thickness_px: int | None = None) -> np.ndarray:
        """Return a copy of the image, uint8 RGB (H, W, 3), with the people.

        image: the image, or a resized one; None reads `source` again, upright and, if it is huge, reduced.
        Raises UnreadableImage if that is not possible.
        """
        if image is None:
            if self.source is None:
                raise ValueError("image must be given: this prediction is that of an array, not of a file")
            image = read_photo(self.source).pixels
        keypoints = self.keypoints_at((image.shape[1], image.shape[0]))
        return draw_people(image, keypoints, self.skeleton, thickness_px=thickness_px)

    def keypoints_at(self, size_wh: tuple[int, int]) -> np.ndarray:
        """Return `keypoints` in pixels of the image after resizing it to a width and height."""
        if size_wh == self.size_wh:
            return self.keypoints
        matrix = geometry.resizing(*(side / whole for side, whole in zip(size_wh, self.size_wh, strict=True)))
        return geometry.transform_keypoints(matrix, self.keypoints)


def to_prediction(
    people: People, size_wh: tuple[int, int], skeleton: Skeleton, to_scores: ScoreMap, source: Path | None = None
) -> Prediction:
    """Convert all decoded people, in pixels of the image, to a prediction. to_scores: the map from raw scores to scores."""
    scores = to_scores(people.scores).tolist()
    found = tuple(
        Person(keypoints=keypoints, score=score, raw_score=raw, skeleton=skeleton)
        for keypoints, score, raw in zip(people.keypoints, scores, people.scores.tolist(), strict=True)
    )
    return Prediction(people=found, size_wh=size_wh, skeleton=skeleton, source=source)
