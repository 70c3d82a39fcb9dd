"""What the first process of a run writes besides checkpoints and log: plan, schedule, TensorBoard events and pictures."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from pipeline.storage.files import write_json
from pipeline.wording import printable
from trainer.loop.optimizer import break_points
from trainer.run.curves import draw_schedule, write_picture
from trainer.run.events import EventWriter
from trainer.run.layout import SCHEDULE, TRANSFER, picture_path
from trainer.run.log import Entry, cut_log
from trainer.run.pictures import Pictures

if TYPE_CHECKING:
    from trainer.loop.training import Training


class Outputs:
    """Creating it cuts the log to the steps done, prints the plan, and draws the schedule; does nothing in other processes."""

    def __init__(self, training: "Training") -> None:
        self.state, self.out = training.state, training.config.out
        self._events: EventWriter | None = None
        self._pictures: Pictures | None = None
        if training.world.leads:
            self._open(training)

    def _open(self, training: "Training") -> None:
        config, step = training.config, self.state.progress.step
        for fault in cut_log(config.out, step):
            print(f"warning: {printable(fault)}; line removed", flush=True)
        if self.state.transfer:
            write_json(config.out / TRANSFER, [asdict(entry) for entry in self.state.transfer])
        print("\n".join(training.plan().lines()), flush=True)
        points = break_points(config.optim, training.total_steps)
        write_picture(config.out / SCHEDULE, lambda: draw_schedule(training.rates, training.total_steps, points))
        if config.tensorboard:
            self._events = EventWriter(config.out, step)
        if config.picture_interval:
            manifest = training.stream.manifest
            self._pictures = Pictures(config.out, config.records, manifest, config.network, unfolds=training.unfolds)

    def add(self, entry: Entry) -> None:
        """Write an entry of the log as TensorBoard events."""
        if self._events is not None:
            self._events.add(entry)

    def draw(self) -> None:
        """Draw the picture of the current step."""
        if (pictures := self._pictures) is not None:
            step = self.state.progress.step
            write_picture(picture_path(self.out, step), lambda: pictures.draw(self.state.network, step))

    def close(self) -> None:
        """Close the files."""
        if self._events is not None:
            self._events.close()
