"""The command `bench-plan`: time and memory of a real build while it plans a data set of the size of COCO 2017 and begins."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import psutil

from pipeline.errors import UserError
from pipeline.progress import progress_bar
from pipeline.records.manifest import SHARDS
from pipeline.skeletons import COCO18

IMAGE = "image.jpg"  # all entries name this one file: the annotations are what is measured
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class BenchPlanConfig:
    """Generate annotations of that size, begin to build, and say how long planning took and how much memory the processes held.

    The defaults are the size of COCO 2017's keypoint annotations: 118,000 images, 262,000 people.

    Example: python -m pipeline bench-plan
    """

    num_images: int = 118_000
    """Images of the generated annotation file."""
    num_people: int = 262_000
    """People of the generated annotation file."""
    jobs: int = 2
    """Workers of the build."""
    seconds: float = 20.0
    """How long to watch the workers at work."""

    def __post_init__(self) -> None:
        for name in ("num_images", "num_people", "jobs", "seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")


def run(config: BenchPlanConfig) -> int:
    """The command `bench-plan`."""
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as temporary:
        folder = Path(temporary)
        annotations = folder / "annotations.json"
        write_annotations(annotations, config.num_images, config.num_people)
        pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / IMAGE), cv2.GaussianBlur(pixels, (0, 0), 2))
        print(
            f"{config.num_images:,} images, {config.num_people:,} people, {annotations.stat().st_size / 1e6:,.0f} MB of annotations"
        )
        words = ["--annotations", str(annotations), "--images", str(folder), "--out", str(folder / "set")]
        command = [sys.executable, "-m", "pipeline", "build", *words, "--variants", "4", "--jobs", str(config.jobs)]
        with open(folder / "messages", "w+") as messages:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages)
            try:
                planning_s, parent, worker = _watch(process, folder / "set" / SHARDS, config.seconds)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()
                messages.seek(0)
                sys.stderr.writelines(line for line in messages if "error:" in line)
    print(f"planning took {planning_s:.1f} s, with the start of the processes and of the first rows")
    print(f"resident memory, most: parent {parent / 1e9:.2f} GB, a worker {worker / 1e9:.2f} GB")
    return 0


def _watch(process: subprocess.Popen, shards: Path, seconds: float) -> tuple[float, int, int]:
    """Seconds until the first shard is begun; most resident bytes of the parent and of any of its children."""
    start, began, parent, worker = time.monotonic(), None, 0, 0
    with progress_bar(desc="watching the build", unit=" looks") as progress:
        while began is None or time.monotonic() - began < seconds:
            if process.poll() is not None:
                if began is None:
                    raise UserError(f"the build ended with exit code {process.returncode} before it began a shard")
                break
            try:
                whole = psutil.Process(process.pid)
                parent = max(parent, whole.memory_info().rss)
                worker = max([worker, *(child.memory_info().rss for child in whole.children(recursive=True))])
            except psutil.NoSuchProcess:
                continue
            if began is None and any(shards.glob(".writing-*/part.mindrecord*")):
                began = time.monotonic()
            time.sleep(POLL_S)
            progress.update()
    return began - start, parent, worker


def write_annotations(path: Path, num_images: int, num_people: int) -> None:
    """A COCO keypoint file of random people: polygons of 12 to 40 corners, as in COCO, one crowd in a hundred.

    Written piece by piece, so that it needs no memory itself.
    """
    rng = np.random.default_rng(0)
    people_images = np.sort(rng.integers(0, num_images, num_people))
    joints = COCO18.source_joints
    with open(path, "w") as file:
        file.write('{"licenses": [], "images": [\n')
        for image in range(num_images):
            entry = {"id": image + 1, "file_name": IMAGE, "width": 640, "height": 480, "license": 1 + image % 8}
            file.write(json.dumps(entry) + (",\n" if image < num_images - 1 else "\n"))
        category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(joints), "skeleton": []}
        file.write(f'], "categories": [{json.dumps(category)}], "annotations": [\n')
        for number, image in enumerate(progress_bar(people_images, desc="writing annotations", unit="person")):
            entry = _person(rng, number + 1, int(image) + 1, len(joints))
            file.write(json.dumps(entry) + (",\n" if number < num_people - 1 else "\n"))
        file.write("]}\n")


def _person(rng: np.random.Generator, number: int, image_id: int, num_joints: int) -> dict:
    center, size = rng.uniform((40, 40), (600, 440)), rng.uniform(20, 180)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(12, 41)))
    corners = center + size / 2 * rng.uniform(0.5, 1, (len(angles), 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    corners = corners.clip(0, (639, 479)).round(2)
    low, high = corners.min(axis=0), corners.max(axis=0)
    points = np.concatenate([rng.uniform(low, high, (num_joints, 2)).round(), rng.integers(0, 3, (num_joints, 1))], axis=-1)
    points[points[:, 2] == 0] = 0
    crowd = int(number % 100 == 0)
    if crowd:
        points[:] = 0
        first = min(int(corners[0, 0]), 600) * 480
        segmentation = {"size": [480, 640], "counts": [first, 4800, 480 * 640 - first - 4800]}
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": crowd,
        "area": float(np.prod(high - low) * 0.6),
        "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
        "num_keypoints": int((points[:, 2] > 0).sum()),
        "keypoints": points.astype(int).ravel().tolist(),
        "segmentation": segmentation if crowd else [corners.ravel().tolist()],
    }
