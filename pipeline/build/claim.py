"""Ownership of the output folder during a build: lock, plan, what to resume and what to refuse.

A new build works in the output folder itself. A build that adds variants to a complete record set works in its folder growing/
(`growth`), so that the set stays complete.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.build.shards import has_rows
from pipeline.errors import UserError
from pipeline.records.contents import SHARD_NAME, contents
from pipeline.records.manifest import GROWING, MANIFEST, SHARD_FILE, SHARDS, Manifest, read_manifest
from pipeline.storage.documents import read_json
from pipeline.storage.files import locked, remove_unfinished, space_errors, temporary_path, write_json
from pipeline.storage.folders import foreign_entries, require_writable
from pipeline.wording import counted, printable

PLAN = "build.json"
LOCK = "build.lock"
MAX_PLAN_BYTES = 64 << 20
MAX_DATABASE_PATH = 504  # bytes: SQLite's limit is 512, including the suffix of the journal
MAX_DIFFERENCES, MAX_SHOWN = 10, 200  # in a message: options, and characters of a value


@contextmanager
def claimed(out: Path, plan: dict[str, Any], complete: Manifest | None = None) -> Iterator[None]:
    """Own the folder during a build. On failure, keep finished shards so the build can be resumed; if there are none, delete all.

    complete: the record set that gets more variants; None for a new build. Raises UserError if another build is running, if the
    folder has other content, belongs to a build with other settings, or cannot be written.
    """
    require_writable(out, f"output folder {out}")
    _require_short(out)
    is_new = not out.exists()
    used = {path.name for path in contents(out)}.intersection(foreign_entries(out)) - {LOCK}
    if complete is None and used and PLAN not in used:
        raise UserError(f"{out}: not empty and not an unfinished build; choose an empty or new folder")
    work = out if complete is None else out / GROWING
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked_build(out):
            _require_unchanged(out, complete)
            _start(work, plan, out)
            with _kept_if_resumable(out, work, complete), space_errors(out), _deletion_errors(out):
                yield
            if complete is None:
                (out / PLAN).unlink()
    finally:
        if is_new:
            with suppress(OSError):  # it has shards, so the build can be resumed
                out.rmdir()


def _start(work: Path, plan: dict[str, Any], out: Path) -> None:
    """Write the plan, or check that the unfinished build has the same one. Deletes temporary files."""
    for folder in (work, work / SHARDS):
        if os.path.lexists(folder) and not folder.is_dir():
            raise UserError(f"{folder}: not a folder; move it away and run the same command again")
    work.mkdir(exist_ok=True)
    for folder in (out, work, work / SHARDS):
        remove_unfinished(folder)
    if (work / PLAN).exists():
        found = read_plan(work)
        if work != out:
            found = _with_variants(found, plan["config"]["variants"])
            for path in contents(work / SHARDS):  # of a larger number of variants
                if (match := SHARD_NAME.fullmatch(path.name)) and int(match[1]) >= plan["config"]["variants"]:
                    shutil.rmtree(path)
        require_same_plan(plan, found, out)
    write_json(work / PLAN, plan)


def read_plan(work: Path) -> dict[str, Any]:
    """Read the plan of an unfinished build in the folder `work`. Raises UserError if it is damaged."""
    try:
        plan: dict[str, Any] = read_json(work / PLAN, "build plan", dict[str, Any], max_bytes=MAX_PLAN_BYTES)
    except UserError as error:
        raise UserError(f"{error}; restore the file, or delete the folder {work} and build it again") from error
    return plan


def _require_short(out: Path) -> None:
    """Raise UserError if SQLite, and so MindRecord, cannot write the .db file of a shard because its path is too long."""
    shard = temporary_path(out.resolve() / GROWING / SHARDS / "v000-s00000")
    excess = len(os.fsencode(shard / f"{SHARD_FILE}.db")) - MAX_DATABASE_PATH
    if excess > 0:
        raise UserError(
            f"output folder {out}: its path of {len(os.fsencode(out.resolve()))} bytes is {counted(excess, 'byte')} too long for "
            "MindRecord; choose another --out"
        )


@contextmanager
def _deletion_errors(out: Path) -> Iterator[None]:
    """Raise UserError for an error that occurs because the output folder, or a part of it, has been deleted."""
    try:
        yield
    except OSError as error:
        if out.is_dir() and not (isinstance(error, FileNotFoundError) and str(out.resolve()) in str(error.filename)):
            raise
        raise UserError(
            f"output folder {out}: it, or a part of it, was deleted or renamed while the build was writing to it; "
            "run the same command again"
        ) from error


@contextmanager
def _kept_if_resumable(out: Path, work: Path, complete: Manifest | None) -> Iterator[None]:
    """Delete everything that a build made if it fails before it has a shard with rows. Never hides why it failed."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            remove_unfinished(work / SHARDS)
            kept = any(has_rows(folder) for folder in contents(work / SHARDS))
            if complete is not None:  # a build that was killed may have moved its shards already
                kept |= len(contents(out / SHARDS)) > len(complete.shards)
            if not kept and (work / PLAN).exists():  # without a plan, the new record set is complete
                shutil.rmtree(work / SHARDS, ignore_errors=True)
                (work / PLAN).unlink(missing_ok=True)
                if work.name == GROWING:
                    work.rmdir()
        raise


def _require_unchanged(out: Path, complete: Manifest | None) -> None:
    """Raise UserError if another build has completed the record set since this one looked."""
    now = read_manifest(out) if (out / MANIFEST).exists() else None
    if (now and now.digest) != (complete and complete.digest):
        raise UserError(f"{out}: another build has completed a record set here in the meantime; run the same command again")


def locked_build(out: Path) -> AbstractContextManager[None]:
    """Hold the lock of a build. Raises UserError if another build holds it."""
    return locked(out / LOCK, f"{out}: another build is writing to this folder; wait for it or choose another --out")


def _with_variants(plan: Any, variants: int) -> dict[str, Any]:
    config = plan.get("config") if isinstance(plan, dict) else None
    return {**plan, "config": {**config, "variants": variants}} if isinstance(config, dict) else {}


def require_same_plan(plan: dict[str, Any], found: Any, out: Path) -> None:
    """Raise UserError naming the options or inputs in which the plan in the folder differs from `plan`."""
    for part in ("builder_version", "schema_version", "config", "skeleton", "sources"):
        wanted, existing = json.loads(json.dumps(plan[part])), found.get(part) if isinstance(found, dict) else None
        if wanted == existing:
            continue
        difference = f"{part}: was {_short(existing)}, now {_short(wanted)}"
        if isinstance(wanted, dict) and isinstance(existing, dict):
            keys = [key for key in sorted({*wanted, *existing}) if wanted.get(key) != existing.get(key)]
            difference = ", ".join(
                f"{_short(key)}: was {_short(existing.get(key))}, now {_short(wanted.get(key))}" for key in keys[:MAX_DIFFERENCES]
            )
        raise UserError(f"{out}: started with other settings or inputs ({difference}); use the same ones or choose another --out")


def _short(value: Any) -> str:
    text = printable(str(value))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
