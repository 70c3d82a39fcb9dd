"""The option `--profile`: records what device and host do during some steps, with `mindspore.profiler`."""

from pathlib import Path
from typing import Any

from trainer.run.layout import PROFILE


class Profiling:
    """Profiles the training steps `steps` (numbers from 1) of this process into a folder of RUN/profile.

    Call `begin` before a step is launched and `end` after it. So that the trace contains complete steps, read the results of all
    steps after those named by `is_border`. `close` ends a profile that the run did not complete.
    """

    def __init__(self, run_folder: Path, steps: range, device: str) -> None:
        self._folder, self._steps, self._device = run_folder / PROFILE, steps, device
        self._profile: Any = None
        self._first = 0

    def is_border(self, step: int) -> bool:
        """Return whether the profile starts or ends after this step."""
        return bool(self._steps) and step in (self._steps[0] - 1, self._steps[-1])

    def begin(self, step: int) -> None:
        """Start to record if the step is one of those to profile."""
        if self._profile is not None or step not in self._steps:
            return
        from mindspore import profiler

        activities = [profiler.ProfilerActivity.CPU]
        if self._device != "CPU":
            activities.append(profiler.ProfilerActivity.NPU)
        self._first = step
        self._profile = profiler.profile(
            activities=activities, schedule=profiler.schedule(wait=0, warmup=0, active=self._steps[-1] + 1 - step, repeat=1),
            on_trace_ready=profiler.tensorboard_trace_handler(str(self._folder)),
        )  # fmt: skip

    def end(self, step: int) -> None:
        """Note that a step was launched; write the profile after the last one."""
        if self._profile is None:
            return
        self._profile.step()
        if step == self._steps[-1]:
            self._write(step)

    def close(self, step: int) -> None:
        """Write the profile of an interrupted run up to this step."""
        if self._profile is not None:
            self._write(step)

    def _write(self, step: int) -> None:
        self._profile.stop()
        self._profile = None
        print(
            f"\nprofiled steps {self._first} to {step}: {self._folder}; open trace_view.json with MindStudio Insight, "
            "https://ui.perfetto.dev, or chrome://tracing",
            flush=True,
        )
