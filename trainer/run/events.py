"""TensorBoard event files of a run: the same numbers as log.jsonl. Needs the extra [tensorboard]."""

import os
import secrets
from pathlib import Path

from pipeline.errors import UserError
from trainer.run.log import scalars

FOLDER = "tensorboard"


class EventWriter:
    """Writes the entries of the log into RUN/tensorboard.

    `step` are done: TensorBoard forgets what was written of later steps by a process that was killed. Raises UserError where
    tensorboardX is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        require_tensorboard()
        from tensorboardX import SummaryWriter

        # Its own file names tell seconds only: a process that began in the same second would overwrite the file.
        suffix = f".step-{step:08d}.{os.getpid()}-{secrets.token_hex(4)}"
        purged = step + 1 if step else None
        self._writer = SummaryWriter(str(Path(folder) / FOLDER), purge_step=purged, filename_suffix=suffix)

    def add(self, entry: dict) -> None:
        """One entry of log.jsonl; on the disk when this returns."""
        for name, value in scalars(entry).items():
            self._writer.add_scalar(name, value, entry["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def require_tensorboard() -> None:
    """Raises UserError, naming the extra, where tensorboardX is not installed."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--tensorboard: tensorboardX is not installed ({error}); `pip install openpose-mindspore[tensorboard]`, or leave "
            "the option out"
        ) from error
