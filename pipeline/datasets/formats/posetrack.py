"""PoseTrack 2018: one COCO-like JSON file per video, or all of them in a folder.

From the files themselves and poseval (https://github.com/leonid-pishchulin/poseval): `images` with file_name relative to the folder that
holds annotations/ and images/, vid_id, frame_id, is_labeled, and ignore_regions_x and _y, polygons of regions with people who are not
labeled; they become regions to ignore. Frames that are not labeled (`is_labeled` false) are left out. `annotations` with 17 keypoints, of
which the ears are never labeled; bbox_head, kept as head_box for PCKh; track_id, kept.

Flags: v = 1 labeled, 0 not. The files do not tell hidden from visible joints, so 1 -> 2.
"""

from pathlib import Path

from pipeline.datasets.formats.coco_like import ImageEntry, PersonEntry, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Person, Request, Source
from pipeline.errors import UserError


def read(request: Request, faults: Faults) -> Source:
    """Read a file, or all JSON files of a folder and its folders."""
    path = request.source
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no JSON files in this folder; give the folder annotations/train or annotations/val")
    request = Request(source=path, images=request.images or _root(files[0]), skeleton=request.skeleton)
    return read_coco(files, request, faults, keypoints_of=_keypoints, regions_of=_regions)


def _root(file: Path) -> Path:
    """Return the folder that holds `annotations`, to which the file names of the images are relative."""
    for folder in file.resolve().parents:
        if folder.name == "annotations":
            return folder.parent
    return file.parent


def _keypoints(entry: PersonEntry) -> list[float] | None:
    """Return the keypoints with v = 2 for labeled ones."""
    values = entry.keypoints
    return None if values is None else [2.0 * (value > 0) if place % 3 == 2 else value for place, value in enumerate(values)]


def _regions(entry: ImageEntry) -> list[Person]:
    regions = []
    for number, (xs, ys) in enumerate(zip(entry.ignore_regions_x or [], entry.ignore_regions_y or [], strict=False)):
        polygon = [value for point in zip(xs, ys, strict=False) for value in point]
        if len(polygon) >= 6:
            where = f"image {entry.id}: ignore_regions[{number}]"
            regions.append(Person(where=where, segmentation=[polygon], iscrowd=True))
    return regions
