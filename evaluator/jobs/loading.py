"""Loading the network of a checkpoint for `run` and `predict`. Imports MindSpore only when called."""

from pathlib import Path

from evaluator.inference.config import InferConfig
from evaluator.inference.protocols import CheckpointNetwork
from trainer.device import DeviceConfig, choose_device


def load_checkpoint(checkpoint: Path, device: DeviceConfig, inference: InferConfig) -> tuple[CheckpointNetwork, str]:
    """Load a network and return it with the name of its device. Raises UserError for an incomplete checkpoint.

    checkpoint: file, or run folder, whose newest checkpoint is used.
    """
    from trainer.run.load import load_network

    name = choose_device(device)
    network = load_network(checkpoint, average=not inference.raw_weights, precision=inference.precision)
    for note in network.notes:
        print(note, flush=True)
    print(f"checkpoint {network.path}: step {network.info.step:,}, epoch {network.info.epoch}", flush=True)
    return network, name
