"""The command `bench-stream`: measure how fast samples reach the device, streamed from records and augmented on the fly."""

import contextlib
import io
import itertools
import json
import shutil
import tempfile
import time
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from pipeline.build.build import run as build
from pipeline.build.config import BuildConfig
from pipeline.build.worker import make_crop
from pipeline.datasets.selection import PersonFilter, read_annotations
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.records.contents import index_path
from pipeline.samples import masks
from pipeline.samples.targets import TargetConfig, render_targets
from pipeline.skeletons import read_skeleton
from pipeline.storage.documents import read_json
from pipeline.storage.files import require_folder
from pipeline.tolerance import Tolerance
from trainer.commands.config import BenchStreamConfig
from trainer.data.config import JitterConfig
from trainer.data.stream import Batch, Stream
from trainer.loop.timeline import Timeline
from trainer.run.meter import Meter

# Samples per second that devices consume: the model zoo's OpenPose on one Ascend 910, and a device three times as fast.
DEVICE_RATES = (35, 100)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A measurement: samples, wall-clock and CPU seconds, and bytes per sample on disk."""

    num_samples: int
    wall_s: float
    cpu_s: float
    sample_bytes: float

    @property
    def per_core(self) -> float:
        """Samples per second of CPU time."""
        return self.num_samples / self.cpu_s


def run(config: BenchStreamConfig) -> int:
    """Run the command `bench-stream`. Raises UserError for bad input."""
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as temporary:
        folder = Path(temporary)
        require_folder(config.images, "image folder")
        annotations = _first_images(config, folder / "annotations.json", folder / "images")
        rates, simulated = {}, []
        for codec in ("jpeg", "raw"):
            setting = BuildConfig(
                annotations=annotations,
                images=folder / "images",
                out=folder / codec,
                skeleton=config.skeleton,
                image_codec=codec,
                targets=TargetConfig(insize=config.insize),
                tolerance=Tolerance(max_unreadable=1),
            )
            with contextlib.redirect_stdout(io.StringIO()):
                build(setting)
            rates[f"{codec} records"] = _measure_stream(config, folder / codec)
            simulated += [_simulate_device(config, folder / codec, codec, device_ms) for device_ms in config.device_ms]
            shutil.rmtree(folder / codec)
        rates["on the fly"] = _measure_on_the_fly(config, setting)
    print("\n".join(table(rates)))
    if simulated:
        print(f"\n{'':<14}{'device ms':>11}{'max img/s':>13}{'got img/s':>11}{'data wait':>11}{'host':>8}{'cores busy':>12}")
        print("\n".join(simulated))
    return 0


def table(rates: dict[str, Rate]) -> list[str]:
    """Return a title and one line per measurement. The ratio compares each with the last one."""
    baseline = list(rates.values())[-1].per_core
    devices = "".join(f"{f'of {rate} img/s':>15}" for rate in DEVICE_RATES)
    lines = [f"{'':<14}{'samples/s':>11}{'per core':>11}{'ratio':>8}{'KB/sample':>11}   devices per core:     {devices}"]
    for name, rate in rates.items():
        fed = "".join(f"{rate.per_core / device:>15.1f}" for device in DEVICE_RATES)
        lines.append(
            f"{name:<14}{rate.num_samples / rate.wall_s:>11,.0f}{rate.per_core:>11,.0f}{rate.per_core / baseline:>8.1f}"
            f"{rate.sample_bytes / 1e3:>11.1f}{'':>25}{fed}"
        )
    return lines


def _first_images(config: BenchStreamConfig, path: Path, images_folder: Path) -> Path:
    """Write an annotation file of the first images with a target person, repeated under new ids and names if there are too few.

    The names are links in `images_folder`, which is created.
    """
    selection = read_annotations(config.annotations, skeleton=read_skeleton(config.skeleton), person_filter=PersonFilter())
    if not selection.samples:
        raise UserError(
            f"annotation file {config.annotations}: no image has a target person; use a file with keypoint annotations"
        )
    document = read_json(config.annotations, "annotation file")
    images = {image["id"]: image for image in document["images"]}
    people = defaultdict(list)
    for entry in document["annotations"]:
        people[entry["image_id"]].append(entry)
    document["images"], document["annotations"] = [], []
    images_folder.mkdir()
    for new_id, sample in zip(range(config.num_images), itertools.cycle(selection.samples)):
        name = f"{new_id}{Path(sample.file_name).suffix}"
        (images_folder / name).symlink_to((config.images / sample.file_name).resolve())
        document["images"].append({**images[sample.image_id], "id": new_id, "file_name": name})
        document["annotations"] += [{**entry, "image_id": new_id, "id": None} for entry in people[sample.image_id]]
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def _measure_stream(config: BenchStreamConfig, records: Path) -> Rate:
    """Measure the stream of a record set."""
    stream = Stream(records, batch_size=config.batch_size, seed=0, num_parallel_workers=config.num_parallel_workers)
    batches = stream.batches()
    for _ in range(stream.steps_per_epoch):  # the first epoch opens files and fills the page cache
        next(batches)
    count, wall_s, cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall_s < config.seconds:
        count += next(batches).num_samples
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    batches.close()
    sizes = pq.read_table(index_path(records, stream.manifest), columns=["bytes"])["bytes"].to_numpy()
    return Rate(num_samples=count, wall_s=wall_s, cpu_s=cpu_s, sample_bytes=sizes.mean())


def _simulate_device(config: BenchStreamConfig, records: Path, codec: str, device_ms: float) -> str:
    """Run a training loop, tensors included, on a device that sleeps for `device_ms` per step in a thread of its own.

    Returns the line with its speed, and the shares of time in which the device waited for data and for the host.
    """
    from trainer.data.jitter import Jitter  # imports mindspore
    from trainer.device import DeviceConfig, choose_device

    choose_device(DeviceConfig(device_target="CPU"))
    augmentation = JitterConfig(color_jitter=0.4)
    stream = Stream(
        records,
        batch_size=config.batch_size,
        seed=0,
        num_parallel_workers=config.num_parallel_workers,
        jitter=augmentation,
    )
    batches = stream.batches(prepare=Jitter(augmentation, stream.format.skeleton).inputs)
    next(batches)
    timeline, launched = Timeline(is_asynchronous=True), deque[tuple[Batch, Future[None]]]()
    meter, cpu_s = Meter(time.perf_counter), time.process_time()
    with ThreadPoolExecutor(1, "device") as device:
        while meter.elapsed_s < config.seconds:
            batch = timeline.wait_for_data(lambda: next(batches))
            start_s = time.perf_counter()
            launched.append((batch, device.submit(time.sleep, device_ms / 1000)))
            timeline.launch(start_s)
            if len(launched) > 1:  # as in training, the result of a step is read after the next one was launched
                batch, result = launched.popleft()
                start_s = time.perf_counter()
                result.result()
                idle = timeline.read(start_s)
                meter.add(batch.num_samples, idle.data_s, idle.host_s)
        rates, busy = meter.rates(), (time.process_time() - cpu_s) / meter.elapsed_s
    batches.close()
    max_rate = 1000 * config.batch_size / device_ms
    return (
        f"{codec + ' records':<14}{device_ms:>11.1f}{max_rate:>13,.0f}{rates['imgs_per_sec']:>11,.0f}"
        f"{rates['data_wait']:>11.1%}{rates['host_wait']:>8.1%}{busy:>12.2f}"
    )


def _measure_on_the_fly(config: BenchStreamConfig, setting: BuildConfig) -> Rate:
    """Measure one thread that reads and augments images and renders their targets for every batch."""
    samples = read_annotations(
        setting.inputs[0].annotations, skeleton=setting.format.skeleton, person_filter=setting.people
    ).samples
    cv2.setNumThreads(1)
    count, wall_s, cpu_s = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall_s < config.seconds:
        epoch, place = divmod(count, len(samples))
        with contextlib.suppress(UnreadableImage):  # the records skip it, too
            sample = samples[place]
            image = read_image(setting.image_path(sample), (sample.width, sample.height))
            _, crop = make_crop(setting, sample, image, masks.ignore_mask(sample), variant=epoch)
            render_targets(crop.keypoints, skeleton=setting.format.skeleton, config=setting.targets)
        count += 1
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    sizes = [path.stat().st_size for sample in samples if (path := setting.image_path(sample)).is_file()]
    return Rate(num_samples=count, wall_s=wall_s, cpu_s=cpu_s, sample_bytes=float(np.mean(sizes)))
