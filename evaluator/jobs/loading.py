"""Loading the network of a checkpoint for `run` and `predict`. Imports MindSpore only when called."""

from pathlib import Path

from evaluator.inference.protocols import CheckpointNetwork
from evaluator.options import Device


def load_checkpoint(checkpoint: Path, device_target: Device, *, average: bool) -> tuple[CheckpointNetwork, str]:
    """Load a network and return it with the device it runs on. Raises UserError for an incomplete checkpoint.

    checkpoint: file, or run folder, whose newest checkpoint is used. average: use averaged weights if there are any.
    """
    from trainer.device import choose_device
    from trainer.run.load import load_network

    device = choose_device(device_target)
    network = load_network(checkpoint, average=average)
    for note in network.notes:
        print(note, flush=True)
    print(f"checkpoint {network.path}: step {network.info.step:,}, epoch {network.info.epoch}", flush=True)
    return network, device
