"""The command `bench-plan`: time and memory that a real build needs to plan a data set of COCO's size and to start working."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from pipeline.commands.config import BenchPlanConfig
from pipeline.errors import UserError
from pipeline.records.manifest import SHARD_FILE, SHARDS
from pipeline.runtime.processes import start_process
from pipeline.runtime.progress import progress_bar
from pipeline.skeletons import COCO18
from pipeline.storage.files import TEMPORARY
from pipeline.wording import counted

IMAGE = "image.jpg"  # all names are links to this file, because only the annotations are measured
POLL_S = 0.1


def run(config: BenchPlanConfig) -> int:
    """Run `bench-plan`. Raises UserError if the build ends before it starts a shard."""
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as temporary:
        folder = Path(temporary)
        annotations = folder / "annotations.json"
        write_annotations(annotations, config.num_images, config.num_people)
        pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / IMAGE), cv2.GaussianBlur(pixels, (0, 0), 2))
        for number in range(1, config.num_images + 1):
            (folder / f"{number}.jpg").symlink_to(IMAGE)
        size_mb = annotations.stat().st_size / 1e6
        print(f"{counted(config.num_images, 'image')}, {counted(config.num_people, 'person')}, {size_mb:,.1f} MB of annotations")
        options = ["--annotations", str(annotations), "--images", str(folder), "--out", str(folder / "records")]
        command = [sys.executable, "-m", "pipeline", "build", *options, "--variants", "4", "--jobs", str(config.jobs)]
        with open(folder / "messages", "w+", encoding="utf-8") as messages:
            process = start_process(command, stdout=subprocess.DEVNULL, stderr=messages)
            try:
                planning_s, parent, worker = _watch(process, folder / "records" / SHARDS, config.seconds)
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait()
                messages.seek(0)
                sys.stderr.writelines(line for line in messages if "error:" in line)
    print(f"planning: {planning_s:.1f} s from the start of the command to the first shard")
    print(f"peak resident memory: {parent / 1e9:.2f} GB in the main process, {worker / 1e9:.2f} GB in the largest worker")
    return 0


def _watch(process: subprocess.Popen, shards: Path, seconds: float) -> tuple[float, int, int]:
    """Return the seconds until the first shard is started, and the peak resident bytes of the process and of its largest child."""
    start_s, parent, worker = time.monotonic(), 0, 0
    planned_s: float | None = None
    with progress_bar(desc="watching the build", unit="poll") as progress:
        while planned_s is None or time.monotonic() - start_s < planned_s + seconds:
            if process.poll() is not None:
                break
            try:
                main = psutil.Process(process.pid)
                parent = max(parent, main.memory_info().rss)
                worker = max([worker, *(child.memory_info().rss for child in main.children(recursive=True))])
            except psutil.NoSuchProcess:
                continue
            if planned_s is None and any(shards.glob(f"{TEMPORARY}*/{SHARD_FILE}*")):
                planned_s = time.monotonic() - start_s
            time.sleep(POLL_S)
            progress.update()
    if planned_s is None:
        raise UserError(f"the build exited with code {process.returncode} before it started a shard; see its messages above")
    return planned_s, parent, worker


def write_annotations(path: Path, num_images: int, num_people: int) -> None:
    """Write a COCO keypoint file of random people: polygons of 12 to 40 corners, as in COCO, and one crowd per hundred people.

    Writes entry by entry, so that this process needs little memory.
    """
    rng = np.random.default_rng(0)
    people_images = np.sort(rng.integers(0, num_images, num_people))
    joints = COCO18.source_joints
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"licenses": [], "images": [\n')
        for image in range(num_images):
            entry = {"id": image + 1, "file_name": f"{image + 1}.jpg", "width": 640, "height": 480, "license": 1 + image % 8}
            file.write(json.dumps(entry) + (",\n" if image < num_images - 1 else "\n"))
        category = {"id": 1, "name": "person", "supercategory": "person", "keypoints": list(joints), "skeleton": []}
        file.write(f'], "categories": [{json.dumps(category)}], "annotations": [\n')
        for number, image in enumerate(progress_bar(people_images, desc="writing annotations", unit="person")):
            entry = _person(rng, number + 1, int(image) + 1, len(joints))
            file.write(json.dumps(entry) + (",\n" if number < num_people - 1 else "\n"))
        file.write("]}\n")


def _person(rng: np.random.Generator, number: int, image_id: int, num_joints: int) -> dict[str, Any]:
    """Return a random annotation with id `number`."""
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
