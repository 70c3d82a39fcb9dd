"""Validations within a run: when, the pause for the evaluation, the best checkpoint, and the decision to end the run early.

A validation changes no state of the training. It evaluates a checkpoint that is already written, and a run that is killed before
the result is in the log repeats it when it is resumed. So a resumed run has the same results and ends at the same step.
"""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal

from pipeline.errors import UserError
from pipeline.storage.files import link_or_copy
from pipeline.wording import counted, printable
from trainer.config import TrainConfig
from trainer.distributed.world import Heart, World
from trainer.loop.state import State
from trainer.run.checkpoint import read_info
from trainer.run.layout import BEST, checkpoint_path
from trainer.run.log import Entry, read_log
from trainer.run.validations import Validation, best_of, describe, logged, num_without_gain, write_entry
from trainer.validation.evaluation import Evaluation, check, evaluating

POLL_S = 0.2

Decision = Literal["continue", "ended", "stopped"]
"""ended: AP has stopped rising. stopped: a signal arrived in any process."""


class Validator:
    """All processes of a world create one, and call `run` at the same steps; the first one evaluates and writes.

    report: called with each entry that is added to the log. Raises UserError for data that cannot be used, in the first process.
    """

    def __init__(self, config: TrainConfig, state: State, world: World, heart: Heart) -> None:
        self.options, self.out, self.state, self.world, self.heart = config.validate, config.out, state, world, heart
        self.interval = self.options.validate_interval or config.ckpt_interval
        self.report: Callable[[Entry], object] = lambda entry: None
        self._data, self.num_images = check(self.options, state.skeleton) if world.leads else ("", 0)
        if world.leads and state.newest is not None:
            state.validations += logged(read_log(self.out), state.progress.step)
            if state.validations and not self.done:
                state.notes.append(
                    "validation has other images or options now; the highest AP so far is not compared with new ones"
                )

    @property
    def done(self) -> list[Validation]:
        """Validations with the same images and options, by step. Complete in the first process only."""
        return [validation for validation in self.state.validations if validation.data == self._data]

    def plan(self) -> str:
        """Return when and on what this validates, for the plan."""
        patience = self.options.patience
        ends = f"; ends after {counted(patience, 'validation')} without a higher AP" if patience else ""
        return (
            f"every {counted(self.interval, 'step')}, {counted(self.num_images, 'image')}, on {self.options.validate_device_target}, while "
            f"training waits{ends}"
        )

    def is_due(self, left: int) -> bool:
        """Return whether the current step validates. left: number of steps until the end."""
        step = self.state.progress.step
        return step > 0 and (left == 0 or step % self.interval == 0)

    def run(self, arrived: Sequence[Any], left: int) -> Decision:
        """Validate the newest checkpoint if that is due and not done, and decide how to go on, the same in all processes.

        arrived: signals so far, which may become more while this waits.
        """
        step = self.state.progress.step
        is_done = step in {validation.step for validation in self.done}
        is_needed = self.world.leads and self.is_due(left) and not is_done and not arrived
        with ExitStack() as stack:
            evaluation = self._start(stack) if is_needed else None
            if self._wait(evaluation, arrived):
                return "stopped"
            if evaluation is not None:
                self._add(evaluation)
        patience = self.options.patience
        ends = self.world.leads and 0 < patience <= num_without_gain(self.done)
        if ends:
            best = best_of(self.done)
            assert best is not None, "otherwise, nothing was without a gain"
            print(
                f"early stopping: no higher AP in {counted(patience, 'validation')} (--patience {patience}); {self.out / BEST} is the "
                f"checkpoint of step {best.step:,} with AP {best.figures['AP']:.4f}",
                flush=True,
            )
        return "ended" if self._any(ends)[0] else "continue"

    def _start(self, stack: ExitStack) -> Evaluation | None:
        step, checkpoint = self.state.progress.step, self.state.newest
        assert checkpoint is not None, "validations follow a checkpoint"
        print(f"step {step:,}: validating on {counted(self.num_images, 'image')}", flush=True)
        try:
            return stack.enter_context(evaluating(self.options, checkpoint))
        except OSError as error:
            self._warn(str(error))
            return None

    def _wait(self, evaluation: Evaluation | None, arrived: Sequence[Any]) -> bool:
        """Wait until the evaluation of the first process has ended. Returns whether a signal arrived in any process before.

        The processes exchange this several times per second, so that no collective waits for long.
        """
        while True:
            has_ended = self.world.leads and (evaluation is None or evaluation.process.poll() is not None)
            is_stopped, is_over = self._any(bool(arrived), has_ended)
            if is_stopped or is_over:
                return is_stopped
            self.heart.beat(self.state.progress.step + 1)
            time.sleep(POLL_S)

    def _any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is true in any process."""
        if self.world.size == 1:
            return list(flags)
        import mindspore as ms

        counts = self.world.summing()(ms.Tensor([float(flag) for flag in flags], ms.float32)).asnumpy()
        return [bool(count > 0) for count in counts]

    def _add(self, evaluation: Evaluation) -> None:
        """Add the result of the current step: to the best checkpoint, then to the log. A failure is reported; training continues."""
        progress = self.state.progress
        try:
            figures = evaluation.figures()
        except UserError as error:
            self._warn(str(error))
            return
        validation = Validation(step=progress.step, figures=figures, data=self._data)
        self.state.validations.append(validation)
        if best_of(self.done) is validation:
            assert self.state.newest is not None, "it was evaluated"
            link_or_copy(self.state.newest, self.out / BEST)
        entry = write_entry(self.out, progress.epoch - (progress.position == 0), validation)
        print(describe(self.done), flush=True)
        self.report(entry)

    def _warn(self, cause: str) -> None:
        step = self.state.progress.step
        print(f"warning: step {step:,}: validation failed: {printable(cause)}; training continues", file=sys.stderr, flush=True)

    def restore_best(self) -> None:
        """Restore the best checkpoint of a resumed run if it is missing, damaged, or of a step that this run has not reached."""
        best, path = best_of(self.done), self.out / BEST
        if best is None or not self.world.leads:
            return
        try:
            if read_info(path).step == best.step:
                return
            problem = "is another one"
        except UserError:
            problem = "is damaged" if path.exists() else "is missing"
        source = checkpoint_path(self.out, best.step)
        what = f"{path} {problem}; the best checkpoint is that of step {best.step:,}"
        if source.is_file():
            link_or_copy(source, path)
            print(f"{what}, restored from {source}", flush=True)
        else:
            print(f"warning: {what}, which was deleted; the next one with a higher AP replaces it", file=sys.stderr, flush=True)
