"""The one place that chooses device, threads and CPU instruction set. Importing `trainer` imports it.

On CPUs with AVX-512 oneDNN picks its reference kernel for MindSpore's convolutions, 40 to 80 times slower than the one
that it picks for AVX2. It reads the environment once, at its first operation, so importing this module sets the variable;
a value that the user has set wins. A network of which only convolutions of 1x1 remain (`cpu_convolution.unfold`) is faster with
AVX-512; for that one `choose_device` takes the limit away again.
"""

import contextlib
import os
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError

DeviceTarget = Literal["auto", "CPU", "Ascend"]
INSTRUCTION_SET_VARIABLE = "ONEDNN_MAX_CPU_ISA"
LIMITED_HERE = "OPENPOSE_LIMITS_ONEDNN"  # so that a process that this one starts can tell our limit from the user's choice


def limit_instruction_set(environment: dict | os._Environ, cpu_flags: str) -> None:
    """Keep oneDNN from AVX-512 where the CPU has it, unless `environment` already holds the user's choice."""
    if "avx512f" in cpu_flags.split() and INSTRUCTION_SET_VARIABLE not in environment:
        environment.update({INSTRUCTION_SET_VARIABLE: "AVX2", LIMITED_HERE: "1"})


def lift_limit(environment: dict | os._Environ) -> None:
    """Undo `limit_instruction_set`."""
    if environment.pop(LIMITED_HERE, None):
        environment.pop(INSTRUCTION_SET_VARIABLE, None)


def read_cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The instruction sets of the first core, as Linux lists them; empty where there is no such file."""
    with contextlib.suppress(OSError), cpuinfo.open() as lines:
        for line in lines:
            if line.startswith("flags"):
                return line.split(":", 1)[1]
    return ""


limit_instruction_set(os.environ, read_cpu_flags())


def num_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def choose_device(target: DeviceTarget = "auto", device_id: int = 0, *, unfolds: bool = False) -> str:
    """Set the device of this process and return its name: Ascend where there is one, CPU otherwise.

    unfolds: the process will compute nothing but networks after `cpu_convolution.unfold`, without any other convolution.

    Raises UserError where "Ascend" is asked for and not there. Call it before any other use of mindspore.
    """
    import mindspore as ms

    if target == "auto":
        target = "Ascend" if _has_ascend() else "CPU"
    if unfolds and target == "CPU":
        lift_limit(os.environ)
    try:
        if target == "Ascend":
            ms.set_device("Ascend", device_id)
        elif ms.get_context("device_target") != "CPU":  # setting it again is refused once something has been computed
            ms.set_device("CPU")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--device-target {target}: MindSpore found no such device; use --device-target CPU, "
            f"or see that the driver and CANN match this MindSpore ({str(error).strip().splitlines()[0]})"
        ) from error
    return target


def _has_ascend() -> bool:
    """Whether an Ascend driver is installed. Asked of the file system, because asking MindSpore warns where there is none."""
    return Path("/dev/davinci_manager").exists()
