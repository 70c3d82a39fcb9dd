"""The command `watch`: evaluate each new checkpoint of a training run while it is running, and keep the best.

    OUT/step-00005000/      output of `run` for that checkpoint
    OUT/leaderboard.json    all evaluated checkpoints, best first
    OUT/best.safetensors    hard link to (or copy of) the best checkpoint; the training run may delete its own
    OUT/held/               checkpoints to be evaluated, linked or copied so that the training run cannot delete them

A checkpoint is added to `held` first and removed last, so that a `watch` that is killed at any moment can be continued with the
same command.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluator.jobs.config import RunConfig, WatchConfig
from evaluator.jobs.partial import differences
from pipeline.cli import flatten, save_config
from pipeline.documents import read_json
from pipeline.errors import UserError
from pipeline.files import file_facts, is_locked, link_or_copy, locked, remove_unfinished, require_folder, write_json
from pipeline.folders import foreign_entries, require_writable
from pipeline.processes import run_process
from trainer.run import layout
from trainer.run.checkpoint import list_checkpoints, read_checkpoint, read_info

LEADERBOARD, BEST, HELD, LOCK = "leaderboard.json", f"best{layout.CHECKPOINT_SUFFIX}", "held", "watch.lock"
FAILED_METRIC = -2.0  # ranks failed evaluations last; a metric is -1 if no annotated person has the size it covers

Evaluate = Callable[[Path, Path], int]


def run(config: WatchConfig) -> int:
    """Run the command. Raises UserError for invalid inputs and for an output folder that is in use."""
    if not config.annotations.is_file():
        raise UserError(f"annotation file {config.annotations}: no such file")
    require_folder(config.images, "image folder")
    watch = Watch(config, lambda checkpoint, out: evaluate_in_process(config.evaluation(checkpoint, out)))
    with watch.claimed():
        watch.loop()
    return int(any("failed" in entry for entry in watch.entries.values()))


def evaluate_in_process(config: RunConfig) -> int:
    """Run the command `run` in a subprocess, which frees its memory when it ends, and return its exit code.

    The options are passed in a file beside the checkpoint: no value is lost or read as an option.
    """
    assert config.checkpoint is not None, "`watch` evaluates checkpoints"
    options = config.checkpoint.with_suffix(".yaml").absolute()
    save_config(config, options)
    try:
        return run_process([sys.executable, "-m", "evaluator", "run", "--config", str(options)])
    finally:
        options.unlink(missing_ok=True)


class Watch:
    """A watch over a run folder.

    evaluate: takes a checkpoint and a folder, writes the output of `run` to the folder, and returns the exit code.
    """

    def __init__(self, config: WatchConfig, evaluate: Evaluate) -> None:
        self.config, self.evaluate = config, evaluate
        self.held = config.out / HELD
        options = flatten(config)
        decisive = ("max_images", "batch_size", "hf32", *flatten(config.inference), *flatten(config.decoding))
        annotations = file_facts(config.annotations)["sha256"]
        self.settings = {"annotations": annotations, **{name: options[name] for name in decisive}}
        self.entries: dict[int, dict[str, Any]] = {}
        # Versions of files that were read, complete or not: path, modification time, size.
        self.known: set[tuple[Path, int, int]] = set()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Own the output folder. Raises UserError if it contains something else or another `watch` is running."""
        out, board = self.config.out, self.config.out / LEADERBOARD
        require_writable(out, f"output folder {out}")
        if foreign_entries(out) and not board.exists():
            raise UserError(f"output folder {out}: not empty, and not the output of `watch`; choose an empty or new folder")
        if board.exists():
            self._read_board(read_json(board, "leaderboard"))
        else:
            out.mkdir(parents=True, exist_ok=True)
            self._write_board()
        self.held.mkdir(exist_ok=True)
        with locked(out / LOCK, f"{out}: another `watch` is writing to this folder"):
            remove_unfinished(out)
            yield

    def _read_board(self, board: dict[str, Any]) -> None:
        settings = {**self.settings, "metric": self.config.metric}
        if changed := differences({**board["settings"], "metric": board["metric"]}, settings):
            raise UserError(
                f"{self.config.out}: this `watch` was started with other settings ({changed}); use the same ones, "
                "or choose another --out"
            )
        # Failed evaluations are tried again.
        self.entries = {entry["step"]: entry for entry in board["checkpoints"] if "failed" not in entry}

    def loop(self) -> None:
        """Evaluate checkpoints until a stop condition of the configuration is met."""
        last_s = time.monotonic()
        while not self._has_enough():
            training = self._is_training()  # checked first, so that the last checkpoints of a run are not missed
            self._hold_new()
            held = sorted(list_checkpoints(self.held), key=lambda path: read_info(path).step)
            if held:
                self._process(held[0])
                last_s = time.monotonic()
            elif self.config.stop_with_training and self.entries and not training:
                print(f"the training run in {self.config.run} has ended")
                return
            elif self.config.idle_minutes is not None and time.monotonic() - last_s >= 60 * self.config.idle_minutes:
                print(f"no new checkpoint in {self.config.run} for {self.config.idle_minutes:g} minutes")
                return
            else:
                time.sleep(self.config.poll_seconds)

    def _has_enough(self) -> bool:
        return self.config.max_evaluations is not None and len(self.entries) >= self.config.max_evaluations

    def _is_training(self) -> bool:
        return is_locked(self.config.run / layout.LOCK)

    def _hold_new(self) -> None:
        """Hold every complete checkpoint that is not evaluated yet, before the training run deletes it."""
        for path in list_checkpoints(self.config.run):
            try:
                facts = path.stat()
                version = path, facts.st_mtime_ns, facts.st_size
                if version in self.known:
                    continue
                self.known.add(version)
                info, _ = read_checkpoint(path)
                digest = file_facts(path)["sha256"]
                if info.step not in self.entries:
                    link_or_copy(path, layout.checkpoint_path(self.held, info.step))
            except (UserError, FileNotFoundError) as error:  # incomplete (so far), or just deleted by the training run
                print(f"skipped: {error}", file=sys.stderr)
                continue
            if self.entries.get(info.step, {"sha256": digest})["sha256"] != digest:
                raise UserError(
                    f"{path}: differs from the checkpoint of step {info.step} that {self.config.out} contains; "
                    "the training run was restarted; choose another --out"
                )

    def _process(self, held: Path) -> None:
        """Evaluate a held checkpoint unless that is done, then release it."""
        info = read_info(held)
        if info.step not in self.entries:
            self._evaluate(held, info.step, info.epoch)
        held.unlink()

    def _evaluate(self, held: Path, step: int, epoch: int) -> None:
        """Evaluate a checkpoint, add it to the leaderboard, and keep it if it is the best."""
        out = self.config.out / f"step-{step:08d}"
        entry: dict[str, Any] = {"step": step, "epoch": epoch, "sha256": file_facts(held)["sha256"], "out": out.name}
        print(f"step {step:,}: evaluating", flush=True)
        code = self.evaluate(held, out)
        if code:
            entry |= {"failed": f"exit code {code}"}
        else:
            metrics = read_json(out / "metrics.json", "metrics")
            shown = ("figures", "num_images", "num_images_in_file", "unreadable_images", "speed")
            entry |= {name: metrics[name] for name in shown}
        self.entries[step] = {**entry, "evaluated": datetime.now(UTC).isoformat(timespec="seconds")}
        best = self._ranked()[0]
        if best["step"] == step and not code:
            link_or_copy(held, self.config.out / BEST)
        self._write_board()
        result = f"failed with exit code {code}" if code else f"{self.config.metric} {entry['figures'][self.config.metric]:.4f}"
        print(f"step {step:,}: {result}; best so far: step {best['step']:,}", flush=True)

    def _ranked(self) -> list[dict[str, Any]]:
        """Return the entries, best first; of equal ones, fewer steps first; failed ones last."""
        metric = self.config.metric
        value = {step: entry["figures"][metric] if "figures" in entry else FAILED_METRIC for step, entry in self.entries.items()}
        return sorted(self.entries.values(), key=lambda entry: (-value[entry["step"]], entry["step"]))

    def _write_board(self) -> None:
        ranked = self._ranked()
        best = ranked[0]["step"] if ranked and "figures" in ranked[0] else None
        board = {"run": str(self.config.run), "metric": self.config.metric, "best": best, "settings": self.settings}
        write_json(self.config.out / LEADERBOARD, {**board, "checkpoints": ranked})
