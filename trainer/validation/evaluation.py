"""The process that computes the AP of a checkpoint: the command `run` of the evaluator, which is not imported here.

It takes no part in the training: it reads a checkpoint, has its own device, and frees its memory when it ends.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Required, TypedDict

from pipeline.cli import as_options
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.datasets.file_skeleton import view_of_file
from pipeline.errors import UserError
from pipeline.runtime.processes import failure, running
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Finite, read_json
from pipeline.storage.files import file_facts, require_folder, temporary_path
from pipeline.wording import counted, printable
from trainer.distributed.world import outside_of_world
from trainer.run.validations import NEEDED
from trainer.validation.config import ValidateConfig


class _Metrics(TypedDict, total=False):
    """What is read of metrics.json."""

    figures: Required[dict[str, Finite]]


def check(config: ValidateConfig, skeleton: Skeleton) -> tuple[str, int]:
    """Check the data before training begins. Returns its digest, see `Validation.data`, and the number of images.

    Raises UserError, naming file and field, for annotations that `run` would refuse, and for missing images.
    """
    annotations, folder = config.validate_annotations, config.validate_images
    assert annotations is not None and folder is not None, "the options require both"
    document = CocoFile(annotations, skeleton, view=view_of_file)
    require_folder(folder, "--validate-images")
    images = choose_images(document, config.validate_max_images)
    missing = [image.file_name for image in images if not (folder / image.file_name).is_file()]
    if missing:
        raise UserError(
            f"--validate-images {folder}: lacks {len(missing):,} of {counted(len(images), 'image')} of {annotations}, such as "
            f"{printable(missing[0])}; check the folder"
        )
    if not any(entry.is_labeled_person for image in images for entry in document.annotations.get(image.id, [])):
        raise UserError(f"annotation file {annotations}: no person has labeled keypoints, so there is no AP; use another file")
    decisive = [file_facts(annotations)["sha256"], config.validate_max_images, config.validate_insize]
    return hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:16], len(images)


class Evaluation:
    """A running process. `process`: poll it. `figures`: read them when it has ended."""

    def __init__(self, process: subprocess.Popen, out: Path, said: deque[str]) -> None:
        self.process, self._out, self._said = process, out, said

    def figures(self) -> dict[str, float]:
        """Return COCO's metrics. Raises UserError with the reason why the process failed."""
        if code := self.process.returncode:
            raise UserError(failure(code, self._said[0]))
        path = self._out / "metrics.json"
        figures: dict[str, float] = read_json(path, "metrics", _Metrics)["figures"]
        if missing := [name for name in NEEDED if name not in figures]:
            raise UserError(f"metrics {path}: figures: missing required field `{missing[0]}`")
        return figures


@contextmanager
def evaluating(config: ValidateConfig, checkpoint: Path) -> Iterator[Evaluation]:
    """Evaluate a checkpoint in another process, which ends with the block at the latest. Leaves nothing behind."""
    assert config.validate_annotations is not None and config.validate_images is not None, "the options require both"
    folder = temporary_path(checkpoint.with_name("validation"))
    options = {
        "checkpoint": checkpoint.absolute(),
        "annotations": config.validate_annotations.absolute(),
        "images": config.validate_images.absolute(),
        "out": folder.absolute() / "out",
        "max_images": config.validate_max_images,
        "insize": config.validate_insize,
        "device_target": config.validate_device_target,
        "device_id": config.validate_device_id,
        "pictures": 0,
    }
    command = [sys.executable, "-m", "evaluator", "run", *as_options({n: v for n, v in options.items() if v is not None})]
    said = deque([""], maxlen=1)  # the last line is the error
    folder.mkdir()
    try:
        with running(command, said.append, stdout=subprocess.DEVNULL, env=outside_of_world(os.environ)) as process:
            yield Evaluation(process, folder / "out", said)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
