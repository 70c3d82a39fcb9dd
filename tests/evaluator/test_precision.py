"""float16 inference: close to float32, returned as float32, and recorded as another evaluation."""

import dataclasses
import json

import numpy as np
import pytest
import yaml
from job_data import write_images
from trainer_data import make_info

from evaluator.__main__ import COMMANDS
from pipeline.cli import main
from pipeline.skeletons import COCO18
from trainer.networks.config import NetworkConfig
from trainer.networks.inference import build
from trainer.networks.network import initialize
from trainer.run import checkpoint
from trainer.run.load import load_network

RESIDUAL = NetworkConfig(
    residual=True, backbone_channels=(8,) * 5, neck_channels=(8,), num_stages=2, stage_channels=8, stage1_hidden_channels=8, kernel_size=3
)  # fmt: skip


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint with random weights and batch normalization."""
    network = build(RESIDUAL, COCO18)
    initialize(network, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("run") / "step-00000007.safetensors"
    tensors = {checkpoint.NETWORK + name: p.asnumpy() for name, p in network.parameters_dict().items()}
    checkpoint.save_checkpoint(path, make_info(network=dataclasses.asdict(RESIDUAL)), tensors)
    return path


@pytest.mark.slow
def test_float16_fields_are_close_to_float32_fields(saved):
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    exact = load_network(saved).fields(images)
    for precision in ("O2", "O3"):
        for found, expected in zip(load_network(saved, precision=precision).fields(images), exact, strict=True):
            difference = np.abs(found - expected).max() / np.abs(expected).max()
            assert found.dtype == np.float32 and 1e-5 < difference < 1e-2


def test_the_precision_is_recorded_and_must_not_change(saved, tmp_path, capsys):
    annotations, images = write_images(tmp_path / "noise")
    words = ["run", "--checkpoint", saved, "--annotations", annotations, "--images", images, "--out", tmp_path / "out"]
    words = [str(word) for word in [*words, "--device-target", "CPU", "--pictures", 0, "--max-images", 2, "--insize", 32]]
    assert main("evaluator", "", COMMANDS, [*words, "--precision", "O2"]) == 0
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["precision"] == "O2"
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["settings"]["precision"] == "O2"
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["precision"] == "O2"
    assert main("evaluator", "", COMMANDS, words) == 1
    assert "precision: O2 before, O0 now" in capsys.readouterr().err
