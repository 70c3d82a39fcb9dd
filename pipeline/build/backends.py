"""Run a build in processes on this machine or on a dask cluster, through joblib."""

import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib

from pipeline.build.config import Backend
from pipeline.errors import UserError
from pipeline.processes import local_workers

CONNECT_TIMEOUT_S = 10
# The versions that determine the bytes of a row. The check also finds workers that cannot import the project; without it, the build
# would wait for them forever.
SAME_EVERYWHERE = ("pipeline.build.worker:BUILDER_VERSION", "cv2:__version__", "numpy:__version__", "pyarrow:__version__")


@contextmanager
def engine(backend: Backend, scheduler: str | None, shared: tuple[Path, ...]) -> Iterator[None]:
    """Select where `joblib.Parallel` runs inside the `with` block.

    shared: paths that every worker must see. Raises UserError if dask is not installed, if there is no scheduler or worker, or if
    a worker lacks the project, has different versions, or does not see a path.
    """
    if backend == "loky":
        with local_workers():
            yield
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise UserError("--backend dask needs dask: run pip install 'dask[distributed]' here and on all workers") from error
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"--scheduler {scheduler}: no dask scheduler responds ({_first_line(error)}); check the address"
        ) from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise UserError(f"--scheduler {scheduler}: the cluster has no workers; start some with `dask worker {scheduler}`")
        for name in SAME_EVERYWHERE:
            _require_everywhere(client, pkgutil.resolve_name, name, expected=pkgutil.resolve_name(name), what=name)
        for path in shared:
            _require_everywhere(client, os.path.exists, str(path), expected=True, what=f"existence of {path}")
        try:
            with joblib.parallel_config("dask", client=client):
                yield
        except KilledWorker as error:
            raise UserError(f"workers of the cluster died repeatedly: {error}; run the same command again") from error


def _require_everywhere(client: Any, function: Callable[[str], object], argument: str, *, expected: object, what: str) -> None:
    """Call `function(argument)` on every worker and compare the results."""
    for worker, answer in client.run(function, argument, on_error="return").items():
        if isinstance(answer, Exception):
            raise UserError(
                f"worker {worker}: cannot import the project ({_first_line(answer)}); install it on all workers"
            ) from answer
        if answer != expected:
            raise UserError(f"worker {worker}: {what} is {answer}, expected {expected} as on this machine")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
