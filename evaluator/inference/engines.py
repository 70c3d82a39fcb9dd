"""The engines that compute fields, chosen by the file: MindSpore for checkpoints, ONNX Runtime for exported networks.

Imports an engine only when it is used.
"""

from pathlib import Path
from typing import Any

from evaluator.inference.config import InferConfig
from evaluator.inference.protocols import CheckpointNetwork
from evaluator.inference.scoring import calibration_of, describe_scores
from evaluator.inference.tuned import describe_decoder
from pipeline.errors import UserError
from pipeline.storage.files import file_facts
from pipeline.wording import printable
from trainer.device import DeviceConfig, choose_device

ONNX_SUFFIX = ".onnx"


def load_engine(path: Path, device: DeviceConfig, inference: InferConfig) -> tuple[CheckpointNetwork, str]:
    """Load a network and return it with the name of its device.

    path: an exported network (.onnx), a checkpoint, or a run folder, whose newest checkpoint is used.
    Raises UserError for a file that is no such thing or is incomplete, and for options that its engine does not have.
    """
    if path.suffix.lower() == ONNX_SUFFIX:
        from evaluator.inference.exported import ExportedNetwork

        _require_options_of_onnx(path, device, inference)
        return ExportedNetwork(path), "CPU"
    _require_mindspore(path)
    from trainer.run.load import load_network

    name = choose_device(device)
    return load_network(path, average=not inference.raw_weights, precision=inference.precision), name


def load_and_report(path: Path, device: DeviceConfig, inference: InferConfig) -> tuple[CheckpointNetwork, str]:
    """Call `load_engine`, and print what was loaded."""
    network, name = load_engine(path, device, inference)
    for note in network.notes:
        print(printable(note), flush=True)
    print(f"checkpoint {network.path}: step {network.info.step:,}, epoch {network.info.epoch}", flush=True)
    print("\n".join([describe_scores(calibration_of(network)), *describe_decoder(network, inference)]), flush=True)
    return network, name


def _require_options_of_onnx(path: Path, device: DeviceConfig, inference: InferConfig) -> None:
    if device.device_target not in ("auto", "CPU"):
        raise UserError(
            f"--device-target {device.device_target}: ONNX Runtime runs {path} on the CPU; give a checkpoint, or omit the option"
        )
    for name in ("raw_weights", "precision"):
        if getattr(inference, name) != getattr(InferConfig(), name):
            raise UserError(
                f"--{name.replace('_', '-')}: {path} contains the weights and the precision with which it was exported; give the "
                "option to `export`"
            )


def _require_mindspore(path: Path) -> None:
    try:
        import mindspore  # noqa: F401 - only tests that it is installed
    except ModuleNotFoundError as error:
        raise UserError(
            f"checkpoint {path}: a checkpoint needs MindSpore, which is not installed; install it, or give a network of "
            "`python -m evaluator export --format ONNX`, which runs without it"
        ) from error


def origin_of(network: CheckpointNetwork, device: str, options: DeviceConfig) -> dict[str, Any]:
    """Return what identifies a network and its scores: its file, and the device. Raises UserError if the file is gone."""
    about = {"step": network.info.step, "epoch": network.info.epoch, "calibration": network.info.calibration}
    origin = {"checkpoint": sha256(network.path, "checkpoint"), **about, "device": device}
    if device == "Ascend":  # HF32 is another arithmetic, which a CPU does not have
        origin["hf32"] = options.hf32
    return origin


def sha256(path: Path, what: str) -> str:
    """Return the SHA-256 of a file. Raises UserError, which begins with `what`, if the file cannot be read."""
    try:
        return file_facts(path)["sha256"]
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}") from error
