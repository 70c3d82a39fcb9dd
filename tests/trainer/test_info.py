"""`trainer info` prints what a checkpoint contains, marks changes to the preset, and names damaged files."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from trainer_data import make_info

from pipeline.cli import flatten, main, parse
from pipeline.skeletons import COCO18
from trainer.__main__ import COMMANDS
from trainer.commands.info import preset_settings
from trainer.config import TrainConfig
from trainer.run.checkpoint import CheckpointInfo, save_checkpoint

ROOT = Path(__file__).parents[2]
OPTIONS = ["--preset", "small", "--records", "records", "--out", "runs/it", "--lr", "0.02", "--stage-channels", "9"]


def write(path: Path, step: int) -> None:
    config = parse(TrainConfig, OPTIONS, prog="train")
    info = CheckpointInfo(
        step=step, epoch=3, position=24, seed=5, loss_scale=1024.0, config=flatten(config), network=flatten(config.network),
        skeleton=COCO18.to_dict(), targets={"insize": 64, "stride_px": 8}, normalization={"mean": (1.0, 2.0, 3.0)},
        records_digest="abc123",
    )  # fmt: skip
    sizes = {"backbone.a.weight": (2, 3), "backbone.a.moving_mean": (5,), "neck.b.weight": (7,), "stages.0.c.weight": (2, 2)}
    tensors = {f"network.{name}": np.ones(shape, np.float32) for name, shape in sizes.items()}
    moments = {
        f"optimizer.adam.moment1.{name}": np.ones(shape, np.float32) for name, shape in sizes.items() if "moving" not in name
    }
    save_checkpoint(path, info, {**tensors, **moments, "optimizer.adam.beta1_power": np.array(0.25, np.float32)})


def info(capsys, path: Path) -> tuple[int, str]:
    code = main("trainer", "", COMMANDS, ["info", str(path)])
    return code, "".join(capsys.readouterr())


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_everything_in_the_file_is_printed(tmp_path, capsys):
    path = tmp_path / "step-00000012.safetensors"
    write(path, 12)
    code, text = info(capsys, path)
    assert code == 0 and "checksum (CRC32) ok" in text
    for expected in (
        "step 12, epoch 3, 24 samples into the epoch",
        "seed 5",
        "loss scale 1024",
        "skeleton coco18: 18 joints, 19 limbs",
        "abc123",
    ):
        assert expected in text
    for expected in (
        "parameters: 17 numbers in 3 tensors",
        "backbone: 6 numbers in 1 tensor",
        "neck: 7 numbers in 1 tensor",
        "stages: 4 numbers in 1 tensor",
        "normalization: 5 numbers in 1 tensor",
    ):
        assert expected in text
    assert "adam.moment1: 17 numbers in 3 tensors" in text and "adam.beta1_power = 0.25" in text
    assert sum(array.size for array in load_file(path).values()) == 17 + 5 + 17 + 1
    options = flatten(parse(TrainConfig, OPTIONS, prog="train"))
    assert not [name for name in options if f"{name}: " not in text]


def test_only_settings_that_differ_from_the_preset_are_marked(tmp_path, capsys):
    write(tmp_path / "a.safetensors", 1)
    lines = info(capsys, tmp_path / "a.safetensors")[1].splitlines()
    marked = [line.split() for line in lines if line.startswith("  * ")]
    assert [(words[1], words[2], words[-1]) for words in marked] == [
        ("stage_channels:", "9", "48)"),
        ("lr:", "0.02", "0.008)"),
    ]


@pytest.mark.parametrize("preset", TrainConfig.PRESETS)
def test_preset_settings_are_those_of_the_command(preset):
    settings = preset_settings({"preset": preset, "records": "r", "out": "o"})
    assert {name: tuple(v) if isinstance(v := settings[name], list) else v for name in TrainConfig.PRESETS[preset]} == dict(
        TrainConfig.PRESETS[preset]
    )


def test_a_folder_shows_all_checkpoints_and_names_damaged_ones(tmp_path, capsys):
    for step in (5, 10, 20):
        write(tmp_path / f"step-{step:08d}.safetensors", step)
    flip_last_byte(tmp_path / "step-00000020.safetensors")
    (tmp_path / "step-00000030.safetensors").write_bytes(b"\x09")
    code, text = info(capsys, tmp_path)
    assert code == 1
    state = {words[0]: words[-1] for line in text.splitlines()[:5] if (words := line.split())[0].startswith("step-")}
    assert state == {
        f"step-{step:08d}.safetensors": what for step, what in {5: "ok", 10: "ok", 20: "DAMAGED", 30: "DAMAGED"}.items()
    }
    assert "step-00000020.safetensors: damaged" in text and "step-00000030.safetensors: truncated" in text
    assert "step 10, epoch 3" in text and "step 20, epoch" not in text


def test_the_description_of_a_damaged_file_is_printed(tmp_path, capsys):
    write(tmp_path / "a.safetensors", 7)
    flip_last_byte(tmp_path / "a.safetensors")
    code, text = info(capsys, tmp_path / "a.safetensors")
    assert code == 1 and "WRONG" in text and "step 7" in text and "parameters:" not in text


def test_other_paths_are_refused(tmp_path, capsys):
    assert info(capsys, tmp_path / "absent")[0] == 1
    code, text = info(capsys, tmp_path)
    assert code == 1 and "no *.safetensors file" in text and "Traceback" not in text


def test_the_command_imports_no_mindspore(tmp_path):
    write(tmp_path / "a.safetensors", 7)
    code = f"import sys\nfrom trainer.commands.info import *\nrun(InfoConfig(checkpoint=Path({str(tmp_path)!r})))\nsys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0


def test_strings_of_a_checkpoint_are_printed_without_terminal_escapes(tmp_path, capsys):
    path = tmp_path / "step-00000012.safetensors"
    evil = "\x1b]0;title\x07\n\u202e"
    config = {"preset": ["small"], "out": "--help", "records": evil, evil: evil}
    tensors = {
        f"network.{evil}": np.ones(3, np.float32),
        evil: np.ones(2, np.float32),
        "loss_scale.scale": np.ones(2, np.float32),
    }
    fields = make_info(config=config, records_digest=evil, normalization={evil: [1]})
    save_checkpoint(path, fields, tensors)
    for place in (path, tmp_path):
        code, text = info(capsys, place)
        assert code == 0 and "\\x1b]0;title\\x07\\n\\u202e: " in text
        assert all(line.isprintable() for line in text.splitlines() if "checking" not in line)
    save_checkpoint(path, dataclasses.replace(fields, config={"preset": "small", "out": "--help", "records": None}), tensors)
    code, text = info(capsys, path)
    assert code == 0 and "settings (* differs from preset small)" in text
