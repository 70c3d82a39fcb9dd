"""The command `plot`: the curves of runs as one picture. matplotlib is loaded only to draw."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.errors import UserError
from pipeline.files import write_atomic
from trainer.run.log import LOG, read_log, scalars

CURVES, SCHEDULE = "curves.png", "schedule.png"
DOTS_PER_INCH = 110
MAX_POINTS = 2_000  # of the drawn schedule

Curves = dict[str, tuple[list[int], list[float]]]
"""Steps and values by the names of `trainer.run.log.scalars`."""


@dataclass(frozen=True, kw_only=True)
class PlotConfig:
    """Draw the curves of one or several runs from their log.jsonl: loss of every stage and branch, learning rates, images a second,
    data wait, and the norm of the gradients where the log has it. Of several runs every one has its own color.

    Example: python -m trainer plot runs/first

    Several: python -m trainer plot runs/first runs/second --out both.png
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Folders of runs."""
    out: Path | None = None
    """The picture (PNG). Default: curves.png in the first run."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs must be at least one folder, got none")
        if self.out is not None and self.out.suffix != ".png":
            raise ValueError(f"out must be a file name that ends in .png, got {self.out}")


def run(config: PlotConfig) -> int:
    """The command `plot`. Raises UserError for a run without a log."""
    out = config.out or config.runs[0] / CURVES
    write_atomic(out, draw_curves(list(config.runs)))
    print(out)
    return 0


def read_curves(folder: Path) -> Curves:
    """The curves of a run. Raises UserError where it has none."""
    curves: Curves = {}
    try:
        for entry in read_log(folder):
            for name, value in scalars(entry).items():
                steps, values = curves.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(value)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"run {folder}: {LOG} is not a log of this trainer ({error!r})") from error
    if not curves:
        raise UserError(f"run {folder}: no lines in {LOG}; give the --out folder of a training that has logged something")
    return curves


def draw_curves(folders: list[Path]) -> bytes:
    """One picture, PNG, of the curves of several runs. Raises UserError where one has none."""
    runs = {str(folder): read_curves(folder) for folder in folders}
    names = set().union(*runs.values())
    panels: list[tuple[str, Callable[[str], bool], bool]] = [
        ("loss, all stages", lambda name: name == "loss/all", True),
        ("loss of heatmaps", lambda name: name.endswith("_heatmap"), True),
        ("loss of PAFs", lambda name: name.endswith("_paf"), True),
        ("learning rates", lambda name: name.startswith("lr/"), False),
        ("images a second", lambda name: name == "imgs_per_sec", False),
        ("share of time waiting for data", lambda name: name == "data_wait", False),
        ("norm of the gradients", lambda name: name == "gradient_norm", True),
    ]
    panels = [panel for panel in panels if any(map(panel[1], names))]
    figure = _figure(len(panels))
    for axes, (title, belongs, logarithmic) in zip(figure.axes, panels, strict=True):
        _draw_panel(axes, {run: {n: c for n, c in curves.items() if belongs(n)} for run, curves in runs.items()})
        axes.set_title(title)
        if logarithmic:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
    return _png(figure)


def draw_schedule(rates: Callable, total_steps: int, marked: list[int]) -> bytes:
    """The learning rates, PNG; `rates` is a function of the step, drawn from 0 to the last of `total_steps`, exact at `marked`."""
    last = max(total_steps - 1, 0)
    grid = {round(last * i / MAX_POINTS) for i in range(MAX_POINTS + 1)}
    steps = sorted(grid | {near for step in marked for near in (step - 1, step) if 0 <= near <= last})
    drawn = [rates(step) for step in steps]
    figure = _figure(1)
    (axes,) = figure.axes
    for name in drawn[0]._fields:
        axes.plot(steps, [getattr(values, name) for values in drawn], label=name)
    axes.set_title("learning rates")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _png(figure)


def _draw_panel(axes, runs: dict[str, Curves]) -> None:
    """All curves of a panel: of one run a color for each, of several a color for each run and a line style for each curve."""
    styles = ("-", "--", "-.", ":")
    for number, (run, curves) in enumerate(runs.items()):
        for i, (name, (steps, values)) in enumerate(sorted(curves.items())):
            several = len(runs) > 1
            own = name.removeprefix("loss/").removeprefix("lr/")
            shown = f"{Path(run).name}: {own}" if several and len(curves) > 1 else Path(run).name if several else own
            axes.plot(
                steps, values, label=shown, linewidth=1.2, marker="." if len(steps) == 1 else None,
                color=f"C{number if several else i}", linestyle=styles[i % len(styles)] if several else "-",
            )  # fmt: skip
    if sum(map(len, runs.values())) > 1:
        axes.legend(fontsize="x-small")


def _figure(num_panels: int):
    """A figure without a screen (Agg), with so many panels in at most two columns."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_columns = min(num_panels, 2)
    num_rows = -(-num_panels // num_columns)
    figure = Figure(figsize=(7 * num_columns, 3.2 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i in range(num_panels):
        axes = figure.add_subplot(num_rows, num_columns, i + 1, xlabel="step")
        axes.grid(alpha=0.3)
    return figure


def _png(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()
