"""Run the work of a build in processes on this machine, or on the workers of a dask cluster."""

import contextlib
import itertools
import os
import pkgutil
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
from joblib.externals.loky.process_executor import TerminatedWorkerError

from pipeline.build.config import Backend
from pipeline.errors import UserError
from pipeline.runtime.processes import local_workers, num_workers

CONNECT_TIMEOUT_S = 10
POLL_S = 1.0
NO_WORKERS_S = 60.0  # how long to wait for new workers when all are gone
# The versions that determine the bytes of a row. The check also finds workers that cannot import the project; without it, the build
# would wait for them forever.
SAME_EVERYWHERE = ("pipeline.build.worker:BUILDER_VERSION", "cv2:__version__", "numpy:__version__", "pyarrow:__version__")


Run = Callable[[Callable[..., Any], list[tuple[Any, ...]]], Iterator[Any]]
"""Calls a function with each of the tuples of arguments, in workers; yields the results as they finish."""


@contextmanager
def engine(backend: Backend, scheduler: str | None, jobs: int, shared: tuple[Path, ...]) -> Iterator[Run]:
    """Yield the function that runs work inside the `with` block.

    jobs: number of processes on this machine; a cluster has its own. shared: paths that every worker must see. Raises UserError if
    dask is not installed, if there is no scheduler or worker, or if a worker lacks the project, has different versions, or does
    not see a path; also if workers end unexpectedly while they work.
    """
    if backend == "loky":
        with local_workers():
            yield lambda function, tasks: _in_processes(function, tasks, jobs)
        return
    try:
        from distributed import Client
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
        yield lambda function, tasks: _on_cluster(function, tasks, client, str(scheduler))


def _in_processes(function: Callable[..., Any], tasks: list[tuple[Any, ...]], jobs: int) -> Iterator[Any]:
    parallel = joblib.Parallel(
        n_jobs=num_workers(jobs, len(tasks), "range of images"), return_as="generator_unordered", pre_dispatch="2*n_jobs"
    )
    try:
        yield from parallel(itertools.starmap(joblib.delayed(function), tasks))
    except TerminatedWorkerError as error:
        codes = re.search(r"\{.*\}", str(error))
        raise UserError(
            f"a worker process ended unexpectedly{f', exit codes {codes[0]}' if codes else ''}; if memory is short, use fewer --jobs; if "
            "`ulimit -f` limits the size of files, raise the limit; then run the same command again"
        ) from error


def _on_cluster(function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], client: Any, scheduler: str) -> Iterator[Any]:
    """Keep the workers of a cluster busy. Raises UserError if they die repeatedly, or if all are gone for NO_WORKERS_S."""
    from distributed import CancelledError, KilledWorker, wait

    again = "finished shards are kept; run the same command again to continue"
    left, running, missing_since_s = iter(tasks), set[Any](), None
    try:
        while True:
            num_cores = sum(client.ncores().values())
            for task in itertools.islice(left, max(0, 2 * num_cores - len(running))):  # a queue, so that no worker waits
                running.add(client.submit(function, *task, pure=False))
            if num_cores:
                missing_since_s = None
                if not running:
                    return
            elif missing_since_s is None:
                missing_since_s = time.monotonic()
                print(f"--scheduler {scheduler}: no workers left; waiting {NO_WORKERS_S:g} s for new ones", file=sys.stderr)
            elif time.monotonic() - missing_since_s > NO_WORKERS_S:
                raise UserError(f"--scheduler {scheduler}: all workers of the cluster are gone; start some; {again}")
            if not running:
                time.sleep(POLL_S)
                continue
            with contextlib.suppress(TimeoutError), client.as_current():
                wait(running, timeout=POLL_S, return_when="FIRST_COMPLETED")
            for future in [future for future in running if future.done()]:
                running.remove(future)
                yield future.result()
    except KilledWorker as error:
        raise UserError(f"workers of the cluster died repeatedly: {_first_line(error)}; {again}") from error
    except (CancelledError, ConnectionError, TimeoutError) as error:
        raise UserError(f"--scheduler {scheduler}: lost the dask scheduler ({_first_line(error)}); {again}") from error
    finally:
        for future in running:
            future.release()


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
