"""What a process of `check-device` measures: `python -m trainer.commands.device_measurements NAME FILE.npz OPTIONS`."""

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from pipeline.cli import guarded, parse
from pipeline.skeletons import COCO18
from trainer.commands.bench_step import BenchStepConfig, random_batch
from trainer.commands.check_device_config import CheckDeviceConfig
from trainer.device import choose_device
from trainer.loop.config import OptimConfig
from trainer.loop.optimizer import Optimizer
from trainer.loop.step import StepResult, make_scaler, make_step
from trainer.networks.config import NetworkConfig
from trainer.networks.cpu_convolution import unfold
from trainer.networks.inference import LastStage, build
from trainer.networks.network import Network, initialize

DRIVER = Path("/usr/local/Ascend/driver/version.info")
BATCH_SIZE, NUM_STEPS, LR = 2, 5, 1e-4

Arrays = dict[str, np.ndarray]


def versions(config: CheckDeviceConfig) -> Arrays:
    """Compute something on the device. Returns its name and the versions of MindSpore, driver and CANN, as text."""
    device = choose_device(config.device)
    total = (ms.Tensor(np.ones(4, np.float32)) + 1).sum()
    if float(total.asnumpy()) != 8:
        raise ValueError(f"the device computed 4 * (1 + 1) = {total.asnumpy()}")
    found = [f"{ms.hal.get_device_name(config.device.device_id, device)}, MindSpore {ms.__version__}"]
    if device == "Ascend":
        cann = Path(os.environ.get("ASCEND_HOME_PATH", ""), "compiler", "version.info")
        found += [f"{name} {_version(path)}" for name, path in (("driver", DRIVER), ("CANN", cann))]
    return {"versions": np.array(", ".join(found))}


def operators(config: CheckDeviceConfig) -> Arrays:
    """Return the fields of one random image, for a network with random weights: of every preset in `config.networks`."""
    choose_device(config.device, unfolds=False)
    images = random_batch(BenchStepConfig(insize=config.insize))[0]
    found: Arrays = {}
    for name in config.networks:
        shape: Any = CheckDeviceConfig.PRESETS[name]
        found[name] = np.concatenate(LastStage(_network(config, NetworkConfig(**shape))).fields(images), axis=1)
    return found


def training(config: CheckDeviceConfig) -> Arrays:
    """Return the losses (N, S, 2) and the gradient norms (N,) of N steps of Adam on one random batch."""
    choose_device(config.device, unfolds=config.unfold and config.network.unfolds)  # otherwise slow: see trainer.device
    network, optim = _network(config, config.network), OptimConfig()
    step = make_step(network, Optimizer(network, optim), make_scaler(optim))
    batch = [ms.Tensor(array) for array in random_batch(BenchStepConfig(insize=config.insize, batch_size=BATCH_SIZE))]
    rates, go = ms.Tensor([LR] * 3, ms.float32), ms.Tensor(0.0, ms.float32)
    results = [StepResult.read(step([batch], rates, go)) for _ in range(NUM_STEPS)]
    return {"losses": np.stack([r.losses for r in results]), "norms": np.array([r.gradient_norm for r in results])}


MEASUREMENTS: dict[str, Callable[[CheckDeviceConfig], Arrays]] = {
    "versions": versions,
    "operators": operators,
    "training": training,
}


def _network(config: CheckDeviceConfig, shape: NetworkConfig) -> Network:
    """Return a network with random weights, unfolded on a CPU as in training."""
    network = build(shape, COCO18)
    initialize(network, np.random.default_rng(0))
    network.set_precision(config.precision)
    if config.unfold and shape.unfolds and ms.get_context("device_target") == "CPU":
        unfold(network)
    return network


def _version(path: Path) -> str:
    """Return the version in a file of CANN or the driver; "unknown" if there is none."""
    found = re.search(r"^Version=(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE) if path.exists() else None
    return found[1] if found else "unknown"


def main(name: str, out: str, *options: str) -> None:
    """Write the arrays of a measurement to a file."""
    config = parse(CheckDeviceConfig, options, prog="check-device")
    np.savez(out, **MEASUREMENTS[name](config))


if __name__ == "__main__":
    sys.exit(guarded("check-device", lambda: main(*sys.argv[1:])))
