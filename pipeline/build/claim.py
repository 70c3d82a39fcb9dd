"""Ownership of the output folder during a build: lock, plan, what to resume and what to refuse."""

import json
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from pipeline.documents import read_json
from pipeline.errors import UserError
from pipeline.files import TEMPORARY, locked, remove_unfinished, write_json
from pipeline.records.manifest import CARD, MANIFEST, SHARDS

PLAN = "build.json"
LOCK = "build.lock"


@contextmanager
def claimed(out: Path, plan: dict[str, Any]) -> Iterator[None]:
    """Own the folder during a build. On failure, keep finished shards so the build can be resumed; if there are none, delete it.

    A complete record set that grows becomes an unfinished one of the new plan. Raises UserError if another build is running, or
    if the folder has other content or belongs to a build with other settings.
    """
    # A build that was killed right at the start leaves only its lock and temporary files.
    fresh = not out.exists() or all(path.name == LOCK or path.name.startswith(TEMPORARY) for path in out.iterdir())
    complete = (out / MANIFEST).exists()
    if not fresh and not complete and not (out / PLAN).exists():
        raise UserError(f"{out}: not empty and not an unfinished build; choose an empty or new folder")
    out.mkdir(parents=True, exist_ok=True)
    with locked_build(out):
        remove_unfinished(out)
        if fresh or complete:
            write_json(out / PLAN, plan)
            for outdated in (MANIFEST, CARD):
                (out / outdated).unlink(missing_ok=True)
        else:
            require_same_plan(plan, read_json(out / PLAN, "build plan"), out)
        shards = out / SHARDS
        try:
            yield
        finally:
            remove_unfinished(shards)
            if not (shards.exists() and any(shards.iterdir())):
                shutil.rmtree(out)
        (out / PLAN).unlink()


def locked_build(out: Path) -> AbstractContextManager[None]:
    """Hold the lock of a build. Raises UserError if another build holds it."""
    return locked(out / LOCK, f"{out}: another build is writing to this folder; wait for it or choose another --out")


def require_same_plan(plan: dict[str, Any], found: dict[str, Any], out: Path) -> None:
    """Raise UserError naming the options or inputs in which the plan in the folder differs from `plan`."""
    for part in ("builder_version", "schema_version", "config", "skeleton", "sources"):
        wanted, existing = json.loads(json.dumps(plan[part])), found.get(part)
        if wanted == existing:
            continue
        difference = f"{part}: was {existing}, now {wanted}"
        if isinstance(wanted, dict) and isinstance(existing, dict):
            keys = [key for key in sorted({*wanted, *existing}) if wanted.get(key) != existing.get(key)]
            difference = ", ".join(f"{key}: was {existing.get(key)}, now {wanted.get(key)}" for key in keys)
        raise UserError(f"{out}: started with other settings or inputs ({difference}); use the same ones or choose another --out")
