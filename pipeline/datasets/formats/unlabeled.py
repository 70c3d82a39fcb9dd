"""Regions to ignore for sources that label only some of the people: everything but the neighborhoods of labeled people.

Without them, training would teach the network that the other people are background.
"""

import itertools
from collections.abc import Sequence

from pipeline.datasets.boxes import Box, joint_box
from pipeline.datasets.formats.people import Person, SourceImage

NEIGHBORHOOD_SHARE = 0.5
"""How far a neighborhood reaches beyond the box of a person's keypoints on each side, as a share of the longer side of the box."""
MIN_SIDE_PX = 8.0  # of a region; narrower ones are not worth an annotation
_EVALUATED_FACTOR = 3  # COCO ignores predictions in a box three times as wide and high as the region's (cocoeval.py, computeOks)


def unlabeled_regions(image: SourceImage) -> list[Person]:
    """Return the regions to ignore of an image whose size is known.

    The rectangles are disjoint and cover all pixels outside the neighborhoods. The box of each is its middle third, so
    that the predictions that COCO's evaluation ignores are those in the rectangle.
    """
    width, height = image.size or (0, 0)
    known = [_neighborhood(box) for person in image.people if not person.iscrowd and (box := _box(person))]
    regions = []
    for number, (x, y, w, h) in enumerate(_uncovered(width, height, known), 1):
        third = x + w / _EVALUATED_FACTOR, y + h / _EVALUATED_FACTOR, w / _EVALUATED_FACTOR, h / _EVALUATED_FACTOR
        polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
        where = f"{image.name}: unlabeled region {number}"
        regions.append(Person(where=where, box=third, area=w * h, segmentation=[polygon], iscrowd=True))
    return regions


def _box(person: Person) -> Box | None:
    return person.box or (None if person.keypoints is None else joint_box(person.keypoints))


def _neighborhood(box: Box) -> Box:
    x, y, width, height = box
    margin = NEIGHBORHOOD_SHARE * max(width, height)
    return x - margin, y - margin, width + 2 * margin, height + 2 * margin


def _uncovered(width: int, height: int, boxes: Sequence[Box]) -> list[Box]:
    """Divide the part of an image outside of the boxes into rectangles: rows between the edges of boxes, cut by the boxes."""
    rows = sorted({0.0, float(height), *(min(max(edge, 0.0), height) for _, y, _, h in boxes for edge in (y, y + h))})
    found: list[Box] = []
    for top, bottom in itertools.pairwise(rows):
        left = 0.0
        covering = sorted((x, x + w) for x, y, w, h in boxes if y <= top and bottom <= y + h)
        for low, high in [*covering, (float(width), float(width))]:
            if min(low, width) - left >= MIN_SIDE_PX and bottom - top >= MIN_SIDE_PX:
                found.append((left, top, min(low, width) - left, bottom - top))
            left = max(left, high)
    return found
