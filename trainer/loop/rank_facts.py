"""What all ranks of a distributed run must agree on before the first step."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pipeline
import trainer
from pipeline.cli import flatten
from trainer.distributed.agreement import code_digest, weights_crc32
from trainer.loop.training import Training

# These may differ between hosts: where files are, which device computes with how much memory, and how many threads read.
HOST_OPTIONS = (
    "records",
    "out",
    "device_id",
    "max_device_memory",
    "num_parallel_workers",
    "backbone_path",
    "vgg_path",
    "pretrained_model_path",
    "resume",
    "validate_annotations",
    "validate_images",
    "validate_device_id",
)


def facts(training: Training) -> dict[str, Any]:
    """Return position, weights, records, options and versions of a run, by name. Options that belong to a host are left out."""
    state = training.state
    options = {name: value for name, value in flatten(training.config).items() if name not in HOST_OPTIONS}
    folders = [Path(str(package.__file__)).parent for package in (pipeline, trainer)]
    return {
        "step": state.progress.step,
        "epoch": state.progress.epoch,
        "position": state.progress.position,
        "weights (CRC32)": weights_crc32(p.asnumpy() for p in state.network.get_parameters()),
        "records digest": state.manifest.digest,
        "code of pipeline and trainer (SHA-256)": code_digest(folders),
        "mindspore version": version("mindspore"),
        "numpy version": version("numpy"),
        **{f"--{name.replace('_', '-')}": value for name, value in options.items()},
    }
