"""The checks of `check-device`: what a device computes beside what a CPU computes, each in processes of its own."""

import contextlib
import dataclasses
import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.build.build import run as build
from pipeline.build.config import BuildConfig
from pipeline.cli import as_options, flatten
from pipeline.errors import UserError
from pipeline.runtime.processes import start_process
from pipeline.samples.targets import TargetConfig
from pipeline.synthetic.config import SynthesizeConfig
from pipeline.synthetic.synthesize import run as synthesize
from pipeline.wording import counted
from trainer.commands.check_device_config import CheckDeviceConfig
from trainer.device import DeviceConfig, has_ascend
from trainer.run.checkpoint import NETWORK, OPTIMIZER, read_checkpoint
from trainer.run.layout import checkpoint_path
from trainer.run.log import read_log

MEASUREMENTS = "trainer.commands.device_measurements"

# Largest differences. Full float32: rounding in another order, with room. HF32 keeps 10 bits of the mantissa, as float16 does.
FIELD_LIMITS = {"float32": 1e-3, "HF32": 5e-3, "float16": 2e-2}  # of the largest value of the fields
TRAINING_LIMITS = {"float32": 1e-2, "HF32": 2e-2, "float16": 5e-2}  # of the loss, or of the gradient norm
RANK_LIMITS = {"float32": 1e-2, "HF32": 2e-2, "float16": 5e-2}  # of the change of the weights

NUM_IMAGES = 48  # drawn
RANK_STEPS = 4

Status = Literal["ok", "FAIL", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A line of the result. figure: what was measured, with its unit and its limit. advice: what to do about a failure."""

    name: str
    status: Status
    figure: str
    advice: str = ""

    def line(self) -> str:
        """Return the line that is printed."""
        return f"{self.status:<8}{self.name:<26}{self.figure}" + (f"; {self.advice}" if self.advice else "")


def versions(config: CheckDeviceConfig, folder: Path) -> Iterator[Outcome]:
    """Name the device and the versions of its software."""
    yield Outcome(name="versions", status="ok", figure=str(_measured(config, "versions", folder)["versions"]))


def operators(config: CheckDeviceConfig, folder: Path) -> Iterator[Outcome]:
    """Compare the fields of networks with random weights."""
    for network in config.networks:
        one = dataclasses.replace(config, networks=(network,))
        found, expected = (arrays[network] for arrays in _on_device_and_cpu(one, "operators", folder))
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        yield _compared(
            f"operators {network}", difference, FIELD_LIMITS[_arithmetic(config)], "of the largest field",
            "an operator computes something else: run it with --precision O0 and without --hf32, then report device and versions",
        )  # fmt: skip


def training(config: CheckDeviceConfig, folder: Path) -> Iterator[Outcome]:
    """Compare losses and gradient norms of a few steps."""
    found, expected = _on_device_and_cpu(config, "training", folder)
    sums = [(arrays["losses"].sum(axis=(1, 2)), arrays["norms"]) for arrays in (found, expected)]
    difference = max(float(np.abs(a / b - 1).max()) for a, b in zip(*sums, strict=True))
    unit = f"of loss and gradient norm in {counted(len(found['norms']), 'step')}"
    yield _compared(
        f"training {config.preset}", difference, TRAINING_LIMITS[_arithmetic(config)], unit,
        "if `operators` is ok, a gradient, the loss scale or the optimizer computes something else: report device and versions",
    )  # fmt: skip


def throughput(config: CheckDeviceConfig, folder: Path) -> Iterator[Outcome]:
    """Train as `train` does and read its log."""
    steps = config.num_steps
    out = folder / "throughput"
    _run(
        ["trainer", *_train(config, folder, out, batch_size=config.batch_size, steps=2 * steps), "--log-interval", str(steps)],
        config,
    )
    entry = read_log(out)[-1]
    idle = entry["data_wait"] + entry["host_wait"]
    speed = f"{entry['imgs_per_sec']:.2f} img/s at batch {config.batch_size}, {config.insize} px"
    yield Outcome(
        name=f"throughput {config.preset}",
        status="ok" if idle <= config.max_idle else "FAIL",
        figure=f"{speed}, data wait {entry['data_wait']:.1%}, host {entry['host_wait']:.1%} (limit {config.max_idle:.0%} together)",
        advice="" if idle <= config.max_idle else "the host is too slow: close other programs, or use a larger --batch-size",
    )


def ranks(config: CheckDeviceConfig, folder: Path) -> Iterator[Outcome]:
    """Compare the weights of two processes with those of one process with the batch of both."""
    name, network, num_devices = f"ranks {config.preset}", config.network, _num_devices(config.device)
    if num_devices < 2:
        yield Outcome(name=name, status="skipped", figure=f"needs 2 devices, this machine has {num_devices}")
        return
    if network.residual or network.architecture == "lightweight":
        reason = "batch normalization sees the batch of one process; use --preset openpose or openpose-2019"
        yield Outcome(name=name, status="skipped", figure=reason)
        return
    # Without Adam, which makes the sign of a gradient that is almost 0 matter.
    more = f"--optimizer momentum --lr 1e-3 --lr-schedule steps --clip-tensor-norm 0 --ckpt-interval {RANK_STEPS // 2}".split()
    runs = folder / "single", folder / "pair"
    _run(["trainer", *_train(config, folder, runs[0], batch_size=2, steps=RANK_STEPS), *more], config)
    pair = _train(config, folder, runs[1], batch_size=1, steps=RANK_STEPS)
    _run(["trainer", "launch", "--workers", "2", "--", *pair, *more], config)
    (before, _), (weights, gradients) = (_tensors(runs[0], step) for step in (RANK_STEPS // 2, RANK_STEPS))
    other_weights, other_gradients = _tensors(runs[1], RANK_STEPS)
    difference = max(_relative(other_weights - weights, weights - before), _relative(other_gradients - gradients, gradients))
    yield _compared(
        name, difference, RANK_LIMITS[_arithmetic(config)], "of the change of the weights and the sum of gradients",
        "the sum over the ranks is wrong: run the tests of HCCL (hccl_test) between these devices",
    )  # fmt: skip


CHECKS: dict[str, Callable[[CheckDeviceConfig, Path], Iterator[Outcome]]] = {
    "versions": versions,
    "operators": operators,
    "training": training,
    "throughput": throughput,
    "ranks": ranks,
}


def _arithmetic(config: CheckDeviceConfig) -> str:
    return "float16" if config.precision != "O0" else "HF32" if config.device.hf32 else "float32"


def _compared(name: str, difference: float, limit: float, unit: str, advice: str) -> Outcome:
    """Return the outcome of a comparison. NaN fails."""
    good = difference <= limit
    figure = f"differs by {difference:.1e} {unit} (limit {limit:.0e})"
    return Outcome(name=name, status="ok" if good else "FAIL", figure=figure, advice="" if good else advice)


def _on_device_and_cpu(config: CheckDeviceConfig, name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a measurement gives on the device, and on a CPU in float32 with MindSpore's own convolutions."""
    reference = dataclasses.replace(config, device=DeviceConfig(device_target="CPU"), precision="O0", unfold=False)
    return _measured(config, name, folder), _measured(reference, name, folder)


def _measured(config: CheckDeviceConfig, name: str, folder: Path) -> dict[str, Any]:
    """Return the arrays of one of `device_measurements`. Raises UserError if its process fails."""
    path = folder / f"{name}.npz"
    _run([MEASUREMENTS, name, str(path), *_options(config)], config)
    with np.load(path) as arrays:
        return dict(arrays)


def _options(*configs: Any) -> list[str]:
    values = {name: value for config in configs for name, value in flatten(config).items()}
    return as_options({name: value for name, value in values.items() if value is not None})


def _train(config: CheckDeviceConfig, folder: Path, out: Path, *, batch_size: int, steps: int) -> list[str]:
    """Return the command `train` for records that are built on the first call."""
    records = _records(config, folder)
    words = f"train --preset {config.preset} --records {records} --out {out} --precision {config.precision}".split()
    words += f"--batch-size {batch_size} --max-steps {steps} --max-epoch 1000000 --freeze-backbone-steps 0".split()
    return [*words, *_options(config.device, config.network)]


def _records(config: CheckDeviceConfig, folder: Path) -> Path:
    records = folder / "records"
    if not records.exists():
        people = SynthesizeConfig(out=folder / "people", num_images=NUM_IMAGES)
        with contextlib.redirect_stdout(io.StringIO()):
            synthesize(people)
            build(
                BuildConfig(
                    annotations=people.out / "annotations" / "person_keypoints_train2017.json",
                    images=people.out / people.image_folder,
                    out=records,
                    targets=TargetConfig(insize=config.insize),
                )
            )
    return records


def _run(words: list[str], config: CheckDeviceConfig) -> None:
    """Run a Python module in a process group of its own. Raises UserError, with the last line of its output, if it fails."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = start_process(
            [sys.executable, "-m", *words], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(config.timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"did not end within {config.timeout_seconds:g} s (--timeout-seconds)") from error
        finally:
            _end_group(process)
        if code:
            output.seek(0)
            lines = [line.strip() for line in output if line.strip()]
            cause = next((line for line in reversed(lines) if "error:" in line.lower()), lines[-1] if lines else "no output")
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise UserError(f"{how}: {cause}")


def _end_group(process: subprocess.Popen) -> None:
    """End a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _num_devices(device: DeviceConfig) -> int:
    """Return the number of Ascend devices that this process sees, or the number of ranks that a CPU can hold."""
    if device.device_target == "CPU" or not has_ascend():
        return 2
    if visible := os.environ.get("ASCEND_RT_VISIBLE_DEVICES"):
        return len(visible.split(","))
    return len(list(Path("/dev").glob("davinci[0-9]*")))


def _tensors(run: Path, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all weights, and all sums of gradients in the optimizer, each as float64 (N,)."""
    tensors = read_checkpoint(checkpoint_path(run, step))[1]
    parts = (
        [tensor.astype(np.float64).ravel() for name, tensor in sorted(tensors.items()) if name.startswith(prefix)]
        for prefix in (NETWORK, OPTIMIZER)
    )
    weights, gradients = map(np.concatenate, parts)
    return weights, gradients


def _relative(difference: np.ndarray, whole: np.ndarray) -> float:
    """Return the ratio of the norms; NaN if the whole is 0."""
    return float(np.linalg.norm(difference) / (np.linalg.norm(whole) or np.nan))
