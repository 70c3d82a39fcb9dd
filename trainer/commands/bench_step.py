"""The command `bench-step`: what a training step of a network takes: time, memory, arithmetic. Needs no records."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from tyro.conf import arg

from pipeline.cli import as_options, flatten
from pipeline.errors import UserError
from trainer.config import OptimConfig, TrainConfig
from trainer.networks.config import STRIDE_PX, NetworkConfig
from trainer.networks.cpu_convolution import unfold

PARTS = ("forward", "gradients", "step")


@dataclass(frozen=True, kw_only=True)
class BenchStepConfig:
    """Seconds and memory of a training step on made-up images, and the shares of forward, backward and optimizer.

    Each of the three is compiled and timed in a process of its own, so that the memory is that of training.

    Example: python -m trainer bench-step --preset openpose --batch-size 1
    """

    PRESETS: ClassVar = {
        name: {key: value for key, value in preset.items() if key in NetworkConfig.__dataclass_fields__}
        for name, preset in TrainConfig.PRESETS.items()
    }

    preset: Literal["openpose", "openpose-2019", "lightweight", "small"] = "openpose"
    """Network: the defaults of the options of its shape."""
    batch_size: int = 1
    """Images a step."""
    insize: int = 368
    """Side of the images in pixels."""
    num_steps: int = 5
    """Steps to time, after two that are not; the median counts."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    device_id: int = 0
    """Which of the Ascend devices."""
    unfold: bool = True
    """On a CPU: compute openpose and openpose-2019 by convolutions of 1x1, as training does; --no-unfold to compare."""
    only: Literal["all", "forward", "gradients", "step"] = "all"
    """What to time; anything but all prints JSON."""
    network: Annotated[NetworkConfig, arg(name="")] = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_steps", "insize"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.insize % STRIDE_PX:
            raise ValueError(f"insize must be a multiple of {STRIDE_PX}, got {self.insize}")


def run(config: BenchStepConfig) -> int:
    """The command `bench-step`. Raises UserError where a measurement fails, such as for want of memory."""
    if config.only != "all":
        print(json.dumps(measure(config)))
        return 0
    measured = {part: _in_process(config, part) for part in PARTS}
    print("\n".join(table(config, measured)))
    return 0


def table(config: BenchStepConfig, measured: dict[str, dict]) -> list[str]:
    """What was measured of each of PARTS, for people."""
    forward_s, gradients_s, step_s = (measured[part]["seconds"] for part in PARTS)
    step = measured["step"]
    parts = {"forward": forward_s, "backward": gradients_s - forward_s, "optimizer": step_s - gradients_s}
    parts = {name: max(seconds, 0) for name, seconds in parts.items()}  # measured one by one: noise makes a small one negative
    arithmetic = 3 * 2 * step["multiplications"] * config.batch_size  # forward, gradients of inputs, gradients of weights
    return [
        f"{config.preset}, batch {config.batch_size}, {config.insize} px, {step['device']}, {step['num_threads']} threads",
        f"  {step_s:.2f} s a step, {config.batch_size / step_s:.2f} img/s, {step['cpu_s']:.2f} CPU s a step; compiled in {step['compile_s']:.0f} s",
        "  " + ", ".join(f"{name} {seconds / sum(parts.values()):.0%}" for name, seconds in parts.items()),
        f"  peak memory {step['peak_bytes'] / 1e9:.2f} GB (estimated before: {step['estimated_bytes'] / 1e9:.2f} GB)",
        f"  {step['parameters']:,} parameters; {step['multiplications'] / 1e9:.2f} G multiplications an image; "
        f"{arithmetic / step_s / 1e9:.0f} GFLOPS in training",
    ]


def measure(config: BenchStepConfig) -> dict:
    """Time one of PARTS in this process. `peak_bytes` is the most that the process ever held."""
    from trainer.device import choose_device, num_cores
    from trainer.loop import memory
    from trainer.networks.network import Network, count_multiplications, count_parameters, initialize

    unfolds = config.unfold and config.network.unfolds
    device = choose_device(config.device_target, config.device_id, unfolds=unfolds)
    network = Network(config.network, num_heatmaps=19, num_pafs=38)
    initialize(network, np.random.default_rng(0))
    if device == "CPU" and unfolds:
        unfold(network)
    work = _work(config, network)
    start = time.perf_counter()
    work()
    compile_s = time.perf_counter() - start
    work()
    seconds, cpu_s = [], time.process_time()
    for _ in range(config.num_steps):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return {
        "device": device,
        "num_threads": num_cores(),
        "seconds": statistics.median(seconds),
        "cpu_s": (time.process_time() - cpu_s) / config.num_steps,
        "compile_s": compile_s,
        "peak_bytes": _peak_bytes(),
        "estimated_bytes": memory.estimate_bytes(
            network, insize=config.insize, batch_size=config.batch_size, num_threads=num_cores()
        ),
        "parameters": sum(count_parameters(network).values()),
        "multiplications": count_multiplications(network, config.insize),
    }


def _work(config: BenchStepConfig, network):
    """A function that does the work once and waits for its end."""
    import mindspore as ms

    from trainer.loop.loss import stage_losses
    from trainer.loop.optimizer import Optimizer
    from trainer.loop.step import make_scaler, make_step

    side = config.insize // STRIDE_PX
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (config.batch_size, config.insize, config.insize, 3), np.uint8)
    heatmaps = rng.integers(0, 256, (config.batch_size, 19, side, side), np.uint8)
    pafs = rng.integers(-127, 128, (config.batch_size, 38, side, side), np.int8)
    mask = np.zeros((config.batch_size, side, side), np.uint8)
    batch = [ms.Tensor(array) for array in (images, heatmaps, pafs, mask)]
    network.set_train()

    def loss(images, heatmaps, pafs, mask):
        return stage_losses(network(images), heatmaps, pafs, mask).sum()

    if config.only == "step":
        step, rates = make_step(network, Optimizer(network), make_scaler(OptimConfig())), ms.Tensor(np.full(3, 1e-6, np.float32))
        return lambda: step(*batch, rates, ms.Tensor(0.0, ms.float32))[0].asnumpy()
    if config.only == "forward":
        forward = ms.jit(loss)
        return lambda: forward(*batch).asnumpy()
    gradients_of = ms.value_and_grad(loss, None, network.trainable_params())

    @ms.jit
    def gradients(images, heatmaps, pafs, mask):
        return gradients_of(images, heatmaps, pafs, mask)

    return lambda: gradients(*batch)[0].asnumpy()


def _in_process(config: BenchStepConfig, part: str) -> dict:
    words = as_options({name: value for name, value in flatten(config).items() if value is not None} | {"only": part})
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "bench-step", *words], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    if done.returncode:
        raise UserError(
            f"{part}: failed with exit code {done.returncode}; for want of memory try a smaller --batch-size or --insize"
        )
    return json.loads(done.stdout.splitlines()[-1])


def _peak_bytes() -> int:
    """The most memory that this process held, as Linux counts it; 0 where it does not."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
