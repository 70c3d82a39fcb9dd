"""How long does a record set of COCO's size take, and how much memory and disk space? Build, kill, continue, verify, stream.

    python tests/studies/coco_size_study.py --annotations coco.json --images photos --out study

Makes an annotation file with as many images and people as COCO train2017 from a small set: images are hard links to its photographs,
and people are repeated, every second time mirrored to the other side of the image. Builds records of it with SIGKILL at half of the
shards, continues, verifies, and streams an epoch, each in a process of its own. About a quarter of an hour and 10 GB, from a
quarter of the images.
"""

import argparse
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import psutil

from trainer.data.stream import Stream

NUM_IMAGES, NUM_IMAGES_WITH_PEOPLE = 118_287, 64_115  # of COCO train2017
NUM_SHARDS = 64  # of each variant
POLL_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, help="COCO keypoint annotations of a few photographs")
    parser.add_argument("--images", type=Path, help="folder with the photographs")
    parser.add_argument("--out", type=Path, help="output folder; must be on the file system of the photographs")
    parser.add_argument("--num-images", type=int, default=NUM_IMAGES)
    parser.add_argument("--num-annotations", type=int, default=350_000)
    parser.add_argument("--variants", type=int, default=4)
    parser.add_argument("--jobs", type=int, default=-1)
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)  # what the last process runs
    options = parser.parse_args()
    if options.stream:
        stream(options.stream)
        return
    if None in (options.annotations, options.images, options.out):
        parser.error("--annotations, --images and --out are required")
    annotations, images, records = (options.out / name for name in ("annotations.json", "images", "records"))
    if not annotations.exists():
        make_set(options, annotations, images)
    print(f"{'':<20}{'minutes':>9}{'CPU minutes':>13}{'parent GB':>11}{'worker GB':>11}", flush=True)
    python = [sys.executable, "-m", "pipeline"]
    build = [*python, "build", "--annotations", str(annotations), "--images", str(images), "--out", str(records)]
    build += ["--variants", str(options.variants), "--jobs", str(options.jobs)]
    build += ["--shards", str(NUM_SHARDS)]
    if not (records / "manifest.json").exists():
        measure("build, killed", build, options.out, kill_at=(records / "shards", options.variants * NUM_SHARDS // 2))
        measure("build, continued", build, options.out)
    measure("verify", [*python, "verify", str(records)], options.out)
    sizes = [file.stat().st_size for file in records.rglob("*") if file.is_file()]
    print(f"{len(sizes)} files, {sum(sizes) / 1e9:.2f} GB", flush=True)
    subprocess.run([sys.executable, __file__, "--stream", str(records)], check=True)  # a new process, for its memory


def make_set(options: argparse.Namespace, path: Path, images: Path) -> None:
    """Write the annotation file and the hard links."""
    document = json.loads(options.annotations.read_text())
    people = defaultdict(list)
    for entry in document["annotations"]:
        people[entry["image_id"]].append(entry)
    of_kind = {
        kind: itertools.cycle([image for image in document["images"] if (image["id"] in people) == kind])
        for kind in (True, False)
    }
    shutil.rmtree(images, ignore_errors=True)  # of a study that was stopped here
    images.mkdir(parents=True)
    num_with_people = round(options.num_images * NUM_IMAGES_WITH_PEOPLE / NUM_IMAGES)
    new_images, new_people = [], []
    for number in range(options.num_images):
        image = next(of_kind[number < num_with_people])
        name = f"{number:012d}.jpg"
        os.link(options.images / image["file_name"], images / name)
        new_images.append({**image, "id": number, "file_name": name})
        if number < num_with_people:
            left = (options.num_annotations - len(new_people)) / (num_with_people - number)
            each = people[image["id"]]
            mirrored = [mirror(entry, image["width"]) for entry in each if not entry["iscrowd"]]
            for entry in [*each, *mirrored] if left > len(each) else each:
                new_people.append({**entry, "id": len(new_people) + 1, "image_id": number})
    path.write_text(json.dumps({**document, "images": new_images, "annotations": new_people}))
    print(f"{len(new_images):,} images, {len(new_people):,} annotations, {path.stat().st_size / 1e6:.0f} MB of JSON", flush=True)


def mirror(entry: dict, width: int) -> dict:
    """Return a person at the mirrored place. Left and right joints keep their names: nobody learns from this set."""
    x, y, w, h = entry["bbox"]
    points, polygons = entry["keypoints"], entry["segmentation"]
    return {
        **entry,
        "bbox": [width - x - w, y, w, h],
        "keypoints": [width - 1 - v if place % 3 == 0 and points[place + 2] else v for place, v in enumerate(points)],
        "segmentation": [[width - v if place % 2 == 0 else v for place, v in enumerate(polygon)] for polygon in polygons],
    }


def measure(name: str, command: list[str], out: Path, kill_at: tuple[Path, int] | None = None) -> None:
    """Run a command, and print a row of the table. kill_at: folder of shards, and at how many of them to kill the command."""
    start_s = time.monotonic()
    with open(out / "study.log", "a") as log:
        process = psutil.Popen(command, stdout=log, stderr=log)
        watched = Watched(process)
        while process.poll() is None:
            watched.look()
            if kill_at and len(list(kill_at[0].glob("v*-s*"))) >= kill_at[1]:
                process.kill()
            time.sleep(POLL_S)
    if process.returncode and not (kill_at and process.returncode == -signal.SIGKILL):
        sys.exit(f"{shlex.join(command)} ended with exit code {process.returncode}; see {out / 'study.log'}")
    minutes = (time.monotonic() - start_s) / 60
    print(
        f"{name:<20}{minutes:>9.1f}{watched.cpu_minutes:>13.1f}{watched.parent_gb:>11.2f}{watched.worker_gb:>11.2f}", flush=True
    )


class Watched:
    """CPU time of a process and its children, and the peak resident memory of it and of its largest child, in GB."""

    def __init__(self, process: psutil.Popen) -> None:
        self._process, self._cpu_s = process, defaultdict[psutil.Process, float](float)
        self.parent_gb = self.worker_gb = 0.0

    def look(self) -> None:
        """Note what the processes use now."""
        with suppress(psutil.NoSuchProcess):
            for process in (self._process, *self._process.children(recursive=True)):
                gigabytes, times = process.memory_info().rss / 1e9, process.cpu_times()
                self._cpu_s[process] = times.user + times.system
                if process.pid == self._process.pid:
                    self.parent_gb = max(self.parent_gb, gigabytes)
                else:
                    self.worker_gb = max(self.worker_gb, gigabytes)

    @property
    def cpu_minutes(self) -> float:
        """CPU time of all processes so far."""
        return sum(self._cpu_s.values()) / 60


def stream(records: Path) -> None:
    """Stream an epoch in batches of 16, after the first batch, and print the rate."""
    start_s = time.perf_counter()
    data = Stream(records, batch_size=16, seed=0)
    batches = data.batches()
    count, first_s = next(batches).num_samples, time.perf_counter() - start_s
    start_s = time.perf_counter()
    for batch in itertools.islice(batches, data.steps_per_epoch - 1):
        count += batch.num_samples
    rate = count / (time.perf_counter() - start_s)
    batches.close()
    memory = psutil.Process().memory_info().rss / 1e6
    print(f"epoch of {count:,} samples: first batch after {first_s:.2f} s, then {rate:,.0f} samples/s; {memory:.0f} MB in memory")


if __name__ == "__main__":
    main()
