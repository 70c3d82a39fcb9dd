"""The READMEs are correct: their commands run on small data, their options and files exist, and their option tables are current."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import combined_data
import cv2
import format_files
import metric_data
import mindspore as ms
import numpy as np
import option_tables
import original_networks
import pytest
import yaml
from calibration_data import write_calibratable
from exported_data import export, save_network
from safetensors.numpy import save_file

from pipeline.__main__ import COMMANDS
from pipeline.cli import main
from pipeline.skeletons import read_skeleton
from pipeline.synthetic.config import SynthesizeConfig
from pipeline.synthetic.synthesize import run as synthesize
from trainer.weights.layouts import vgg

ROOT = Path(__file__).parents[1]
STAGES = option_tables.STAGES
READMES = {path: (ROOT / path).read_text() for path in ("README.md", *(f"{stage}/README.md" for stage in STAGES))}
MAX_LINES = 220
EXAMPLES = ("data_cards/factory.md",)  # files that the reader creates
# Options of every command, of pip, pytest, dask, msrun and ruff, of other programs, and of the scripts in tests/.
OTHER_OPTIONS = {
    *("--help", "--config", "--preset", "--quiet", "--editable", "--nthreads", "--nworkers", "--join", "--cov", "--check"),
    *("--no-compile", "--no-deps", "--write", "--write_json", "--ntasks-per-node", "--kills", "--pytorch"),
}
# Options that make a command small. They are appended to it; the last of two equal options counts.
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
    "check-device": shlex.split("--only versions"),
    "bench-decode": shlex.split("--num-images 2 --repeats 1"),
    "bench-predict": shlex.split("--insize 64 --num-images 2 --repeats 1"),
    "import": ["--overwrite"],
    # A network of two steps finds nobody.
    "calibrate": shlex.split("--evaluation scored/ap --annotations scored/annotations.json --checkpoint scored/run"),
    "tune": shlex.split("--annotations scored/annotations.json --images scored/images"),
    "synthesize": shlex.split("--num-images 2"),
    "live": shlex.split("--port 0"),
}
SMALL_CLIPS = shlex.split("--num-clips 1 --num-frames 4 --width 320 --height 240")


def commands(text: str) -> list[str]:
    """The lines of a README's code blocks that call a stage or `python -c`, without their comments."""
    blocks = text.split("\n```")[1::2]  # between fences; the first line of a block is its language, if any
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()[1:]]
    return [line for line in lines if re.match(rf"python -(m ({'|'.join(STAGES)})\b|c )", line)]


# In the order of the READMEs, each once. Those that name HEAD need several hosts: tests/pipeline/test_engine.py covers them.
RUNNABLE = [line for line in dict.fromkeys(line for text in READMES.values() for line in commands(text)) if "HEAD" not in line]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    """A folder that holds small versions of everything the READMEs mention."""
    folder = tmp_path_factory.mktemp("readme")
    for split, count in (("train", 12), ("val", 4)):
        people = folder / split
        synthesize(SynthesizeConfig(out=people, num_images=count, split=split, width=160, height=120, jobs=1))
        shutil.copytree(people, folder / "coco", dirs_exist_ok=True)
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
        for place, before, after in zip(vgg.PLACES, channels, channels[1:], strict=False)
    ]
    ms.save_checkpoint(weights, str(folder / "vgg19.ckpt"))
    original = original_networks.Lightweight(seed=0)
    original.stages(np.zeros((8, 8, 3), np.uint8))
    save_file(original.tensors, folder / "checkpoint_iter_370000.pth")
    format_files.lsp(
        folder / "lspet", np.random.default_rng(0).uniform(5, 40, (14, 3, 3)).round() % 40 * [[[1], [1], [0]]] + [[[0], [0], [1]]]
    )
    _build_others(folder)
    write_calibratable(folder / "scored")
    (folder / "scored/images").mkdir()
    for number in range(1, 61):
        cv2.imwrite(str(folder / f"scored/images/{number}.jpg"), np.zeros((300, 900, 3), np.uint8))
    _write_sources(folder)
    for name in ("crowdpose", "mpii", "posetrack"):
        (folder / name).mkdir()
        path, results = getattr(metric_data, name)(folder / name)
        path.rename(folder / name / "annotations.json")
        (folder / name / "results.json").write_text(json.dumps(results))
    return folder


def _write_sources(folder: Path) -> None:
    """The file of `build --sources` that pipeline/README.md shows, and its second data set."""
    block = next(block for block in READMES["pipeline/README.md"].split("\n```\n") if block.startswith("sources:"))
    (folder / "sources.yaml").write_text(block)
    (folder / "sport.yaml").write_text(yaml.safe_dump(combined_data.STICK))
    shutil.copytree(folder / "coco/train2017", folder / "sport/images")
    shutil.copy(folder / "coco/annotations/person_keypoints_train2017.json", folder / "sport/annotations.json")
    combined_data.label_stick_figures(folder / "sport/annotations.json")


def _build_others(folder: Path) -> None:
    """Record sets without images of `records`, for the commands that compare sets."""
    annotations, images = folder / "coco/annotations/person_keypoints_val2017.json", folder / "coco/val2017"
    words = ["build", "--annotations", str(annotations), "--images", str(images), "--out", str(folder / "val-records")]
    assert main("test", "", COMMANDS, [*words, *SMALL["build"]]) == 0
    for name in ("test-records", "other-records"):
        shutil.copytree(folder / "val-records", folder / name)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=pytest.mark.long)
        if re.search("--workers|--validate-annotations|bench-predict|evaluator tune", command)
        else command
        for command in RUNNABLE
    ],
    ids=lambda command: " ".join(command.split()[2:4]),
)
def test_every_command_runs(workspace, command):
    if (
        "--records records" in command and not (workspace / "records").exists()
    ):  # `-m long` leaves out the command that builds them
        run_command(workspace, next(line for line in RUNNABLE if line.startswith("python -m pipeline build ")))
    run_command(workspace, command)


def run_command(workspace: Path, command: str) -> None:
    words = shlex.split(command)
    small = SMALL_CLIPS if "synthesize --video" in command else SMALL.get(words[3], []) if words[1] == "-m" else []
    words = [sys.executable, *words[1:], *small]
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(workspace)}
    done = subprocess.run(words, cwd=workspace, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_readme_shows_every_command_of_its_stage(stage):
    shown = {tuple(line.split()[:4]) for text in READMES.values() for line in commands(text)}
    missing = [
        words for words in option_tables.commands(stage) if words.startswith("python") and tuple(words.split()) not in shown
    ]
    if stage == "data_cards":  # `python -m data_cards RECORDS` is short for `write RECORDS`
        missing = [words for words in missing if not words.endswith(" write")]
    assert not missing


def test_the_readme_is_short_and_has_both_commands():
    text = READMES["README.md"]
    install = "python3 -m venv .venv && .venv/bin/pip install --quiet --editable '.[test]' && .venv/bin/"
    assert len(text.splitlines()) <= MAX_LINES
    assert f"\n{install}openpose-quickstart\n" in text and f"\n{install}python -m pytest\n" in text


def test_the_skeleton_of_the_readme_is_valid(tmp_path):
    block = next(block for block in READMES["README.md"].split("\n```\n") if block.startswith("name: "))
    (tmp_path / "skeleton.yaml").write_text(block)
    assert read_skeleton(tmp_path / "skeleton.yaml").num_joints == 5


def known_options() -> set[str]:
    """Every option of every command, with aliases and `--no-` forms."""
    configs = [config for stage in STAGES for config in option_tables.commands(stage).values()]
    names = {name for config in configs for option in option_tables.all_options(config) for name in option.names}
    return names | {name.replace("--", "--no-", 1) for name in names}


@pytest.mark.parametrize("path", READMES)
def test_every_option_in_a_readme_exists(path):
    text = re.sub(r"`msrun [^`]*`", "", READMES[path])
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9_-]*(?![\w-])", text))
    assert mentioned <= known_options() | OTHER_OPTIONS


@pytest.mark.parametrize("path", READMES)
def test_every_file_that_a_readme_names_exists(path):
    text = READMES[path]
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text) if "://" not in link]
    assert not [link for link in links if not (ROOT / path).parent.joinpath(link).exists()]
    named = re.findall(r"(?<![\w/.-])((?:pipeline|trainer|evaluator|data_cards|tests)/[\w./]*\w/?)(?![\w/*])", text)
    assert not [name for name in named if not (ROOT / name).exists() and name not in EXAMPLES]


@pytest.mark.parametrize("path", READMES)
def test_every_link_to_a_heading_has_its_heading(path):
    for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", READMES[path]):
        target = (ROOT / path).parent / link if link else ROOT / path
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in anchors, f"{path}: {link}#{anchor}"


@pytest.mark.parametrize("stage", STAGES)
def test_option_tables_are_up_to_date(stage):
    text = READMES[f"{stage}/README.md"]
    advice = "run `python tests/support/option_tables.py --write`"
    assert option_tables.with_tables(text, stage) == text, advice


@pytest.mark.parametrize("stage", STAGES)
def test_option_tables_name_and_explain_every_option(stage):
    for words, config in option_tables.commands(stage).items():
        for option in option_tables.all_options(config):
            assert option.help and option.names, f"{words}: {option.field} has no docstring"


@pytest.mark.slow
def test_the_python_example_runs(workspace, tmp_path):
    """As a notebook does: one block after the other."""
    text = READMES["evaluator/README.md"].partition("## Use it from Python")[2].partition("### Predict without")[0]
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    for name in ("holiday.jpg", "pictures"):
        (tmp_path / name).symlink_to(workspace / name)
    export(save_network(tmp_path), tmp_path / "openpose.onnx")
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "\n".join(blocks)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "score " in done.stdout and "nose: " in done.stdout and "pictures/" in done.stdout
