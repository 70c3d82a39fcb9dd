"""The JSON form of MPII: a list of people with image, joints (16 x, y), joints_vis, center and scale. See `mpii`.

The file holds only people with labeled joints, so `convert` turns the rest of each image into regions to ignore.
"""

import msgspec
import numpy as np

from pipeline.datasets.formats.coco_like import Number, Numbers, read_entries
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage


class _Entry(msgspec.Struct):
    image: str
    joints: list[Numbers] | None = None
    joints_vis: list[Number] | None = None


def read(request: Request, faults: Faults) -> Source:
    """Read the JSON form. Entries without joints, those of the test set, are left out."""
    entries: list[_Entry] = read_entries(request.source, _Entry)
    folder = request.image_folder(request.source.parent)
    images: dict[str, SourceImage] = {}
    for number, entry in enumerate(entries):
        if entry.joints is None or entry.joints_vis is None:
            continue
        image = images.setdefault(entry.image, SourceImage(name=entry.image, file=folder / entry.image))
        shape = {len(entry.joints), len(entry.joints_vis)}, {len(joint) for joint in entry.joints}
        if shape != ({request.num_joints}, {2}):
            faults.add("wrong number of joints", f"entry {number} ({entry.image})", f"{len(entry.joints)} joints")
            continue
        visible = np.array(entry.joints_vis) > 0
        keypoints = np.column_stack([np.array(entry.joints) - 1, 2.0 * visible])
        image.people.append(Person(where=f"entry {number} ({entry.image})", keypoints=keypoints))
    notes = ("people without labeled joints are not in the file",)
    return Source(images=list(images.values()), notes=notes, labels_everyone=False)
