"""A table of people: one row per person and image, with the joints and the angles between limbs."""

import csv
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.predict.prediction import Prediction
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.wording import printable

ROWS_AT_ONCE = 4096  # of a Parquet file
_FIRST = ("file_name", "image_id", "frame", "seconds", "person_id", "score", "x", "y", "width", "height")
Angle = tuple[str, int, int, int]
"""Name of a column, and the joints: from the second to the first, and from the second to the third."""


def limb_angles(skeleton: Skeleton) -> list[Angle]:
    """Return the angles of a skeleton: at each joint between the limb that leads to it and those that go on from it.

    Limbs lead away from the joint with the most limbs, such as the neck. `left_elbow_degrees` is the angle at the left elbow; where
    several limbs go on from a joint, their ends are named, as in `left_shoulder_to_left_ear_degrees`.
    """
    limbs = skeleton.limb_joints.tolist()
    counts = np.bincount(skeleton.limb_joints.ravel(), minlength=skeleton.num_joints)
    before: dict[int, int | None] = {}
    for root in np.argsort(-counts, kind="stable").tolist():  # more than one only if the skeleton has several parts
        if root in before:
            continue
        before[root], waiting = None, [root]
        while waiting:
            joint = waiting.pop(0)
            for first, second in limbs:
                if joint in (first, second) and (other := second if joint == first else first) not in before:
                    before[other] = joint
                    waiting.append(other)
    after: dict[int, list[int]] = {}
    for joint, previous in before.items():
        if previous is not None and before[previous] is not None:
            after.setdefault(previous, []).append(joint)
    angles = []
    for joint, ends in sorted(after.items()):
        for end in sorted(ends):
            name = skeleton.joints[joint] + (f"_to_{skeleton.joints[end]}" if len(ends) > 1 else "")
            angles.append((f"{name}_degrees", before[joint] or 0, joint, end))
    return angles


def angle_degrees(keypoints: np.ndarray, angle: Angle) -> float | None:
    """Return the angle in the image, 0 to 180 (a straight limb); None if a joint is missing. keypoints: float (J, 3)."""
    first, middle, last = keypoints[list(angle[1:])]
    one, other = first[:2] - middle[:2], last[:2] - middle[:2]
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    if min(first[2], middle[2], last[2]) <= 0 or length == 0:
        return None
    return float(np.degrees(np.arccos(np.clip(one @ other / length, -1, 1))))


class PeopleTable(AbstractContextManager):
    """Writes people.csv or people.parquet row by row. Missing joints and angles are empty."""

    def __init__(self, folder: Path, kind: str, skeleton: Skeleton) -> None:
        """kind: "csv" or "parquet". Raises UserError if Parquet is not possible."""
        self._joints, self._angles = skeleton.joints, limb_angles(skeleton)
        places = [f"{joint}_{what}" for joint in skeleton.joints for what in ("x", "y", "confidence")]
        self.columns = [*_FIRST, *places, *(name for name, *_ in self._angles)]
        self._rows: list[list[Any]] = []
        path = folder / f"people.{kind}"
        if kind == "csv":
            self._file = path.open("w", encoding="utf-8", newline="")
            self._csv = csv.writer(self._file, lineterminator="\n")
            self._csv.writerow(self.columns)
            self._parquet = None
        else:
            self._arrow, parquet = _pyarrow()
            types = {"file_name": self._arrow.string(), **dict.fromkeys(("image_id", "frame", "person_id"), self._arrow.int64())}
            self._schema = self._arrow.schema([(name, types.get(name, self._arrow.float64())) for name in self.columns])
            self._parquet = parquet.ParquetWriter(path, self._schema)

    def copy(self, path: Path, last_id: int) -> None:
        """Write the rows of a finished table, of images up to `last_id`. Raises UserError if it has other columns."""
        try:
            if self._parquet is None:
                self._copy_csv(path, last_id)
            else:
                self._copy_parquet(self._parquet, path, last_id)
        except (OSError, ValueError, csv.Error) as error:  # those of pyarrow are ValueErrors
            raise UserError(f"table {path}: {printable(str(error))}; delete --out, or choose another one") from error

    def _copy_csv(self, path: Path, last_id: int) -> None:
        column = self.columns.index("image_id")
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            if next(rows, None) != self.columns:
                raise ValueError("its first line does not name the columns of this prediction")
            for number, row in enumerate(rows, start=2):
                if len(row) != len(self.columns) or not row[column].isdecimal():
                    raise ValueError(f"line {number}: expected {len(self.columns)} values with a number as image_id")
                if int(row[column]) <= last_id:
                    self._csv.writerow(row)

    def _copy_parquet(self, writer: Any, path: Path, last_id: int) -> None:
        from pyarrow import compute

        _, parquet = _pyarrow()
        with parquet.ParquetFile(path) as file:
            if file.schema_arrow != self._schema:
                raise ValueError("its columns are not those of this prediction")
            for batch in file.iter_batches(ROWS_AT_ONCE):
                writer.write_batch(batch.filter(compute.less_equal(batch["image_id"], last_id)))

    def add(self, prediction: Prediction, file: Path, image_id: int, frame: int | None, seconds: float | None) -> None:
        """Write the people of an image, or of a frame with its number and its time in the video."""
        for person in prediction.people:
            row: list[Any] = [str(file), image_id, frame, None if seconds is None else round(seconds, 6)]
            row += [person.identity, round(person.score, 6), *(round(value, 2) for value in person.box)]
            for x, y, confidence in person.keypoints.tolist():
                row += [round(x, 2), round(y, 2), round(confidence, 4)] if confidence > 0 else [None] * 3
            degrees = (angle_degrees(person.keypoints, angle) for angle in self._angles)
            self._rows.append(row + [None if value is None else round(value, 2) for value in degrees])
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._parquet is None:
            self._csv.writerows(self._rows)
        elif self._rows:
            columns = [
                self._arrow.array(column, field.type)
                for column, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._parquet.write_table(self._arrow.Table.from_arrays(columns, schema=self._schema))
        self._rows = []

    def __exit__(self, *error: object) -> None:
        self._flush()
        if self._parquet is None:
            self._file.close()
        else:
            self._parquet.close()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(f"--table parquet needs the package pyarrow ({error}); install it, or use --table csv") from error
    return pyarrow, pyarrow.parquet
