"""The processes that train together: who this one is, and sums over all of them.

msrun (or `trainer launch`, which runs it) starts the processes and tells them by the environment where they meet. On a CPU
MindSpore sums float32 and float16 only, so that is all that is ever reduced.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

BEAT_FILE = "OPENPOSE_BEAT_FILE"  # where `launch` wants to read how far a process is
LOCAL_SIZE = "OPENPOSE_LOCAL_SIZE"  # how many processes `launch` has started on this host
LAUNCHED_BY = ("MS_ROLE", "RANK_TABLE_FILE")  # msrun's variable, and that of jobs started by hand from a rank table


@dataclass(frozen=True, kw_only=True)
class World:
    """This process is `rank` of `size`, from 0."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one process that writes checkpoints and log."""
        return self.rank == 0

    def summing(self) -> Callable:
        """Tensor -> its sum over all processes, for use inside a compiled graph; all of them must come by. Alone: the same tensor."""
        if self.size == 1:
            return lambda tensor: tensor
        from mindspore import ops

        return ops.AllReduce(ops.ReduceOp.SUM)

    def averaging(self) -> Callable:
        """As `summing`, of the mean."""
        if self.size == 1:
            return lambda tensor: tensor
        summed, share = self.summing(), 1.0 / self.size
        return lambda tensor: summed(tensor) * share

    def meet(self) -> None:
        """Wait until all processes have come here."""
        if self.size > 1:
            import mindspore as ms

            self.summing()(ms.Tensor(1.0, ms.float32)).asnumpy()


def beat(step: int) -> None:
    """Tell `launch`, if it started this process, that a step is begun."""
    if path := os.environ.get(BEAT_FILE):
        with open(path, "w") as file:
            file.write(str(step))


def is_launched() -> bool:
    """Whether this process was started as one of several."""
    return any(name in os.environ for name in LAUNCHED_BY)


def local_device_id(default: int) -> int:
    """Which of this host's devices is this process's own: msrun numbers its processes, alone it is `default`."""
    return int(os.environ.get("DEVICE_ID", default)) if is_launched() else default


def local_size() -> int:
    """How many processes of the training run on this host, as far as `launch` has told."""
    return int(os.environ.get(LOCAL_SIZE, 1))


def join() -> World:
    """Meet the others, if there are any. Call it after `choose_device`, before any tensor.

    msrun runs the same program once more as the scheduler of the meeting; there this call serves the others until all of them have
    left, and then ends the process.
    """
    if not is_launched():
        return World()
    from mindspore.communication import get_group_size, get_rank, init

    init()
    return World(rank=get_rank(), size=get_group_size())
