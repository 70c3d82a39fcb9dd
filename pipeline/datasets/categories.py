"""The categories of an annotation file: which of them are the people of a skeleton."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import convert
from pipeline.wording import printable


class _Category(msgspec.Struct):
    """An entry of the list `categories`."""

    id: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    name: str = ""
    keypoints: list[str] | None = None


def read_categories(entries: list[Any], skeleton: Skeleton, where: str, names: tuple[str, ...] = ()) -> dict[int, str]:
    """Return id and name of the categories whose keypoints are exactly those of the skeleton, in the same order.

    names: how the file calls the keypoints, if not as the skeleton does.

    Raises UserError, which begins with `where`, if there are none, and for other categories that may be people too: their
    annotations would become background without anybody noticing.
    """
    names = names or skeleton.source_joints
    categories: list[_Category] = convert(entries, list[_Category], f"{where}: categories")
    found = {entry.id: entry.name for entry in categories if tuple(entry.keypoints or ()) == names}
    if (repeated := first_repeated(entry.id for entry in categories)) is not None:
        raise UserError(f"{where}: categories: id {repeated} occurs twice; ids must be unique")
    if not found:
        others = [str(entry.keypoints)[:500] for entry in categories if entry.keypoints] or ["no category with keypoints"]
        raise UserError(
            f"{where}: categories: not keypoints of skeleton {skeleton.name!r}: expected a category with keypoints "
            f"{list(names)}, found {printable('; '.join(others[:3]))} (COCO's are in person_keypoints_*.json, not "
            "instances_*.json)"
        )
    for entry in categories:
        if entry.id in found:
            continue
        if sorted(entry.keypoints or ()) == sorted(names):
            problem = "has the keypoints of the skeleton in another order; use one order"
        elif entry.name and entry.name in found.values():
            problem = "has the name of a category with other keypoints; give it another name, or the same keypoints"
        else:
            continue
        raise UserError(f"{where}: category {entry.id} ({printable(entry.name[:100])!r}) {problem}")
    return found


def keypoints_of(entries: list[Any], where: str) -> list[tuple[str, ...]]:
    """Return the keypoints of each category that has some. Raises UserError, which begins with `where`."""
    categories: list[_Category] = convert(entries, list[_Category], f"{where}: categories")
    return [tuple(entry.keypoints) for entry in categories if entry.keypoints]


def first_repeated(values: Iterable[Any]) -> Any:
    """Return the first value that occurs more than once; None if all are different."""
    return next((value for value, count in Counter(values).items() if count > 1), None)
