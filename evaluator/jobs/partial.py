"""What an evaluation has found so far, on the disk, so that one that was killed continues: OUT.unfinished beside OUT.

`evaluation.json` says of what and how: annotations, checkpoint or fields by their SHA-256, settings, the code that decides the
results. `people.jsonl` has a line for every image, appended whole groups at a time; a line that was cut off is found and redone.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.decoding import decode, grouping
from evaluator.decoding.decode import People
from evaluator.inference import infer
from evaluator.inference import test_time as ensemble
from evaluator.metrics import coco_eval as coco
from pipeline import geometry
from pipeline.errors import UserError
from pipeline.files import locked, read_json, remove_unfinished, write_json

EVALUATION, PEOPLE, LOCK = "evaluation.json", "people.jsonl", "lock"


@dataclass
class Found:
    """By image id: the people of the images that were read, and why the others were not."""

    people: dict[int, People] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)

    def add(self, image_id: int, people: People | Exception) -> None:
        if isinstance(people, People):
            self.people[image_id] = people
        else:
            self.unreadable[image_id] = str(people)

    def __contains__(self, image_id: int) -> bool:
        return image_id in self.people or image_id in self.unreadable

    def lines(self, image_ids: Iterable[int]) -> bytes:
        """A line of JSON for each of the images. Numbers are written so that they are read back exactly."""
        return "".join(json.dumps(self._entry(image_id)) + "\n" for image_id in image_ids).encode()

    def _entry(self, image_id: int) -> dict:
        if image_id in self.unreadable:
            return {"image_id": image_id, "unreadable": self.unreadable[image_id]}
        people = self.people[image_id]
        return {"image_id": image_id, "scores": people.scores.tolist(), "keypoints": people.keypoints.tolist()}


def parse_lines(data: bytes, num_joints: int) -> tuple[Found, int]:
    """Lines as `Found.lines` writes them, up to the first that is not whole, and how many bytes those are."""
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


def code_digest() -> str:
    """SHA-256 of the source files that decide what is found, so that two versions are never mixed."""
    digest = hashlib.sha256()
    for module in (coco, decode, ensemble, geometry, grouping, infer):
        digest.update(Path(module.__file__).read_bytes())
    return digest.hexdigest()


def differences(there: dict[str, Any], now: dict[str, Any]) -> str:
    """The entries in which two descriptions of an evaluation differ, for a message; empty where they are equal."""
    there, now = (json.loads(json.dumps(values)) for values in (there, now))
    changed = [name for name in sorted({*there, *now}) if there.get(name) != now.get(name)]
    return "; ".join(f"{name}: {_short(there.get(name))} there, {_short(now.get(name))} now" for name in changed)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:20] + "…"


class Unfinished:
    """The work folder of an evaluation, owned while it runs (a context). `found` is what it holds of an earlier one."""

    def __init__(self, out: Path, identity: dict[str, Any], num_joints: int) -> None:
        self.folder = out.resolve().with_name(out.resolve().name + ".unfinished")
        self.identity, self.num_joints = identity, num_joints
        self.found = Found()
        self._stack = ExitStack()

    def __enter__(self) -> "Unfinished":
        """Raises UserError for the folder of another evaluation, and for one that another process is writing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(locked(self.folder / LOCK, f"{self.folder}: another evaluation is writing there"))
        try:
            remove_unfinished(self.folder)
            self._require_own()
            self._continue()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _require_own(self) -> None:
        path = self.folder / EVALUATION
        if not path.exists():
            if strangers := [file.name for file in self.folder.iterdir() if file.name != LOCK]:
                raise UserError(f"{self.folder}: not of an evaluation (has {strangers[0]}); give another --out")
            write_json(path, self.identity)
        elif changed := differences(read_json(path, "unfinished evaluation"), self.identity):
            raise UserError(
                f"{self.folder}: an evaluation begun with other input or settings ({changed}); give the same ones, "
                "give another --out, or remove that folder"
            )

    def _continue(self) -> None:
        path = self.folder / PEOPLE
        self._file = self._stack.enter_context(path.open("ab"))
        self.found, size = parse_lines(path.read_bytes(), self.num_joints)
        self._file.truncate(size)

    def append(self, people: dict[int, People]) -> None:
        """Add images that were read, and keep them on the disk."""
        self.found.people.update(people)
        self._file.write(self.found.lines(people))
        self._file.flush()

    def remove(self) -> None:
        """The output is complete: nothing of this is needed any more."""
        shutil.rmtree(self.folder)

    def __exit__(self, *error) -> None:
        if self.folder.exists() and not self.found.people:
            self.remove()
        self._stack.close()
