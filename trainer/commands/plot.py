"""The command `plot`: the curves of runs as one picture. Imports matplotlib only to draw."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.errors import UserError
from pipeline.storage.files import write_atomic
from trainer.run.curves import draw_curves
from trainer.run.layout import CURVES
from trainer.run.log import log_faults


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """Draw the curves of one or more runs from their log.jsonl.

    Panels: loss of each stage and branch, learning rates, images per second, data wait, and gradient norm. With several runs,
    each run has one color.

    Example: python -m trainer plot runs/first

    Several: python -m trainer plot runs/first runs/second --out both.png
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run folders."""
    out: Path | None = None
    """Picture to write (PNG). Default: curves.png in the first run folder."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs must be at least one folder, got none")
        if self.out is not None and self.out.suffix != ".png":
            raise ValueError(f"out must be a file name that ends in .png, got {self.out}")


def run(config: PlotConfig) -> int:
    """Run the command `plot`. Raises UserError for a run without a log."""
    out = config.out or config.runs[0] / CURVES
    picture = draw_curves(list(config.runs))
    try:
        write_atomic(out, picture)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
    for fault in (fault for folder in config.runs for fault in log_faults(folder)):
        print(f"warning: {fault}; line left out", file=sys.stderr)
    print(out)
    return 0
