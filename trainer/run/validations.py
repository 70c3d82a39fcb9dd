"""Validations of a run: which checkpoint is the best, and when the run has stopped improving. Imports nothing heavy.

A checkpoint holds the validations before it, and log.jsonl the one of the checkpoint itself, which is computed after it is written.
What a run decides follows from these alone, so that a resumed run decides the same.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.storage.documents import Count, Finite
from pipeline.storage.files import append
from trainer.run.layout import LOG

AP = "AP"
NEEDED = (AP, "AP .5")  # figures that are always there


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The metrics of the weights after `step` steps."""

    step: Count
    figures: dict[str, Finite]
    """COCO's metrics by name, as in metrics.json of `python -m evaluator run`."""
    data: str
    """Digest of the annotation file and the options; only validations with the same one are compared."""

    def __post_init__(self) -> None:
        if missing := [name for name in NEEDED if name not in self.figures]:
            raise ValueError(f"figures must contain {missing[0]!r}")


def best_of(validations: Sequence[Validation]) -> Validation | None:
    """Return the validation with the highest AP, of equal ones the first, but the last one while AP is 0; None if there are none."""

    def rank(validation: Validation) -> tuple[float, int]:
        ap = validation.figures[AP]
        return ap, -validation.step if ap > 0 else validation.step

    return max(validations, key=rank, default=None)


def num_without_gain(validations: Sequence[Validation]) -> int:
    """Return the number of validations since the best one. An AP of 0 before the first gain does not count."""
    best = best_of(validations)
    if best is None or best.figures[AP] <= 0:
        return 0
    return sum(validation.step > best.step for validation in validations)


def describe(validations: Sequence[Validation]) -> str:
    """Return the terminal line of the last of some validations."""
    last, best = validations[-1], best_of(validations)
    assert best is not None, "there is at least one"
    note = "the best so far" if best is last else f"best so far: {best.figures[AP]:.4f} at step {best.step:,}"
    return f"step {last.step:,}: validation AP {last.figures[AP]:.4f}, AP .5 {last.figures['AP .5']:.4f}; {note}"


def write_entry(folder: Path, epoch: int, validation: Validation) -> dict[str, Any]:
    """Append a validation to RUN/log.jsonl and return its entry. epoch: that of the last step."""
    entry = {
        "epoch": epoch,
        "step": validation.step,
        "validation": validation.figures,
        "validation_data": validation.data,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    append(folder / LOG, json.dumps(entry) + "\n")
    return entry


def logged(entries: Sequence[dict[str, Any]], step: int) -> list[Validation]:
    """Return the validations of a step among the entries of log.jsonl."""
    return [
        Validation(step=step, figures=entry["validation"], data=entry["validation_data"])
        for entry in entries
        if entry["step"] == step and "validation_data" in entry and {*NEEDED} <= entry.get("validation", {}).keys()
    ]
