"""Several annotated data sets in one record set: the file of `build --sources`, and the skeleton over all of their joints.

A joint that a source does not label is unknown in its images, not absent: `Skeleton.unlabeled` names it, and the loss leaves out its
channels.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.datasets.categories import first_repeated
from pipeline.datasets.joints import labeled_by, renamed, union
from pipeline.datasets.selection import PersonFilter, Selection, read_annotations
from pipeline.errors import UserError
from pipeline.records.codec import MAX_SOURCE_IMAGE_ID, source_image_id
from pipeline.skeleton import Skeleton
from pipeline.skeletons import is_shipped, read_skeleton
from pipeline.storage.documents import convert, read_yaml

MAX_SOURCES, MAX_WEIGHT = 100, 1_000.0
SourceName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,49}$")]


@dataclass(frozen=True, kw_only=True)
class Source:
    """An annotated data set.

    skeleton: joints of the record set, with the keypoints of this data set's annotation file. keypoints: how the file calls them, if
    they were renamed.
    """

    annotations: Path
    images: Path
    skeleton: Skeleton
    name: str = ""
    weight: float = 1.0
    keypoints: tuple[str, ...] = ()


class _Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An entry of the file. Paths are relative to the file."""

    name: SourceName
    annotations: str
    images: str
    skeleton: str | None = None
    joints: dict[str, str] = {}
    weight: Annotated[float, Meta(gt=0, le=MAX_WEIGHT)] = 1.0


class _File(msgspec.Struct, forbid_unknown_fields=True):
    sources: Annotated[list[_Entry], Meta(min_length=1, max_length=MAX_SOURCES)]


def read_sources(path: Path, skeleton_file: Path | None) -> tuple[Skeleton, list[Source]]:
    """Read the file of `build --sources`; return the skeleton of the record set and the sources.

    skeleton_file: that of the record set; None for the union of those of the sources.

    Raises UserError naming the file, the source and the field.
    """
    where = f"source file {path}"
    entries = convert(read_yaml(path, "source file"), _File, where).sources
    if (repeated := first_repeated(entry.name for entry in entries)) is not None:
        raise UserError(f"{where}: name {repeated} occurs twice; give every source its own name")
    skeletons = [_own_skeleton(entry.skeleton, path.parent, f"{where}: {entry.name}") for entry in entries]
    own = [_renamed(skeleton, entry, f"{where}: {entry.name}") for skeleton, entry in zip(skeletons, entries, strict=True)]
    whole = union(own) if skeleton_file is None else read_skeleton(skeleton_file)
    sources = []
    for entry, skeleton, found in zip(entries, skeletons, own, strict=True):
        try:
            labeled = labeled_by(whole, found)
        except ValueError as error:
            raise UserError(f"{where}: {entry.name}: {error}") from error
        sources.append(
            Source(
                name=entry.name, annotations=path.parent / entry.annotations, images=path.parent / entry.images,
                skeleton=labeled, weight=entry.weight, keypoints=skeleton.source_joints,
            )
        )  # fmt: skip
    return whole, sources


def _own_skeleton(name: str | None, folder: Path, where: str) -> Skeleton:
    try:
        return read_skeleton(name if name is None or is_shipped(name) else folder / name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _renamed(skeleton: Skeleton, entry: _Entry, where: str) -> Skeleton:
    """Return the skeleton of a source with the joints renamed to those of the record set."""
    known = {*skeleton.joints, *skeleton.source_joints}
    if unknown := sorted(entry.joints.keys() - known):
        raise UserError(
            f"{where}: joints: {unknown[0]!r} is not a joint of skeleton {skeleton.name!r}: {', '.join(sorted(known))}"
        )

    try:
        return renamed(skeleton, entry.joints)
    except ValueError as error:
        raise UserError(f"{where}: joints: {error}") from error


def select(sources: Sequence[Source], person_filter: PersonFilter, seed: int) -> tuple[Selection, list[Selection]]:
    """Select the images and people of all sources; return them together and per source.

    Together, image ids and license ids are those of the record set: distinct for different sources. Raises UserError like
    `read_annotations`, and for a source without images.
    """
    parts = [
        read_annotations(
            source.annotations, skeleton=source.skeleton, person_filter=person_filter, seed=seed, keypoints=source.keypoints
        )
        for source in sources
    ]
    for source, part in zip(sources, parts, strict=True):
        if not part.samples:
            raise UserError(
                f"annotation file {source.annotations}: no image has a person with at least {person_filter.min_joints} labeled "
                f"joints and an area above {person_filter.min_area_px:g} square pixels; relax --min-joints or --min-area-px"
            )
    if len(parts) == 1:
        return parts[0], parts
    counts: Counter[str] = Counter()
    licenses: dict[int, str] = {}
    urls: dict[str, str] = {}
    samples = []
    for number, (source, part) in enumerate(zip(sources, parts, strict=True)):
        counts.update(part.counts)
        used = {id: len(licenses) + place for place, id in enumerate(part.licenses, start=1)}
        licenses |= {used[id]: name for id, name in part.licenses.items()}
        urls |= {str(used[int(id)]): url for id, url in part.origin["license_urls"].items()}
        for sample in part.samples:
            if sample.image_id > MAX_SOURCE_IMAGE_ID:
                raise UserError(
                    f"annotation file {source.annotations}: image id {sample.image_id}: must be at most {MAX_SOURCE_IMAGE_ID:,} to "
                    "be used with other sources; number the images again"
                )
            samples.append(
                replace(
                    sample, source=number, image_id=source_image_id(number, sample.image_id), license=used.get(sample.license, 0)
                )
            )
    origin = {"info": {}, "license_urls": urls}
    return Selection(samples=samples, counts=dict(sorted(counts.items())), licenses=licenses, origin=origin), parts
