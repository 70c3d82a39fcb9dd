"""Small annotated image sets for the evaluator tests."""

import json

import cv2
import numpy as np

from evaluator.ceiling.oracle import perfect_fields
from evaluator.inference.sizes import input_size
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.file_skeleton import view_of_file
from pipeline.datasets.selection import true_keypoints
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import COCO18

# A standing person 250 px tall, as offsets from the nose.
STANDING = {
    "nose": (0, 0),
    "right_eye": (-8, -8), "left_eye": (8, -8), "right_ear": (-18, -4), "left_ear": (18, -4),
    "right_shoulder": (-30, 30), "right_elbow": (-45, 75), "right_wrist": (-50, 115),
    "left_shoulder": (30, 30), "left_elbow": (45, 75), "left_wrist": (50, 115),
    "right_hip": (-20, 115), "right_knee": (-22, 175), "right_ankle": (-24, 235),
    "left_hip": (20, 115), "left_knee": (22, 175), "left_ankle": (24, 235),
}  # fmt: skip


def person(x, y, scale=1.0, without=()):
    """Return the source keypoints of a standing person with the nose at x, y: float (S, 3)."""
    points = np.zeros((len(COCO18.source_joints), 3))
    for place, joint in enumerate(COCO18.source_joints):
        if joint not in without:
            dx, dy = STANDING[joint]
            points[place] = x + scale * dx, y + scale * dy, 2
    return points


def write_annotations(path, images, people, crowds=()):
    """Write a COCO file. images: {id: (file_name, width, height)}; people, crowds: pairs of image id and keypoints. Returns the path."""
    entries = [(image_id, points, 0) for image_id, points in people] + [(image_id, points, 1) for image_id, points in crowds]
    annotations = []
    for number, (image_id, points, crowd) in enumerate(entries):
        seen = points[points[:, 2] > 0, :2]
        low, size = (seen.min(axis=0), np.ptp(seen, axis=0) + 1) if len(seen) else (np.zeros(2), np.ones(2))
        annotations.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": 7,
                "iscrowd": crowd,
                "keypoints": points.ravel().tolist(),
                "num_keypoints": len(seen),
                "area": float(np.prod(size)),
                "bbox": [*low.tolist(), *size.tolist()],
            }
        )
    document = {
        "images": [{"id": i, "file_name": name, "width": w, "height": h} for i, (name, w, h) in images.items()],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "person", "keypoints": list(COCO18.source_joints)}],
    }
    path.write_text(json.dumps(document))
    return path


def write_set(folder, names=("a.png", "b.png", "c.png")):
    """Write three gray images, the last without people, and annotations. Returns the annotation file and the image folder."""
    images = {10: (names[0], 320, 300), 20: (names[1], 500, 400), 30: (names[2], 300, 333)}
    people = [(10, person(100, 40)), (10, person(240, 50, 0.8)), (20, person(200, 90, 1.2)), (20, person(380, 200, 0.4))]
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    for level, (name, width, height) in enumerate(images.values(), start=1):
        cv2.imwrite(str(pictures / name), np.full((height, width, 3), 40 * level, np.uint8))
    return write_annotations(folder / "annotations.json", images, people), pictures


class PerfectNetwork:
    """Recognizes the images of `write_set` by their gray level and returns the targets of the ground truth."""

    skeleton, insize, stride_px = COCO18, 368, 8

    def __init__(self, annotations, skeleton=COCO18):
        self.skeleton = skeleton
        document = CocoFile(annotations, skeleton, view=view_of_file)
        self.fields_by_gray = {}
        for level, image in enumerate(document.images, start=1):
            keypoints = true_keypoints(document.annotations.get(image.id, []), document.skeleton)
            fields = perfect_fields(keypoints, image.size_wh, skeleton, TargetConfig())
            self.fields_by_gray[40 * level] = fields

    def fields(self, images):
        assert images.dtype == np.uint8 and images.shape[1] % 8 == images.shape[2] % 8 == 0
        grid = images.shape[1] // 8, images.shape[2] // 8
        known = [self.fields_by_gray[int(image[0, 0, 0])] for image in images]
        return tuple(np.stack([_padded(getattr(fields, name), grid) for fields in known]) for name in ("heatmaps", "pafs"))


def _padded(fields, grid):
    """Extend fields (C, h, w) to a larger grid, with wrong values in the padding."""
    padded = np.ones((len(fields), *grid), fields.dtype)
    padded[:, : fields.shape[1], : fields.shape[2]] = fields
    return padded


def stored(path, annotations, **changes):
    """Write the fields of PerfectNetwork to an .npz file. changes: arrays to replace, or None to omit them. Returns the path."""
    network = PerfectNetwork(annotations)
    fields = dict(zip((10, 20, 30), network.fields_by_gray.values(), strict=True))
    arrays = {"image_id": np.array(list(fields)), "orig_wh": np.array([f.size_wh for f in fields.values()])}
    arrays["input_wh"] = np.array([input_size(*f.size_wh, network.insize) for f in fields.values()])
    for image_id, f in fields.items():
        arrays |= {f"hm_{image_id}": f.heatmaps.astype(np.float16), f"paf_{image_id}": f.pafs.astype(np.float16)}
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


SIGMAS = np.array(COCO18.sigmas)


def shift_to(similarity, points, area):
    """Move each labeled joint up until its similarity has that value; this brings it no nearer to the mirrored joint."""
    shifted = points.copy()
    shifted[:, 1] -= np.sqrt(-2 * area * np.log(similarity)) * 2 * SIGMAS * (points[:, 2] > 0)
    return shifted
