"""Curves of runs and the learning-rate schedule as PNG pictures. Imports matplotlib only to draw."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.errors import UserError
from pipeline.storage.files import require_folder, write_atomic
from trainer.run.layout import LOG
from trainer.run.log import VALIDATION, log_faults, read_log, scalars

if TYPE_CHECKING:  # imports mindspore
    from trainer.loop.optimizer import LearningRates

DOTS_PER_INCH = 110
MAX_POINTS = 2_000  # of the schedule
APS = tuple(VALIDATION + name for name in ("AP", "AP.5", "AP.75"))

Curves = dict[str, tuple[list[int], list[float]]]
"""Steps and values by the names of `trainer.run.log.scalars`."""

# Title, which curves belong to the panel, and its vertical axis.
PANELS: list[tuple[str, Callable[[str], bool], Literal["logarithmic", "from 0", "percent"]]] = [
    ("loss, all stages", lambda name: name == "loss/all", "logarithmic"),
    ("AP on the validation images", lambda name: name in APS, "from 0"),
    ("loss of heatmaps", lambda name: name.endswith("_heatmap"), "logarithmic"),
    ("loss of PAFs", lambda name: name.endswith("_paf"), "logarithmic"),
    ("learning rates", lambda name: name.startswith("lr/"), "from 0"),
    ("images per second", lambda name: name == "imgs_per_sec", "from 0"),
    ("time in which the device waits", lambda name: name in ("data_wait", "host_wait"), "percent"),
    ("gradient norm", lambda name: name == "gradient_norm", "logarithmic"),
]


def write_picture(path: Path, draw: Callable[[], bytes]) -> None:
    """Write a picture, or print why it could not be drawn: an error in drawing must not end a training run.

    A missing folder is not created: that of a run could have been deleted, and training would go on in an empty one.
    """
    try:
        write_atomic(path, draw(), creates_folder=False)
    except Exception as error:
        print(f"warning: {path.name} was not drawn: {error!r}", flush=True)


def read_curves(folder: Path) -> Curves:
    """Return the curves of a run. Raises UserError if its log has no entries or is not a log of this trainer."""
    curves: Curves = {}
    try:
        for entry in read_log(folder):
            for name, value in scalars(entry).items():
                steps, values = curves.setdefault(name, ([], []))
                steps.append(entry["step"])
                values.append(value)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"run {folder}: {LOG} is not a log of this trainer ({error!r}); give another run folder") from error
    if not curves:
        require_folder(folder, "run folder")
        fault = next(iter(log_faults(folder)), f"no entries in {LOG}")
        raise UserError(f"run {folder}: {fault}; give the --out folder of a run that has logged at least one line")
    return curves


def draw_curves(folders: list[Path]) -> bytes:
    """Return one PNG with the curves of all runs. Raises UserError for a run without a log."""
    runs = {str(folder): read_curves(folder) for folder in folders}
    names = set().union(*runs.values())
    panels = [panel for panel in PANELS if any(map(panel[1], names))]
    figure = _figure(len(panels))
    for axes, (title, belongs, scale) in zip(figure.axes, panels, strict=True):
        _draw_panel(axes, {run: {n: c for n, c in curves.items() if belongs(n)} for run, curves in runs.items()})
        axes.set_title(title)
        if scale == "logarithmic":
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        if scale == "percent":
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    return _png(figure)


def draw_metrics(curves: Curves) -> bytes:
    """Return a PNG of metrics from 0 to 1 over the steps of a run."""
    figure = _figure(1)
    (axes,) = figure.axes
    for name, (steps, values) in curves.items():
        axes.plot(steps, values, label=name, marker="o", markersize=3)
    axes.set_ylim(0, 1)
    axes.legend()
    return _png(figure)


def draw_schedule(rates: "Callable[[int], LearningRates]", total_steps: int, break_points: list[int]) -> bytes:
    """Return a PNG of the learning rates from step 0 to the last of `total_steps`; jumps at `break_points` are exact."""
    last = max(total_steps - 1, 0)
    grid = {round(last * i / MAX_POINTS) for i in range(MAX_POINTS + 1)}
    steps = sorted(grid | {near for step in break_points for near in (step - 1, step) if 0 <= near <= last})
    drawn = [rates(step) for step in steps]
    figure = _figure(1)
    (axes,) = figure.axes
    for name in drawn[0]._fields:
        axes.plot(steps, [getattr(values, name) for values in drawn], label=name)
    axes.set_title("learning rates")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _png(figure)


def _draw_panel(axes: Any, runs: dict[str, Curves]) -> None:
    """Draw all curves of a panel. One run: a color per curve. Several: a color per run and a line style per curve."""
    styles = ("-", "--", "-.", ":")
    are_several = len(runs) > 1
    for number, (run, curves) in enumerate(runs.items()):
        for i, (name, (steps, values)) in enumerate(sorted(curves.items())):
            curve = name.removeprefix("loss/").removeprefix("lr/").removeprefix(VALIDATION)
            is_sparse = len(steps) == 1 or name in APS
            if are_several:
                folder = Path(run).name.replace("$", r"\$")  # or matplotlib reads a formula
                curve = f"{folder}: {curve}" if len(curves) > 1 else folder
            axes.plot(
                steps, values, label=curve, linewidth=1.2, marker="." if is_sparse else None,
                color=f"C{number if are_several else i}", linestyle=styles[i % len(styles)] if are_several else "-",
            )  # fmt: skip
    if sum(map(len, runs.values())) > 1:
        axes.legend(fontsize="x-small")


def _figure(num_panels: int) -> Any:
    """Return a matplotlib Figure that needs no display (Agg), with its panels in at most two columns."""
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


def _png(figure: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DOTS_PER_INCH)
    return stream.getvalue()
