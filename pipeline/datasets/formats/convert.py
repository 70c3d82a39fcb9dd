"""The command `convert`: read a source, place its images, write the COCO keypoint file. The writer of all formats."""

import importlib
import json
import os
import posixpath
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.datasets.boxes import DERIVED, Box, box_area, joint_box, polygon_box
from pipeline.datasets.coco_entries import MAX_SIDE_PX
from pipeline.datasets.formats.config import ConvertConfig
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.held_out import split
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.datasets.formats.registry import FORMATS, Format
from pipeline.datasets.formats.unlabeled import unlabeled_regions
from pipeline.datasets.segmentation import MAX_COORDINATE_PX, usable_segmentation
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, image_size
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton, skeleton_text
from pipeline.storage.files import place_file
from pipeline.storage.folders import new_folder, require_usable
from pipeline.wording import counted, printable

ANNOTATIONS, HELD_OUT, IMAGES, SKELETON, FAULTS = "annotations.json", "held_out.json", "images", "skeleton.yaml", "faults.tsv"
PERSON = 1  # id of the category
EDGE_PX = 1.0  # how far outside a joint may be: some sources count pixels from 1, or from their edges


def run(config: ConvertConfig) -> int:
    """Run the command. Raises UserError for a bad source, too many faults, or an output folder that cannot be used."""
    require_usable(config.out)
    chosen = FORMATS[config.source_format]
    skeleton = read_skeleton(config.skeleton or chosen.skeleton)
    if config.images is not None and not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder; give the folder of the source's images")
    faults = Faults()
    request = Request(source=config.source, images=config.images, skeleton=skeleton)
    source: Source = importlib.import_module(f"pipeline.datasets.formats.{chosen.module}").read(request, faults)
    totals = {
        "image": len(source.images) + faults.dropped("image"),
        "annotation": sum(len(image.people) for image in source.images) + faults.dropped("annotation"),
    }
    if not source.images:
        raise UserError(f"{config.source}: has no images; give {chosen.reads}")
    with new_folder(config.out, last=ANNOTATIONS) as folder:
        images = _place_images(source, folder / IMAGES, config, faults)
        if config.ignore_unlabeled and not source.labels_everyone:
            for image in images:
                image.people += unlabeled_regions(image)
        document = _document(images, source, chosen, skeleton, faults)
        faults.require_few(totals, config.max_faulty, str(config.source))
        if not any(annotation["num_keypoints"] for annotation in document["annotations"]):
            raise UserError(f"{config.source}: no person has a labeled keypoint; give {chosen.reads}")
        (folder / SKELETON).write_text(skeleton_text(skeleton))
        (folder / FAULTS).write_text(faults.table())
        training, held_out = split(document, config.held_out)
        if config.held_out:
            (folder / HELD_OUT).write_text(json.dumps(held_out))
        (folder / ANNOTATIONS).write_text(json.dumps(training))
    print("\n".join(map(printable, _summary(config, document, source, skeleton, faults))))
    if config.held_out:
        print(f"held out for evaluation: {counted(len(held_out['images']), 'image')} in {config.out / HELD_OUT}")
    return 0


def _place_images(source: Source, folder: Path, config: ConvertConfig, faults: Faults) -> list[SourceImage]:
    """Link or copy the images to the output; return those that can be used, with their size."""
    placed: list[SourceImage] = []
    names: set[str] = set()
    folder.mkdir()
    for image in progress_bar(source.images, desc="images", unit="image"):
        name = posixpath.normpath(image.name.replace("\\", "/"))
        if name in names:
            faults.add("image listed twice", image.name)
        elif PurePosixPath(name).is_absolute() or name.split("/")[0] in ("..", "."):
            faults.add("image outside the image folder", image.name)
        elif not os.path.exists(image.file):  # unlike Path.exists, also false for names that no file can have
            faults.add("image missing", str(image.file))
        elif size := _size(image, faults):
            place_file(image.file, folder / name, config.link)
            image.name, image.size = name, size
            names.add(name)
            placed.append(image)
    return placed


def _size(image: SourceImage, faults: Faults) -> tuple[int, int] | None:
    """Return width and height of an image file; None, with a fault, if it cannot be used."""
    try:
        size = image_size(image.file)
    except UnreadableImage as error:
        faults.add("image unreadable", str(image.file), str(error))
        return None
    if image.size not in (None, size):
        found = f"{size[0]} x {size[1]} pixels, annotated as {image.size[0]} x {image.size[1]}" if image.size else ""
        turned = "; the annotation tool may have turned it by its EXIF orientation" if image.size == size[::-1] else ""
        faults.add("image of another size than annotated", str(image.file), found + turned)
        return None
    return size


def _document(images: list[SourceImage], source: Source, chosen: Format, skeleton: Skeleton, faults: Faults) -> dict[str, Any]:
    own = bool(source.licenses)
    licenses = list(source.licenses) or [{"id": 1, "name": chosen.license[0], "url": chosen.license[1]}] * bool(chosen.license[0])
    numbered = all(image.id is not None for image in images) and len({image.id for image in images}) == len(images)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    derived: Counter[str] = Counter()
    for number, image in enumerate(images, 1):
        id, size = image.id if numbered else number, image.size or (0, 0)
        license = image.license if own else 1 if licenses else None
        entry: dict[str, Any] = {"id": id, "file_name": image.name, "width": size[0], "height": size[1], **image.more}
        entries.append(entry if license is None else entry | {"license": license})
        for person in image.people:
            annotation = _annotation(person, size, skeleton, faults, derived)
            if annotation is not None:
                annotations.append({"id": len(annotations) + 1, "image_id": id, "category_id": PERSON, **annotation})
    joints = skeleton.source_joints
    limbs = [[joints.index(a) + 1, joints.index(b) + 1] for a, b in skeleton.limbs if {a, b} <= set(joints)]
    category = {"id": PERSON, "name": "person", "supercategory": "person", "keypoints": list(joints), "skeleton": limbs}
    info = {"description": chosen.description, "url": chosen.url, "version": "1.0", "year": chosen.year}
    info |= {"contributor": chosen.contributor, "citation": chosen.citation}
    notes = [*source.notes, *(f"{counted(count, 'annotation')} {DERIVED[name]}" for name, count in derived.items() if count)]
    if not source.labels_everyone:
        ignored = any(person.iscrowd for image in images for person in image.people)
        notes.append(f"what is far from labeled people is {'ignored' if ignored else 'background'}")
    info |= {"note": "; ".join(["converted by openpose-mindspore", *notes])}
    return {
        **{"info": {name: value for name, value in info.items() if value}, "licenses": licenses, "images": entries},
        **{"annotations": annotations, "categories": [category]},
    }


def _annotation(
    person: Person, size: tuple[int, int], skeleton: Skeleton, faults: Faults, derived: Counter[str]
) -> dict[str, Any] | None:
    """Return the COCO annotation without its ids; None, with a fault, if the person cannot be used."""
    points = np.zeros((len(skeleton.source_joints), 3)) if person.keypoints is None else person.keypoints.astype(np.float64)
    values = [*points.ravel(), *(person.box or ()), person.area or 0]
    if not np.isfinite(values).all() or np.abs(values[:-1]).max() > MAX_COORDINATE_PX or not 0 <= values[-1] <= MAX_SIDE_PX**2:
        faults.add("not a finite number", person.where, "or too large")
        return None
    points = _inside(points, size, skeleton, person.where, faults)
    segmentation = usable_segmentation(person.segmentation, size[::-1])
    if person.segmentation and not segmentation:
        faults.add("segmentation unusable, now the box", person.where)
    polygons = segmentation if isinstance(segmentation, list) else []
    given = person.box and _cut(person.box, size, person.where, faults)
    box = given or joint_box(points) or polygon_box(polygons)
    if box is None:
        faults.add("neither keypoints nor a box", person.where)
        return None
    derived["bbox"] += given is None and not person.iscrowd
    derived["area"] += person.area is None and not person.iscrowd
    area = box_area(box) if person.area is None else person.area
    annotation: dict[str, Any] = {"keypoints": [round(value, 3) for value in points.ravel().tolist()]}
    annotation |= {"num_keypoints": int((points[:, 2] > 0).sum()), "iscrowd": int(person.iscrowd)}
    annotation |= {"bbox": [round(value, 3) for value in box], "area": round(area, 3)}
    return annotation | ({"segmentation": segmentation} if segmentation else {}) | person.more


def _inside(points: np.ndarray, size: tuple[int, int], skeleton: Skeleton, where: str, faults: Faults) -> np.ndarray:
    """Return the keypoints with those outside the image unlabeled, as in COCO."""
    outside = (points[:, 2] > 0) & ((points[:, :2] < -EDGE_PX) | (points[:, :2] > np.array(size) - 1 + EDGE_PX)).any(axis=1)
    for joint in np.flatnonzero(outside):
        x, y = points[joint, :2]
        faults.add("joint outside the image, now unlabeled", where, f"{skeleton.source_joints[joint]} at {x:.1f}, {y:.1f}")
    return points * ((points[:, 2:] > 0) & ~outside[:, None])


def _cut(box: Box, size: tuple[int, int], where: str, faults: Faults) -> Box | None:
    """Return the part of a box that is inside the image; None if there is none."""
    x, y, width, height = box
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, size[0]), min(y + height, size[1])
    if right <= left or bottom <= top:
        return None
    if min(x, y) < -EDGE_PX or x + width > size[0] + EDGE_PX or y + height > size[1] + EDGE_PX:
        faults.add("box reaches outside the image, now cut", where)
    return left, top, right - left, bottom - top


def _summary(config: ConvertConfig, document: dict[str, Any], source: Source, skeleton: Skeleton, faults: Faults) -> list[str]:
    annotations = document["annotations"]
    people = [annotation for annotation in annotations if not annotation["iscrowd"]]
    labeled = sum(annotation["num_keypoints"] > 0 for annotation in people)
    counts = (
        f"{counted(len(document['images']), 'image')} of {len(source.images):,}",
        f"{counted(labeled, 'person')} with keypoints",
        f"{len(people) - labeled:,} without",
        f"{counted(len(annotations) - len(people), 'region')} to ignore",
    )
    command = f"python -m pipeline build --annotations {config.out / ANNOTATIONS} --images {config.out / IMAGES}"
    needed = "" if skeleton.name == "coco18" else f" --skeleton {config.out / SKELETON}"
    return [
        *faults.lines(),
        *([f"  note: {document['info']['note']}"] if "note" in document["info"] else []),
        f"{config.out}: {', '.join(counts)}, {counted(len(faults.found), 'fault')}, all in {FAULTS}",
        f"next: {command}{needed} --out records",
    ]
