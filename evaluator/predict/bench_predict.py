"""The command `bench-predict`: the time of prediction with both engines, and what is not the network's."""

import contextlib
import dataclasses
import io
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.ceiling.oracle import perfect_fields
from evaluator.export.config import ExportConfig
from evaluator.inference.clock import NETWORK, Clock
from evaluator.inference.config import InferConfig
from evaluator.inference.engines import load_engine
from evaluator.inference.fields import Fields
from evaluator.inference.protocols import FieldNetwork
from evaluator.predict.config import BenchPredictConfig, PredictConfig
from evaluator.predict.inputs import Sources, list_sources
from evaluator.predict.predict import predict
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import true_keypoints
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import COCO18
from pipeline.synthetic.config import SceneConfig, SynthesizeConfig
from trainer.config import TrainConfig
from trainer.device import DeviceConfig, num_cores
from trainer.networks.config import NetworkConfig

ENGINES = {"MindSpore": "network.safetensors", "ONNX Runtime": "network.onnx"}
SCENE = SceneConfig(max_people=4, min_person_height=0.3)
ON_CPU = DeviceConfig(device_target="CPU")
PARTS = ("read", "decode")


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Time of one run of `predict`, without the first call of the network, which compiles.

    num_images: images after the first. seconds: elapsed; of them, network_s in the network. parts_s: seconds in other threads.
    """

    num_images: int
    seconds: float
    network_s: float
    parts_s: dict[str, float]


class TrueFields:
    """A network whose fields are computed, and then replaced by the true ones of some images of people."""

    def __init__(self, network: FieldNetwork, fields: Sequence[Fields]) -> None:
        self.skeleton, self.insize, self.stride_px = network.skeleton, network.insize, network.stride_px
        self._network, self._fields = network, itertools.cycle(fields)

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the fields of the next images, whichever are given."""
        computed = self._network.fields(images)
        true = [next(self._fields) for _ in images]
        for result, name in zip(computed, ("heatmaps", "pafs"), strict=True):
            result.fill(0)
            for row, fields in zip(result, true, strict=True):
                values = getattr(fields, name)[:, : row.shape[1], : row.shape[2]]
                row[:, : values.shape[1], : values.shape[2]] = values
        return computed


def run(config: BenchPredictConfig) -> int:
    """Run the command. Raises UserError if MindSpore or ONNX Runtime is not installed."""
    print(
        f"{config.num_images} images of 640 x 480 pixels, insize {config.insize}, {num_cores()} cores, batch size 1; best of "
        f"{config.repeats}\n\n| network | engine | images/s | network, ms/image | overhead | read, decode and draw, ms/image |\n"
        "| --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        images, fields = _draw_people(config, Path(folder) / "people")
        for preset in config.presets:
            with contextlib.redirect_stdout(io.StringIO()):
                _write_network(preset, Path(folder) / preset)
            for line in _measure(config, preset, Path(folder), images, fields):
                print(line, flush=True)
    return 0


def _draw_people(config: BenchPredictConfig, folder: Path) -> tuple[Sources, list[Fields]]:
    """Draw images, and return them with the true fields of those with people."""
    from pipeline.synthetic.synthesize import run as synthesize

    options = SynthesizeConfig(out=folder, num_images=config.num_images, jobs=1, scene=SCENE)
    with contextlib.redirect_stdout(io.StringIO()):
        synthesize(options)
    document = CocoFile(folder / "annotations" / f"person_keypoints_{options.image_folder}.json", COCO18)
    targets = TargetConfig(insize=config.insize - config.insize % TargetConfig.stride_px)
    people = [(image, true_keypoints(document.annotations.get(image.id, []), COCO18)) for image in document.images]
    fields = [perfect_fields(keypoints, image.size_wh, COCO18, targets) for image, keypoints in people if len(keypoints)]
    return list_sources([folder / options.image_folder]), fields


def _write_network(preset: str, folder: Path) -> None:
    """Write a network with random weights as a checkpoint, and export it."""
    from evaluator.export.export import run as export
    from trainer.networks.inference import build
    from trainer.run.checkpoint import NETWORK as PREFIX
    from trainer.run.checkpoint import CheckpointInfo, save_checkpoint

    known = NetworkConfig.__dataclass_fields__
    options: dict[str, Any] = {name: value for name, value in TrainConfig.PRESETS[preset].items() if name in known}
    config = NetworkConfig(**options)
    folder.mkdir()
    network = build(config, COCO18)
    info = CheckpointInfo(
        step=0,
        epoch=0,
        position=0,
        seed=0,
        loss_scale=1.0,
        config={},
        network=dataclasses.asdict(config),
        skeleton=COCO18.to_dict(),
        targets=dataclasses.asdict(TargetConfig()),
        normalization=config.normalization,
        records_digest="",
    )
    tensors = {PREFIX + name: parameter.asnumpy() for name, parameter in network.parameters_dict().items()}
    checkpoint, exported = (folder / name for name in ENGINES.values())
    save_checkpoint(checkpoint, info, tensors)
    export(ExportConfig(checkpoint=checkpoint, format="ONNX", out=exported, device=ON_CPU))


def _measure(config: BenchPredictConfig, preset: str, folder: Path, images: Sources, fields: list[Fields]) -> list[str]:
    """Return a line of the table for each engine."""
    inference = InferConfig(insize=config.insize)
    networks = {
        name: TrueFields(load_engine(folder / preset / file, ON_CPU, inference)[0], fields) for name, file in ENGINES.items()
    }
    timings: dict[str, list[Timing]] = {name: [] for name in networks}
    for repeat, (name, network) in itertools.product(range(config.repeats), networks.items()):
        out = folder / preset / f"{name}-{repeat}"
        timings[name].append(
            _time(PredictConfig(images=(folder,), checkpoint=folder, out=out, inference=inference), images, network)
        )
    return [_row(preset, name, min(times, key=lambda timing: timing.seconds)) for name, times in timings.items()]


def _time(config: PredictConfig, images: Sources, network: FieldNetwork) -> Timing:
    clock = Clock()
    with contextlib.redirect_stdout(io.StringIO()):
        predict(config, images, network, clock=clock)
    overhead = clock.overhead_share() or 0.0
    network_s = clock.seconds[NETWORK] - clock.first_call_s
    return Timing(
        num_images=len(images.files) - 1,
        seconds=network_s / (1 - overhead),
        network_s=network_s,
        parts_s={part: clock.seconds[part] for part in PARTS},
    )


def _row(preset: str, engine: str, timing: Timing) -> str:
    count = timing.num_images
    parts = ", ".join(f"{1000 * timing.parts_s[part] / (count + 1):.1f}" for part in PARTS)
    return (
        f"| {preset} | {engine} | {count / timing.seconds:.1f} | {1000 * timing.network_s / count:.1f} | "
        f"{1 - timing.network_s / timing.seconds:.1%} | {parts} |"
    )
