"""Who does the work of a build: processes of this machine, or the workers of a dask cluster. Both through joblib."""

import os
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import joblib

from pipeline.errors import UserError

CONNECT_TIMEOUT_S = 10
# What decides the bytes of a row. A worker that cannot import the project would otherwise leave the build waiting for ever.
SAME_EVERYWHERE = ("pipeline.build.worker:BUILDER_VERSION", "cv2:__version__", "numpy:__version__", "pyarrow:__version__")
Backend = Literal["loky", "dask"]


@contextmanager
def engine(backend: Backend, scheduler: str | None, shared: tuple[Path, ...]) -> Iterator[None]:
    """`joblib.Parallel` inside runs there.

    shared: paths that every worker must see. Raises UserError where there is no dask, no scheduler or no worker, or where a
    worker lacks the project, has another version of it or of what it computes with, or does not see a path.
    """
    if backend == "loky":
        with joblib.parallel_config("loky"):
            yield
        return
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise UserError("--backend dask needs dask: pip install 'dask[distributed]', here and on the workers") from error
    try:
        client = Client(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--scheduler {scheduler}: no dask scheduler answers there ({_first_line(error)})") from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise UserError(f"--scheduler {scheduler}: this cluster has no workers; start some with `dask worker {scheduler}`")
        for name in SAME_EVERYWHERE:
            _require_everywhere(client, pkgutil.resolve_name, name, expected=pkgutil.resolve_name(name), what=name)
        for path in shared:
            _require_everywhere(client, os.path.exists, str(path), expected=True, what=f"{path} exists")
        try:
            with joblib.parallel_config("dask", client=client):
                yield
        except KilledWorker as error:
            raise UserError(f"workers of the cluster died again and again; run the same command again: {error}") from error


def _require_everywhere(client: Any, function: Callable, argument: str, *, expected: Any, what: str) -> None:
    for worker, answer in client.run(function, argument, on_error="return").items():
        if isinstance(answer, Exception):
            raise UserError(f"worker {worker} cannot run this project: install it there too ({_first_line(answer)})") from answer
        if answer != expected:
            raise UserError(f"worker {worker}: {what}: {answer} there, {expected} here; all workers must agree")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
