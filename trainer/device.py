"""Device of a process: its options, its start-up errors, and the CPU instruction set. Imported together with `trainer`.

On CPUs with AVX-512, oneDNN selects its reference kernel for MindSpore's convolutions, which is 40 to 80 times slower than the
kernel that it selects for AVX2. oneDNN reads the environment variable once, at its first operation, so importing this module
sets it. A value that the user has set takes precedence. Networks that contain only 1x1 convolutions
(`trainer.networks.cpu_convolution`) run faster with AVX-512; for these, `choose_device` removes the limit again.
"""

import contextlib
import os
import re
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError

INSTRUCTION_SET_VARIABLE = "ONEDNN_MAX_CPU_ISA"
LIMIT_MARKER = "OPENPOSE_LIMITS_ONEDNN"  # tells a child process that the limit is ours and not the user's choice
CANN_VERSIONS = ("8.2", "8.3", "8.5", "9.0", "9.1")  # accepted by MindSpore 2.10 (mindspore.run_check)
POOL_GB = 2.0  # initial size of MindSpore's memory pool


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """Device that computes the network, and how it computes."""

    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto selects Ascend if the machine has one."""
    device_id: int = 0
    """Index of the Ascend device."""
    max_device_memory: str | None = None
    """Ascend: use at most this much device memory, for example 30GB. Default: all of it."""
    deterministic: bool = False
    """Ascend: use deterministic operators and collectives, so that a repeated run gives the same bytes. Slower. A CPU is always
    deterministic."""
    hf32: bool = False
    """Ascend 910B and later: compute float32 convolutions and matrix products in HF32, which is faster and keeps 10 of 23 bits of the
    mantissa. Default: full float32."""

    def __post_init__(self) -> None:
        if self.device_id < 0:
            raise ValueError(f"device_id must be 0 or more, got {self.device_id}")
        limit = self.max_device_memory
        if limit is not None and not (re.fullmatch(r"\d+(\.\d+)?GB", limit) and float(limit[:-2])):
            raise ValueError(f"max_device_memory must be a number of gigabytes such as 30GB, got {limit}")


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
    with contextlib.suppress(OSError), cpuinfo.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("flags"):
                return line.split(":", 1)[1]
    return ""


limit_instruction_set(os.environ, read_cpu_flags())


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(config: DeviceConfig, *, unfolds: bool = False, device_id: int | None = None) -> str:
    """Set up the device of this process and return its name. "auto" selects Ascend if the machine has one, otherwise the CPU.

    device_id: index of the Ascend device if the launcher of several processes chooses it; default: the one in `config`. unfolds: the process runs only networks without any convolution larger than 1x1 (after `cpu_convolution.unfold`).

    Raises UserError if the device is not available. Call this function once, before anything else in mindspore.
    """
    import mindspore as ms

    target = config.device_target
    if target == "auto":
        target = "Ascend" if has_ascend() else "CPU"
    for name in ("max_device_memory", "device_id"):
        if target == "CPU" and getattr(config, name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: works only on an Ascend device, this process uses the CPU; remove the option")
    if unfolds and target == "CPU":
        lift_limit(os.environ)
    try:
        if target == "Ascend":
            ms.set_device("Ascend", config.device_id if device_id is None else device_id)
        elif ms.get_context("device_target") != "CPU":  # MindSpore refuses to set it again after the first computation
            ms.set_device("CPU")
    except (RuntimeError, ValueError) as error:
        raise UserError(f"--device-target {target}: {_explain(str(error))}") from error
    if target == "Ascend":
        _configure_ascend(config)
    return target


def _configure_ascend(config: DeviceConfig) -> None:
    """Apply the options that MindSpore accepts after `set_device` and before the first operator or collective."""
    import mindspore as ms

    if config.max_device_memory:
        pool_gb = min(POOL_GB, float(config.max_device_memory[:-2]))
        ms.runtime.set_memory(init_size=f"{pool_gb}GB", max_size=config.max_device_memory)
    if config.deterministic:
        ms.set_deterministic(True)
    # CANN allows HF32 for convolutions by default, but not for matrix products.
    ms.device_context.ascend.op_precision.conv_allow_hf32(config.hf32)
    ms.device_context.ascend.op_precision.matmul_allow_hf32(config.hf32)


def _explain(message: str) -> str:
    """Return why MindSpore refused the device, with the libraries that failed to load, and what to do about it."""
    lines = message.strip().splitlines() or ["MindSpore gives no reason"]
    libraries = [line for line in lines if line.startswith("Load dynamic library")]
    if not libraries:
        return f"{lines[0]}; check --device-id and the driver (`npu-smi info`), or use --device-target CPU"
    reasons = "; ".join(line.rstrip(". ") for line in libraries)
    return (
        f"MindSpore cannot load its Ascend plugin ({reasons}). Install the Ascend driver and CANN {', '.join(CANN_VERSIONS[:-1])} "
        f"or {CANN_VERSIONS[-1]}{_installed_cann()}, run `source /usr/local/Ascend/ascend-toolkit/set_env.sh` in this shell, or use "
        "--device-target CPU"
    )


def _installed_cann() -> str:
    """Return a remark about the CANN version that ASCEND_HOME_PATH refers to, as MindSpore finds it; empty if it finds none."""
    home = os.environ.get("ASCEND_HOME_PATH")
    with contextlib.suppress(OSError):
        text = Path(home, "compiler", "version.info").read_text(encoding="utf-8") if home else ""
        if found := re.search(r"^Version=(\S+)", text, re.MULTILINE):
            return f" (found {found[1]} in {home})"
    return ""


def has_ascend() -> bool:
    """Whether an Ascend driver is installed. Checks the file system because MindSpore logs a warning on machines without one."""
    return Path("/dev/davinci_manager").exists()
