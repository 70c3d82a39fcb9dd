"""Choice of device, number of threads and CPU instruction set. Imported together with `trainer`.

On CPUs with AVX-512, oneDNN selects its reference kernel for MindSpore's convolutions, which is 40 to 80 times slower than the
kernel that it selects for AVX2. oneDNN reads the environment variable once, at its first operation, so importing this module
sets it. A value that the user has set takes precedence. Networks that contain only 1x1 convolutions
(`trainer.networks.cpu_convolution`) run faster with AVX-512; for these, `choose_device` removes the limit again.
"""

import contextlib
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError

DeviceTarget = Literal["auto", "CPU", "Ascend"]
INSTRUCTION_SET_VARIABLE = "ONEDNN_MAX_CPU_ISA"
LIMIT_MARKER = "OPENPOSE_LIMITS_ONEDNN"  # tells a child process that the limit is ours and not the user's choice


def limit_instruction_set(environment: MutableMapping[str, str], cpu_flags: str) -> None:
    """Limit oneDNN to AVX2 on CPUs with AVX-512, unless the user has already set the variable in `environment`."""
    if "avx512f" in cpu_flags.split() and INSTRUCTION_SET_VARIABLE not in environment:
        environment.update({INSTRUCTION_SET_VARIABLE: "AVX2", LIMIT_MARKER: "1"})


def lift_limit(environment: MutableMapping[str, str]) -> None:
    """Undo `limit_instruction_set`."""
    if environment.pop(LIMIT_MARKER, None):
        environment.pop(INSTRUCTION_SET_VARIABLE, None)


def read_cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the instruction sets of the first core as Linux lists them; empty if the file does not exist."""
    with contextlib.suppress(OSError), cpuinfo.open() as lines:
        for line in lines:
            if line.startswith("flags"):
                return line.split(":", 1)[1]
    return ""


limit_instruction_set(os.environ, read_cpu_flags())


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def choose_device(target: DeviceTarget = "auto", device_id: int = 0, *, unfolds: bool = False) -> str:
    """Set the device of this process and return its name. "auto" selects Ascend if the machine has one, otherwise the CPU.

    unfolds: the process runs only networks without any convolution larger than 1x1 (after `cpu_convolution.unfold`).

    Raises UserError if the device is not available. Call this function before anything else in mindspore.
    """
    import mindspore as ms

    if target == "auto":
        target = "Ascend" if _has_ascend() else "CPU"
    if unfolds and target == "CPU":
        lift_limit(os.environ)
    try:
        if target == "Ascend":
            ms.set_device("Ascend", device_id)
        elif ms.get_context("device_target") != "CPU":  # MindSpore refuses to set it again after the first computation
            ms.set_device("CPU")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"--device-target {target}: MindSpore found no such device; use --device-target CPU, or check that the driver "
            f"and CANN match this version of MindSpore ({str(error).strip().splitlines()[0]})"
        ) from error
    return target


def _has_ascend() -> bool:
    """Whether an Ascend driver is installed. Checks the file system because MindSpore logs a warning on machines without one."""
    return Path("/dev/davinci_manager").exists()
