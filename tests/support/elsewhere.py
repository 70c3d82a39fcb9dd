"""Runs a command as on Windows without MindSpore, as far as that can be seen on Linux: python elsewhere.py MODULE ARGUMENT...

MindSpore and what only the training stages use cannot be imported, nor can modules that only Unix has; functions, signals and flags
that Windows lacks are gone. A lock is what Windows has, with this module in the place of Python's `msvcrt`.
"""

import asyncio  # noqa: F401 - Python's own modules choose between systems by what they can import, so they come first
import errno
import multiprocessing.pool  # noqa: F401 - as above
import os
import runpy
import signal
import subprocess  # noqa: F401 - as above
import sys
from types import ModuleType

UNIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "posix_ipc"}
TRAINING_ONLY = {"mindspore", "pyarrow", "joblib", "safetensors", "google", "psutil", "matplotlib", "onnx", "PIL"}
LACKING = {
    os: ("pathconf", "sched_getaffinity", "O_NONBLOCK", "O_CLOEXEC", "memfd_create", "getuid", "fork"),
    signal: ("SIGHUP", "SIGPIPE", "SIGURG", "SIGKILL", "pthread_sigmask", "pthread_kill", "sigwait"),
}


class Absent:
    """Refuses to find these modules."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in UNIX_ONLY | TRAINING_ONLY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def lock_module():
    """Return a module with the interface of msvcrt: a region of a file can be locked once."""
    import fcntl

    def locking(handle, mode, num_bytes):
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, num_bytes)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    module = ModuleType("msvcrt")
    module.LK_NBLCK, module.locking = 2, locking
    return module


if __name__ == "__main__":
    sys.modules["msvcrt"] = lock_module()
    for name in UNIX_ONLY:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Absent())
    for module, names in LACKING.items():
        for name in names:
            delattr(module, name) if hasattr(module, name) else None
    sys.argv = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
