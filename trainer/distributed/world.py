"""The processes of a distributed run: rank and number of this process, and sums and means over all of them.

`trainer launch` or msrun starts the processes and sets the environment variables by which they find each other. On a CPU,
MindSpore reduces only float32 and float16, so nothing else is ever reduced.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BEAT_FILE = "OPENPOSE_BEAT_FILE"  # path to which a process writes its step, for `launch`
LOCAL_SIZE = "OPENPOSE_LOCAL_SIZE"  # number of processes that `launch` started on this host
LAUNCHED_BY = ("MS_ROLE", "RANK_TABLE_FILE")  # set by msrun, and for jobs started by hand with a rank table


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


def beat(step: int) -> None:
    """Report the start of a step to `launch`, if it started this process."""
    if path := os.environ.get(BEAT_FILE):
        with open(path, "w") as file:
            file.write(str(step))


def is_launched() -> bool:
    """Return whether this process was started as one of several."""
    return any(name in os.environ for name in LAUNCHED_BY)


def local_device_id(default: int) -> int:
    """Return the device of this process on its host: as the launcher numbered it, `default` for a single process."""
    return int(os.environ.get("DEVICE_ID", default)) if is_launched() else default


def local_size() -> int:
    """Return the number of processes on this host if `launch` started them, otherwise 1."""
    return int(os.environ.get(LOCAL_SIZE, 1))


def join() -> World:
    """Join the other processes, if there are any. Call it after `choose_device`, before creating any tensor.

    The scheduler of a job runs the same program: there, this call serves the ranks until all have left, and then ends the
    process.
    """
    if not is_launched():
        return World()
    from mindspore.communication import get_group_size, get_rank, init

    init()
    return World(rank=get_rank(), size=get_group_size())
