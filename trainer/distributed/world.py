"""The processes of a distributed run: rank and number of this process, and sums and means over all of them.

`trainer launch` or msrun starts the processes and sets the environment variables by which they find each other. On a CPU,
MindSpore reduces only float32 and float16, so nothing else is ever reduced.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError
from trainer.loop.signals import immediate_signals

BEAT_FILE = "OPENPOSE_BEAT_FILE"  # path to which a process writes its step, for `launch`
LOCAL_SIZE = "OPENPOSE_LOCAL_SIZE"  # number of processes that `launch` started on this host
BEAT_S = 1.0  # between two writes of the step
ORPHAN_S = 60.0  # for a rank to finish its step and save after its launcher is gone
OF_RANKS = re.compile(r"MS_(ROLE|NODE_ID|WORKER_NUM|SCHED_\w+|TOPO_TIMEOUT)|RANK_\w+|DEVICE_ID|OPENPOSE_(BEAT_FILE|LOCAL_SIZE)")
TASK_COUNTS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")  # set by mpirun and srun


@dataclass(frozen=True, kw_only=True)
class World:
    """This process is `rank` (from 0) of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes checkpoints and log; exactly one does."""
        return self.rank == 0

    def summing(self) -> Callable[[Any], Any]:
        """Return a function tensor -> sum over all processes, for a compiled graph. All processes must call it.

        For a single process it is the identity.
        """
        if self.size == 1:
            return lambda tensor: tensor
        from mindspore import ops

        return ops.AllReduce(ops.ReduceOp.SUM)

    def averaging(self) -> Callable[[Any], Any]:
        """Return a function tensor -> mean over all processes; otherwise as `summing`."""
        if self.size == 1:
            return lambda tensor: tensor
        summed, share = self.summing(), 1.0 / self.size
        return lambda tensor: summed(tensor) * share

    def meet(self) -> None:
        """Wait until all processes have called this."""
        if self.size > 1:
            import mindspore as ms

            self.summing()(ms.Tensor(1.0, ms.float32)).asnumpy()


class Heart:
    """Reports to `launch` that this process makes progress, at most once per second, in a file on this host.

    The file has the step and the number of reports.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock, self._written_s = os.environ.get(BEAT_FILE), clock, -float("inf")
        self._count = 0

    def beat(self, step: int) -> None:
        """Report the start of a step, or that this process waits for the validation before it; 0: it has met the others."""
        if self._path and self._clock() - self._written_s >= BEAT_S:
            self._written_s = self._clock()
            self._count += 1
            with open(self._path, "w", encoding="utf-8") as file:
                file.write(f"{step} {self._count}")


def outside_of_world(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that a rank starts and that is no rank itself."""
    return {name: value for name, value in environment.items() if not OF_RANKS.fullmatch(name)}


def is_launched() -> bool:
    """Return whether this process was started as one of several: by `launch`, msrun, or by hand with a rank table.

    A rank table alone does not count: it may be exported for other programs.
    """
    return "MS_ROLE" in os.environ or ("RANK_TABLE_FILE" in os.environ and "RANK_ID" in os.environ)


def local_device_id(default: int) -> int:
    """Return the device of this process on its host: as the launcher numbered it, `default` for a single process."""
    return int(os.environ.get("DEVICE_ID", default)) if is_launched() else default


def local_size() -> int:
    """Return the number of processes on this host if `launch` started them, otherwise 1."""
    return int(os.environ.get(LOCAL_SIZE, 1))


def join() -> World:
    """Join the other processes, if there are any. Call it after `choose_device`, before creating any tensor.

    The scheduler of a job runs the same program: there, this call serves the ranks until all have left, and then ends the
    process. Raises UserError if the ranks cannot meet, and if mpirun or srun started several processes without `launch`.
    """
    if not is_launched():
        if counts := {name: os.environ[name] for name in TASK_COUNTS if int(os.environ.get(name, 1)) > 1}:
            name, count = next(iter(counts.items()))
            raise UserError(
                f"{count} processes were started ({name}), but they do not know each other; start one `python -m trainer launch` "
                "per host instead, which starts the processes of its host"
            )
        return World()
    from mindspore.communication import get_group_size, get_rank, init

    if BEAT_FILE in os.environ:
        _end_if_orphaned(os.getppid())
    try:
        with immediate_signals():  # this may wait for minutes in compiled code, where Python handles no signals
            init()
    except RuntimeError as error:
        place = f"{os.environ.get('MS_SCHED_HOST', '?')}:{os.environ.get('MS_SCHED_PORT', '?')}"
        raise UserError(
            f"this process could not join the others through the scheduler at {place}; check that all hosts run the same command "
            "and reach this address, and see the logs of the other processes"
        ) from error
    Heart().beat(0)
    return World(rank=get_rank(), size=get_group_size())


def _end_if_orphaned(parent: int) -> None:
    """End this process some time after its launcher is gone, even if it hangs in a collective and cannot handle signals."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        time.sleep(ORPHAN_S)
        os._exit(1)

    threading.Thread(target=watch, name="orphan watch", daemon=True).start()
