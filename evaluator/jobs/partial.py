"""The results of an unfinished evaluation on disk, so that a killed run can continue.

The folder is OUT.unfinished; if OUT exists already, which may be a volume, it is in OUT.

`evaluation.json` is the identity of the evaluation: the annotations and the checkpoint or fields by their SHA-256, the settings,
and RESULTS_VERSION. `people.jsonl` has one line per image and is extended batch by batch; a truncated line is dropped, and its
image is processed again.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.decoding import People
from pipeline.documents import read_json
from pipeline.errors import UserError
from pipeline.files import locked, remove_unfinished, space_errors, write_json
from pipeline.folders import unfinished_folder

EVALUATION, PEOPLE, LOCK = "evaluation.json", "people.jsonl", "lock"
# Values of entries that evaluations of earlier versions lack.
ADDED_LATER = {"precision": "O0", "hf32": False}
MAX_SHOWN = 60  # characters of a value in a message


@dataclass
class Found:
    """By image id: the people of the images that were read, and the reasons why other images could not be read."""

    people: dict[int, People] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)

    def add(self, image_id: int, people: People | Exception) -> None:
        """Add the people of an image, or the error of reading it."""
        if isinstance(people, People):
            self.people[image_id] = people
        else:
            self.unreadable[image_id] = str(people)

    def __contains__(self, image_id: int) -> bool:
        return image_id in self.people or image_id in self.unreadable

    def lines(self, image_ids: Iterable[int]) -> bytes:
        """Return one line of JSON per image. Reading a line back gives exactly the same numbers."""
        return "".join(json.dumps(self._entry(image_id)) + "\n" for image_id in image_ids).encode()

    def _entry(self, image_id: int) -> dict[str, Any]:
        if image_id in self.unreadable:
            return {"image_id": image_id, "unreadable": self.unreadable[image_id]}
        people = self.people[image_id]
        return {"image_id": image_id, "scores": people.scores.tolist(), "keypoints": people.keypoints.tolist()}


def parse_lines(data: bytes, num_joints: int) -> tuple[Found, int]:
    """Parse lines written by `Found.lines` up to the first damaged or truncated one; return their number of bytes too."""
    found, size = Found(), 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            entry = json.loads(line)
            if "unreadable" in entry:
                found.add(int(entry["image_id"]), Exception(entry["unreadable"]))
            else:
                scores = np.array(entry["scores"], np.float32).reshape(-1)
                keypoints = np.array(entry["keypoints"], np.float32).reshape(len(scores), num_joints, 3)
                found.add(int(entry["image_id"]), People(keypoints=keypoints, scores=scores))
        except (ValueError, KeyError, TypeError):
            break
        size += len(line)
    return found, size


def differences(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str] = ("before", "now")) -> str:
    """Describe the entries in which two identities differ, such as "insize: 64 before, 96 now"; empty if they are equal."""
    first, second = (ADDED_LATER | json.loads(json.dumps(values)) for values in (first, second))
    changed = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    return "; ".join(f"{key}: {_short(first.get(key))} {names[0]}, {_short(second.get(key))} {names[1]}" for key in changed)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_SHOWN else text[:20] + "…"


class Unfinished:
    """The work folder of an evaluation, locked while the context is open. `found`: the results so far, of earlier runs too."""

    def __init__(self, out: Path, identity: dict[str, Any], num_joints: int) -> None:
        self.folder = unfinished_folder(out)
        self.identity, self.num_joints = identity, num_joints
        self.found = Found()
        self._stack = ExitStack()

    def __enter__(self) -> "Unfinished":
        """Raises UserError for the folder of another evaluation, and for a folder that another process is writing to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(locked(self.folder / LOCK, f"{self.folder}: another evaluation is writing to this folder"))
        try:
            remove_unfinished(self.folder)
            self._require_same_evaluation()
            self._read_found()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _require_same_evaluation(self) -> None:
        path = self.folder / EVALUATION
        if not path.exists():
            if others := [file.name for file in self.folder.iterdir() if file.name != LOCK]:
                raise UserError(f"{self.folder}: not the folder of an evaluation (contains {others[0]}); choose another --out")
            write_json(path, self.identity)
        elif changed := differences(read_json(path, "unfinished evaluation"), self.identity):
            raise UserError(
                f"{self.folder}: this evaluation was started with other inputs or settings ({changed}); use the same ones, "
                "choose another --out, or delete the folder"
            )

    def _read_found(self) -> None:
        path = self.folder / PEOPLE
        self._file = self._stack.enter_context(path.open("ab"))
        self.found, size = parse_lines(path.read_bytes(), self.num_joints)
        self._file.truncate(size)

    def append(self, people: dict[int, People]) -> None:
        """Add the people of images to `found` and to the file."""
        self.found.people.update(people)
        with space_errors(self.folder / PEOPLE):
            self._file.write(self.found.lines(people))
            self._file.flush()

    def remove(self) -> None:
        """Delete the folder. Call it when the output is complete."""
        shutil.rmtree(self.folder)

    def __exit__(self, *error: object) -> None:
        if self.folder.exists() and not self.found.people:
            self.remove()
        self._stack.close()
