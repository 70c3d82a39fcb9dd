"""The results of an unfinished evaluation on disk, so that a killed run can continue.

The folder is OUT.unfinished; if OUT exists already, which may be a volume, it is in OUT.

`evaluation.json` is the identity of the evaluation: the annotations and the checkpoint or fields by their SHA-256, the settings,
and RESULTS_VERSION. `people.jsonl` has one line per image, with its CRC32, and is extended batch by batch. The images of lines that
are truncated, damaged or edited are processed again.
"""

import json
import sys
import zlib
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Required, TypedDict

import numpy as np
from msgspec import Meta

from evaluator.decoding import People
from evaluator.jobs.documents import read_identity
from pipeline.errors import UserError
from pipeline.storage.documents import Id, convert, parse_json, read_bytes
from pipeline.storage.files import locked, remove_unfinished, space_errors, write_atomic, write_json
from pipeline.storage.folders import unfinished_folder
from pipeline.wording import counted, printable

EVALUATION, PEOPLE, LOCK = "evaluation.json", "people.jsonl", "lock"
# Values of entries that evaluations of earlier versions lack.
ADDED_LATER = {"precision": "O0", "hf32": False, "calibration": {}, "joints": []}
MAX_SHOWN = 60  # characters of a value in a message
MAX_FAULTS = 5  # listed
MAX_PEOPLE_BYTES = 64 << 30
CRC = b', "crc32": '

Number = Annotated[float, Meta(ge=-1e30, le=1e30)]  # fits into float32


class _Line(TypedDict, total=False):
    """A line of people.jsonl: with scores and keypoints, or with the reason why the image is unreadable."""

    image_id: Required[Id]
    unreadable: str
    scores: list[Number]
    keypoints: list[list[tuple[Number, Number, Number]]]


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
        """Return one line of JSON per image, with its CRC32. Reading a line back gives exactly the same numbers."""
        return b"".join(_with_crc32(json.dumps(self._entry(image_id)).encode()) for image_id in image_ids)

    def _entry(self, image_id: int) -> dict[str, Any]:
        if image_id in self.unreadable:
            return {"image_id": image_id, "unreadable": self.unreadable[image_id]}
        people = self.people[image_id]
        return {"image_id": image_id, "scores": people.scores.tolist(), "keypoints": people.keypoints.tolist()}


def _with_crc32(entry: bytes) -> bytes:
    """Return a line: an entry and the CRC32 of its JSON text without the CRC32."""
    return b"%s%s%d}\n" % (entry.removesuffix(b"}"), CRC, zlib.crc32(entry))


@dataclass
class Lines:
    """The lines of a people.jsonl. good: the text of those whose CRC32 matches. faults: what is wrong with each of the others."""

    found: Found = field(default_factory=Found)
    good: list[bytes] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_lines(path: Path, num_joints: int) -> Lines:
    """Read lines written by `Found.lines`. Raises UserError if the file cannot be read. A truncated last line is no fault."""
    lines = Lines()
    *complete, _truncated = read_bytes(path, "people", MAX_PEOPLE_BYTES).split(b"\n")
    for number, line in enumerate(complete, start=1):
        try:
            _add_line(lines.found, line, num_joints, f"{path} line {number}")
            lines.good.append(line + b"\n")
        except UserError as error:
            lines.faults.append(str(error))
    return lines


def _add_line(found: Found, line: bytes, num_joints: int, where: str) -> None:
    start, _, crc32 = line.removesuffix(b"}").rpartition(CRC)
    if not crc32.isdigit() or len(crc32) > 10 or int(crc32) != zlib.crc32(start + b"}"):
        raise UserError(f"{where}: damaged or edited, CRC32 does not match")
    entry = parse_json(start + b"}", where, dict[str, Any])
    convert(entry, _Line, where)
    if "unreadable" in entry:
        found.add(entry["image_id"], Exception(entry["unreadable"]))
        return
    scores, people = np.array(entry.get("scores", ()), np.float32), entry.get("keypoints", ())
    if len(people) != len(scores) or not all(len(person) == num_joints for person in people):
        raise UserError(f"{where}: expected keypoints of {num_joints} joints for each of {len(scores)} scores")
    keypoints = np.array(people, np.float32).reshape(len(scores), num_joints, 3)
    found.add(entry["image_id"], People(keypoints=keypoints, scores=scores))


def differences(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str] = ("before", "now")) -> str:
    """Describe the entries in which two identities differ, such as "insize: 64 before, 96 now"; empty if they are equal."""
    first, second = (ADDED_LATER | json.loads(json.dumps(values)) for values in (first, second))
    changed = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
    return "; ".join(
        f"{_short(key)}: {_short(first.get(key))} {names[0]}, {_short(second.get(key))} {names[1]}" for key in changed
    )


def _short(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= MAX_SHOWN else text[:20] + "…"


def remove_leftover(out: Path, identity: dict[str, Any], num_joints: int) -> None:
    """Delete what a process has left that was killed after it completed `out`."""
    unfinished = Unfinished(out, identity, num_joints)
    if unfinished.folder.exists():
        with unfinished:
            unfinished.remove()
    remove_unfinished(out)


class Unfinished:
    """The work folder of an evaluation, locked while the context is open. `found`: the results so far, of earlier runs too."""

    def __init__(self, out: Path, identity: dict[str, Any], num_joints: int) -> None:
        self.folder = unfinished_folder(out)
        self.identity, self.num_joints = identity, num_joints
        self.found = Found()
        self._is_done = False
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
        elif changed := differences(read_identity(path, "unfinished evaluation"), self.identity):
            raise UserError(
                f"{self.folder}: this evaluation was started with other inputs or settings ({changed}); use the same ones, "
                "choose another --out, or delete the folder"
            )

    def _read_found(self) -> None:
        path = self.folder / PEOPLE
        if path.exists():
            lines = read_lines(path, self.num_joints)
            self.found = lines.found
            write_atomic(path, b"".join(lines.good))
            for fault in lines.faults[:MAX_FAULTS]:
                print(f"warning: {printable(fault)}", file=sys.stderr)
            if lines.faults:
                print(f"warning: {counted(len(lines.faults), 'damaged line')}; their images are processed again", file=sys.stderr)
        self._file = self._stack.enter_context(path.open("ab"))

    def append(self, people: dict[int, People]) -> None:
        """Add the people of images to `found` and to the file."""
        self.found.people.update(people)
        with space_errors(self.folder / PEOPLE):
            self._file.write(self.found.lines(people))
            self._file.flush()

    def remove(self) -> None:
        """Let the end of the context delete the folder. Call it when the output is complete."""
        self._is_done = True

    def __exit__(self, *error: object) -> None:
        is_done = self._is_done or not self.found.people
        if is_done:
            self._file.close()  # NFS keeps open files
            for name in (PEOPLE, EVALUATION):
                (self.folder / name).unlink(missing_ok=True)
        self._stack.close()
        if is_done:
            with suppress(OSError):  # a file of somebody else is in it; never hide why the command failed
                self.folder.rmdir()
