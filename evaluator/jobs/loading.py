"""Loading the network of a checkpoint for `run` and `predict`. Imports MindSpore only when called."""

from pathlib import Path
from typing import Any

from evaluator.inference.config import InferConfig
from evaluator.inference.protocols import CheckpointNetwork
from evaluator.inference.scoring import describe_scores, read_calibration
from pipeline.errors import UserError
from pipeline.files import file_facts
from pipeline.wording import printable
from trainer.device import DeviceConfig, choose_device


def load_checkpoint(checkpoint: Path, device: DeviceConfig, inference: InferConfig) -> tuple[CheckpointNetwork, str]:
    """Load a network and return it with the name of its device. Raises UserError for an incomplete checkpoint.

    checkpoint: file, or run folder, whose newest checkpoint is used.
    """
    from trainer.run.load import load_network

    name = choose_device(device)
    network = load_network(checkpoint, average=not inference.raw_weights, precision=inference.precision)
    for note in network.notes:
        print(printable(note), flush=True)
    print(f"checkpoint {network.path}: step {network.info.step:,}, epoch {network.info.epoch}", flush=True)
    print(describe_scores(read_calibration(network.info.calibration, f"checkpoint {network.path}")), flush=True)
    return network, name


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
