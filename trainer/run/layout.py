"""Names of the files in a run folder (the --out of `train`). Imports nothing else of this project.

RUN/config.yaml                 resolved configuration, readable by --config
    train.lock                  held by the process that trains, removed at its end
    log.jsonl                   one JSON line per log interval
    step-NNNNNNNN.safetensors   checkpoints; N = digits of the step
    best.safetensors            the checkpoint with the highest AP (--validate-annotations); never deleted
    transfer.json               what each layer took from another network (--pretrained-model-path)
    schedule.png                learning rates of the whole run
    curves.png                  curves of the log, drawn at the end of the run and by `plot`
    pictures/step-NNNNNNNN.jpg  ground truth and predictions of a few samples (--picture-interval)
    tensorboard/                TensorBoard event files (--tensorboard)
    profile/                    traces of some steps (--profile)
RUN.ranks/                      output of each process of `launch`
"""

from pathlib import Path

CONFIG = "config.yaml"
LOCK = "train.lock"
LOG = "log.jsonl"
SCHEDULE = "schedule.png"
TRANSFER = "transfer.json"
CURVES = "curves.png"
PICTURES = "pictures"
TENSORBOARD = "tensorboard"
PROFILE = "profile"
CHECKPOINT_SUFFIX = ".safetensors"
BEST = f"best{CHECKPOINT_SUFFIX}"


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return Path(folder) / f"step-{step:08d}{CHECKPOINT_SUFFIX}"


def checkpoint_files(folder: Path) -> list[Path]:
    """Return all files of a folder that have the suffix of a checkpoint, readable or not, by name."""
    return sorted(Path(folder).glob(f"*{CHECKPOINT_SUFFIX}"))


def picture_path(folder: Path, step: int) -> Path:
    """Return the path of the picture of a step."""
    return Path(folder) / PICTURES / f"step-{step:08d}.jpg"


def ranks_folder(folder: Path) -> Path:
    """Return the folder, beside the run, of the logs of all processes of `launch`."""
    return folder.with_name(f"{folder.name}.ranks")
