"""The command `bench-step`: measure time, memory and arithmetic of a training step. Needs no record set."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from tyro.conf import arg

from pipeline.cli import as_options, flatten
from pipeline.errors import UserError
from pipeline.runtime.processes import start_process
from pipeline.skeletons import read_skeleton
from pipeline.wording import counted
from trainer.config import Preset, TrainConfig
from trainer.device import DeviceConfig, choose_device, num_cores
from trainer.loop.config import OptimConfig
from trainer.networks.config import STRIDE_PX, NetworkConfig

if TYPE_CHECKING:  # mindspore is loaded only to measure
    from trainer.networks.network import Network

PARTS = ("forward", "gradients", "step")


@dataclass(frozen=True, kw_only=True)
class BenchStepConfig:
    """Measure time and memory of a training step on random images, and the shares of forward, backward and optimizer.

    Compiles and times each part in a separate process, so that the peak memory is that of training.

    Example: python -m trainer bench-step --preset openpose --batch-size 1
    """

    PRESETS: ClassVar = {
        name: {key: value for key, value in preset.items() if key in NetworkConfig.__dataclass_fields__}
        for name, preset in TrainConfig.PRESETS.items()
    }

    preset: Preset = "openpose"
    """Network: sets the defaults of the network options."""
    batch_size: int = 1
    """Images per step."""
    insize: int = 368
    """Side of the images in pixels."""
    skeleton: Path | None = None
    """Skeleton, as for `python -m pipeline build`; sets the number of heatmaps and PAFs. Default: COCO."""
    num_steps: int = 5
    """Number of steps to time after two warm-up steps. The median is reported."""
    unfold: bool = True
    """On a CPU: compute the convolutions of openpose and openpose-2019 as 1x1 convolutions, as training does. Use --no-unfold to
    compare."""
    only: Literal["all", "forward", "gradients", "step"] = "all"
    """Time only this part and print the result as JSON."""
    device: Annotated[DeviceConfig, arg(name="")] = field(default_factory=DeviceConfig)
    network: Annotated[NetworkConfig, arg(name="")] = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_steps", "insize"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.insize % STRIDE_PX:
            raise ValueError(f"insize must be a multiple of {STRIDE_PX}, got {self.insize}")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Result for one of PARTS.

    peak_bytes: peak memory of the process. allocated_bytes, reserved_bytes: peak of an accelerator's memory that tensors used, and that
    MindSpore took from the device; 0 on a CPU. multiplications: per image, forward.
    """

    device: str
    num_threads: int
    seconds: float
    cpu_s: float
    compile_s: float
    peak_bytes: int
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    estimated_bytes: int
    parameters: int
    multiplications: int


def run(config: BenchStepConfig) -> int:
    """Run the command `bench-step`. Raises UserError if a measurement fails, for example because it runs out of memory."""
    if config.only != "all":
        print(json.dumps(asdict(measure(config))))
        return 0
    measured = {part: _measure_in_process(config, part) for part in PARTS}
    print("\n".join(table(config, measured)))
    return 0


def table(config: BenchStepConfig, measured: dict[str, Measurement]) -> list[str]:
    """Return the lines of the summary."""
    forward_s, gradients_s, step_s = (measured[part].seconds for part in PARTS)
    step = measured["step"]
    parts = {"forward": forward_s, "backward": gradients_s - forward_s, "optimizer": step_s - gradients_s}
    parts = {name: max(seconds, 0) for name, seconds in parts.items()}  # noise can make a small difference negative
    flops = 3 * 2 * step.multiplications * config.batch_size  # forward, gradients of inputs, gradients of weights
    return [
        f"{config.preset}, batch {config.batch_size}, {config.insize} px, {step.device}, {counted(step.num_threads, 'thread')}",
        f"  {step_s:.2f} s/step, {config.batch_size / step_s:.2f} img/s, {step.cpu_s:.2f} CPU s/step; "
        f"compiled in {step.compile_s:.0f} s",
        "  " + ", ".join(f"{name} {seconds / sum(parts.values()):.0%}" for name, seconds in parts.items()),
        f"  peak memory {step.peak_bytes / 1e9:.2f} GB (estimate: {step.estimated_bytes / 1e9:.2f} GB)"
        if step.device == "CPU"
        else f"  peak memory of the device {step.allocated_bytes / 1e9:.2f} GB used by tensors, {step.reserved_bytes / 1e9:.2f} GB reserved; "
        f"of the host {step.peak_bytes / 1e9:.2f} GB",
        f"  {step.parameters:,} parameters; {step.multiplications / 1e9:.2f} GMACs per image; {flops / step_s / 1e9:.0f} GFLOPS",
    ]


def measure(config: BenchStepConfig) -> Measurement:
    """Time one of PARTS in this process."""
    import mindspore as ms

    from trainer.loop import memory
    from trainer.networks import inference
    from trainer.networks.cpu_convolution import unfold
    from trainer.networks.network import count_multiplications, count_parameters, initialize

    unfolds = config.unfold and config.network.unfolds
    device = choose_device(config.device, unfolds=unfolds)
    network = inference.build(config.network, read_skeleton(config.skeleton))
    initialize(network, np.random.default_rng(0))
    if device == "CPU" and unfolds:
        unfold(network)
    work = _make_work(config, network)
    compile_s = _seconds(work)
    work()
    cpu_s = time.process_time()
    seconds = [_seconds(work) for _ in range(config.num_steps)]
    cpu_s = (time.process_time() - cpu_s) / config.num_steps
    estimate = memory.estimate_bytes(network, insize=config.insize, batch_size=config.batch_size, num_threads=num_cores())
    return Measurement(
        device=device,
        num_threads=num_cores(),
        seconds=statistics.median(seconds),
        cpu_s=cpu_s,
        compile_s=compile_s,
        peak_bytes=_peak_bytes(),
        allocated_bytes=ms.runtime.max_memory_allocated(),
        reserved_bytes=ms.runtime.max_memory_reserved(),
        estimated_bytes=estimate,
        parameters=sum(count_parameters(network).values()),
        multiplications=count_multiplications(network, config.insize),
    )


def random_batch(config: BenchStepConfig) -> list[np.ndarray]:
    """Return random images, heatmaps and PAFs in the types of `trainer.data.stream.Batch`, and a mask and `labeled` that
    ignore nothing."""
    skeleton, side = read_skeleton(config.skeleton), config.insize // STRIDE_PX
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (config.batch_size, config.insize, config.insize, 3), np.uint8),
        rng.integers(0, 256, (config.batch_size, skeleton.num_heatmaps, side, side), np.uint8),
        rng.integers(-127, 128, (config.batch_size, skeleton.num_pafs, side, side), np.int8),
        np.zeros((config.batch_size, side, side), np.uint8),
        np.ones((1, skeleton.num_heatmaps + skeleton.num_pafs), np.uint8),
    ]


def _make_work(config: BenchStepConfig, network: "Network") -> Callable[[], object]:
    """Return a function that computes the part once and waits until it is done."""
    import mindspore as ms

    from trainer.loop.loss import stage_losses
    from trainer.loop.optimizer import Optimizer
    from trainer.loop.step import make_scaler, make_step

    batch = [ms.Tensor(array) for array in random_batch(config)]
    network.set_train()

    def loss(images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, labeled: ms.Tensor) -> ms.Tensor:
        return stage_losses(network(images), heatmaps, pafs, mask, labeled).sum()

    if config.only == "step":
        step, rates = make_step(network, Optimizer(network), make_scaler(OptimConfig())), ms.Tensor(np.full(3, 1e-6, np.float32))
        return lambda: step([batch], rates, ms.Tensor(0.0, ms.float32)).asnumpy()
    if config.only == "forward":
        forward = ms.jit(loss)
        return lambda: forward(*batch).asnumpy()
    gradients_of = ms.value_and_grad(loss, None, network.trainable_params())

    @ms.jit
    def gradients(images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, labeled: ms.Tensor) -> tuple:
        return gradients_of(images, heatmaps, pafs, mask, labeled)

    return lambda: gradients(*batch)[0].asnumpy()


def _seconds(work: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def _measure_in_process(config: BenchStepConfig, part: str) -> Measurement:
    options = as_options({name: value for name, value in flatten(config).items() if value is not None} | {"only": part})
    process = start_process([sys.executable, "-m", "trainer", "bench-step", *options], stdout=subprocess.PIPE, text=True)
    output, _ = process.communicate()
    if process.returncode:
        raise UserError(
            f"{part}: failed with exit code {process.returncode}; if it ran out of memory, use a smaller --batch-size or --insize"
        )
    return Measurement(**json.loads(output.splitlines()[-1]))


def _peak_bytes() -> int:
    """Return the peak memory of this process as Linux counts it; 0 on other systems."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
