"""TensorBoard event files of a run: the numbers of log.jsonl. Needs the extra [tensorboard]."""

import os
import secrets
from pathlib import Path

from pipeline.errors import UserError
from pipeline.storage.files import space_errors
from trainer.run.layout import TENSORBOARD
from trainer.run.log import Entry, scalars


class EventWriter:
    """Writes the entries of the log to RUN/tensorboard.

    step: steps done so far. TensorBoard discards events of later steps, which a killed process left. Raises UserError if
    tensorboardX is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        require_tensorboard()
        from tensorboardX import SummaryWriter

        # tensorboardX names files by the second: a process started in the same second would overwrite the file.
        suffix = f".step-{step:08d}.{os.getpid()}-{secrets.token_hex(4)}"
        purge_step = step + 1 if step else None
        self._folder = Path(folder) / TENSORBOARD
        self._writer = SummaryWriter(str(self._folder), purge_step=purge_step, filename_suffix=suffix)

    def add(self, entry: Entry) -> None:
        """Write one entry of log.jsonl and flush it."""
        with space_errors(self._folder):
            for name, value in scalars(entry).items():
                self._writer.add_scalar(name, value, entry["step"])
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def require_tensorboard() -> None:
    """Raise UserError, naming the extra, if tensorboardX is not installed."""
    try:
        import tensorboardX  # noqa: F401 - only tests that it is installed
    except ImportError as error:
        raise UserError(
            f"--tensorboard: tensorboardX is not installed ({error}); run `pip install openpose-mindspore[tensorboard]` or drop "
            "the option"
        ) from error
