"""The README is true: its commands run as they stand (on small data), its options exist, and every option stands in it.

`python tests/test_readme.py` prints the table of all options, to be put into the README.
"""

import dataclasses
import re
import shlex
import shutil
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
import pytest
import tyro

from pipeline.synthetic.synthesize import SynthesizeConfig
from pipeline.synthetic.synthesize import run as synthesize
from trainer.weights import vgg19

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
STAGES = ("pipeline", "trainer", "evaluator", "data_cards")
# Of every command, and of pip, dask and msrun, which the README names too.
FOREIGN = {"--help", "--config", "--preset", "--quiet", "--editable", "--nthreads", "--nworkers", "--join"}
# What makes a command of the README small; behind its own words, where the last of an option counts.
TINY_NETWORK = shlex.split("--num-stages 2 --stage-channels 4 --stage1-hidden-channels 4 --neck-channels 4 --kernel-size 3")
SMALL = {
    "build": shlex.split("--insize 64 --jobs 1 --min-joints 1 --min-area-px 0"),
    "bench-build": shlex.split("--insize 64 --num-images 2 --variants 1"),
    "bench-plan": shlex.split("--num-images 20 --num-people 40 --seconds 0.1"),
    "train": [*TINY_NETWORK, *shlex.split("--max-steps 2 --batch-size 2 --no-check-memory")],
    "bench-stream": shlex.split("--seconds 0.1 --insize 64"),
    "bench-step": [
        *shlex.split("--insize 64 --num-steps 1 --only forward --architecture openpose --backbone-channels"),
        *["4"] * 10,
        *TINY_NETWORK,
    ],
    "launch": [*TINY_NETWORK, *shlex.split("--max-steps 2 --batch-size 1 --no-check-memory")],
    "simulate": shlex.split("--num-images 40 --shards 2 --ranks 2"),
    "stress": shlex.split("--faults weak"),
    "bench-decode": shlex.split("--num-images 2 --repeats 1"),
    "synthesize": shlex.split("--num-images 2"),
}


def commands() -> list[str]:
    """The lines of the README's blocks that call a stage, without their comments."""
    blocks = README.split("\n```")[1::2]  # between fences; the first line is the language, or nothing
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()[1:]]
    return list(dict.fromkeys(line for line in lines if re.match(rf"python -m ({'|'.join(STAGES)})\b", line)))


RUNNABLE = [command for command in commands() if "HEAD" not in command]  # that needs several machines: see test_engine


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder in which all that the README speaks of is there, only smaller."""
    folder = tmp_path_factory.mktemp("readme")
    for split, count in (("train", 12), ("val", 4)):
        made = folder / split
        synthesize(SynthesizeConfig(out=made, num_images=count, split=split, width=160, height=120, jobs=1))
        shutil.copytree(made, folder / "coco", dirs_exist_ok=True)
    (folder / "ANNOTATIONS").symlink_to("coco/annotations/person_keypoints_train2017.json")
    (folder / "IMAGES").symlink_to("coco/train2017")
    shutil.copytree(folder / "coco/val2017", folder / "pictures")
    picture = cv2.imread(str(next((folder / "pictures").iterdir())))
    cv2.imwrite(str(folder / "holiday.jpg"), picture)
    video = cv2.VideoWriter(str(folder / "holiday.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, picture.shape[1::-1])
    for _ in range(3):
        video.write(picture)
    video.release()
    rng, channels = np.random.default_rng(0), (3, 64, 64, 128, 128, 256, 256, 256, 256, 512, 512)
    weights = [
        {"name": f"layers.{place}.weight", "data": ms.Tensor(rng.normal(0, 0.02, (after, before, 3, 3)).astype(np.float32))}
        for place, before, after in zip(vgg19.PLACES, channels, channels[1:], strict=False)
    ]
    ms.save_checkpoint(weights, str(folder / "vgg19.ckpt"))
    return folder


@pytest.mark.parametrize("command", RUNNABLE)
def test_every_command_runs(workspace, command):
    words = shlex.split(command)
    words = [sys.executable, *words[1:], *SMALL.get(words[3], [])]
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(workspace)}
    done = subprocess.run(words, cwd=workspace, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_readme_has_commands_of_every_stage():
    assert {command.split()[2] for command in RUNNABLE} == set(STAGES) and len(RUNNABLE) >= 12


def options_of(config: type) -> set[str]:
    """All option names of a command, with their aliases."""
    names, hints = set(), typing.get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        kind, *extras = (
            typing.get_args(hints[field.name])
            if typing.get_origin(hints[field.name]) is typing.Annotated
            else (hints[field.name],)
        )
        if dataclasses.is_dataclass(kind):
            names |= options_of(kind)
            continue
        for extra in extras:
            names |= set(getattr(extra, "aliases", None) or ())
        if tyro.conf.Positional not in extras and field.name != "preset":
            names.add("--" + field.name.replace("_", "-"))
    return names


def all_options() -> dict[str, set[str]]:
    """Options by command."""
    found = {}
    for stage in STAGES:
        for name, command in import_module(f"{stage}.__main__").COMMANDS.items():
            module, kind = command.config.split(":")
            found[f"{stage} {name}"] = options_of(getattr(import_module(module), kind))
    return found


def options_table() -> str:
    """The README's table of all options."""
    rows = [f"| `{command}` | {' '.join(f'`{name}`' for name in sorted(names))} |" for command, names in all_options().items()]
    return "\n".join(["| `python -m` | options |", "| --- | --- |", *rows])


def test_every_option_of_the_readme_exists():
    known = set().union(*all_options().values())
    known |= {name.replace("--", "--no-", 1) for name in known}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*(?![\w-])", README)) <= known | FOREIGN


def test_every_option_stands_in_the_readme():
    assert options_table() in README


if __name__ == "__main__":
    print(options_table())
