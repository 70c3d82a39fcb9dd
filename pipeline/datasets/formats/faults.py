"""Faults of a source: what was left out or corrected, counted by kind, listed, and limited by --max-faulty."""

import math
from collections import Counter
from dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.wording import counted, plural, printable

# Images and annotations that are left out. Values: what is counted.
DROPPED = {
    "image missing": "image",
    "image unreadable": "image",
    "image of another size than annotated": "image",
    "image listed twice": "image",
    "image outside the image folder": "image",
    "annotation without image": "annotation",
    "wrong number of joints": "annotation",
    "not a finite number": "annotation",
    "neither keypoints nor a box": "annotation",
    "joint labeled twice": "annotation",
}
# What is corrected, without a limit.
CORRECTED = {
    "joint outside the image, now unlabeled": "joint",
    "box reaches outside the image, now cut": "box",
    "segmentation unusable, now the box": "segmentation",
    "unknown label, left out": "label",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """kind: a key of DROPPED or CORRECTED. where: the entry of the source. detail: what was found there."""

    kind: str
    where: str
    detail: str


class Faults:
    """Collects the faults of a source."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(self, kind: str, where: str, detail: str = "") -> None:
        """Note a fault. kind: a key of DROPPED or CORRECTED."""
        assert kind in DROPPED or kind in CORRECTED, kind
        self.found.append(Fault(kind=kind, where=printable(where), detail=printable(detail)))

    def dropped(self, unit: str) -> int:
        """Return how many images or annotations were left out. unit: a value of DROPPED."""
        return sum(DROPPED.get(fault.kind) == unit for fault in self.found)

    def lines(self) -> list[str]:
        """Return one line per kind that occurred, with the first example."""
        lines = []
        for kind, unit in (DROPPED | CORRECTED).items():
            if faults := [fault for fault in self.found if fault.kind == kind]:
                first = faults[0]
                lines.append(
                    f"  {kind}: {counted(len(faults), unit)}, first: {first.where}{first.detail and f' ({first.detail})'}"
                )
        return lines

    def table(self) -> str:
        """Return all faults as the text of a TSV file."""
        rows = (f"{fault.kind}\t{fault.where}\t{fault.detail}\n" for fault in self.found)
        return "".join(["fault\twhere\tdetail\n", *rows])

    def require_few(self, totals: dict[str, int], max_faulty: float, where: str) -> None:
        """Raise UserError, which begins with `where`, if more images or annotations were left out than `max_faulty` allows.

        totals: number of all entries of the source, by unit (image, annotation).
        """
        for unit, total in totals.items():
            faults = [fault for fault in self.found if DROPPED.get(fault.kind) == unit]
            if not faults or len(faults) <= max_faulty * total:
                continue
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(fault.kind for fault in faults).items())
            share = min(math.ceil(100 * len(faults) / max(total, 1)) / 100, 1)
            first = f"{faults[0].where}{faults[0].detail and f' ({faults[0].detail})'}"
            raise UserError(
                f"{where}: {len(faults):,} of {counted(total, unit)} are faulty ({kinds}), more than --max-faulty {max_faulty:g} "
                f"allows; first: {first}; give the right --images or restore the {plural(unit)}, or leave the faulty ones out with "
                f"--max-faulty {share:g}"
            )
