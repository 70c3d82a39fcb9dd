"""The command `watch`: evaluate each new checkpoint of a training run while it is running, and keep the best.

    OUT/step-00005000/      output of `run` for that checkpoint
    OUT/leaderboard.json    all evaluated checkpoints, best first
    OUT/curves.png          metrics of the checkpoints by step
    OUT/best.safetensors    hard link to (or copy of) the best checkpoint; the training run may delete its own
    OUT/held/               checkpoints to be evaluated, linked or copied so that the training run cannot delete them

A checkpoint is added to `held` first and removed last, so that a killed `watch` continues with the same command.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluator.decoding import DecodeConfig
from evaluator.drawings import draw_board
from evaluator.jobs.config import RunConfig, WatchConfig
from evaluator.jobs.documents import output_folder, read_board, read_metrics, require_outputs
from evaluator.jobs.partial import differences
from pipeline.cli import flatten, save_config
from pipeline.errors import UserError
from pipeline.runtime.processes import failure, run_process
from pipeline.storage.files import file_facts, is_locked, link_or_copy, locked, remove_unfinished, require_folder, write_json
from pipeline.storage.folders import foreign_entries, require_folder_name, require_writable
from trainer.run import layout
from trainer.run.checkpoint import CheckpointInfo, list_checkpoints, read_checkpoint, read_info
from trainer.run.curves import write_picture
from trainer.run.layout import BEST

LEADERBOARD, HELD, LOCK = "leaderboard.json", "held", "watch.lock"
FAILED_METRIC = -2.0  # ranks failed evaluations last; a metric is -1 if no annotated person has the size it covers

Evaluate = Callable[[Path, Path], str | None]


def run(config: WatchConfig) -> int:
    """Run the command. Raises UserError for invalid inputs and for an output folder that is in use."""
    if not config.annotations.is_file():
        what = "not a file" if config.annotations.exists() else "no such file"
        raise UserError(f"annotation file {config.annotations}: {what}")
    require_folder(config.images, "image folder")
    require_run(config.run)
    watch = Watch(config, lambda checkpoint, out: evaluate_in_process(config.evaluation(checkpoint, out)))
    with watch.claimed():
        watch.loop()
    if not watch.entries:
        print(f"error: run folder {config.run}: contains no complete checkpoint; nothing was evaluated", file=sys.stderr)
    return int(not watch.entries or any("failed" in entry for entry in watch.entries.values()))


def require_run(folder: Path) -> None:
    """Raise UserError unless the folder is a run folder, or an empty one, in which a training run will start."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise UserError(f"run folder {folder}: {what}; check --run, or start the training run first")
    is_run = any((folder / name).exists() for name in (layout.CONFIG, layout.LOCK)) or layout.checkpoint_files(folder)
    if not is_run and (names := foreign_entries(folder)):
        raise UserError(f"run folder {folder}: not the --out of a training run (contains {names[0]!r}); check --run")


def evaluate_in_process(config: RunConfig) -> str | None:
    """Run the command `run` in a subprocess, which frees its memory when it ends. Return why it failed, None if it did not.

    The options are passed in a file beside the checkpoint: no value is lost or read as an option.
    """
    assert config.checkpoint is not None, "`watch` evaluates checkpoints"
    options = config.checkpoint.with_suffix(".yaml").absolute()
    save_config(config, options)
    try:
        said = deque([""], maxlen=1)  # the last line is the error
        code = run_process([sys.executable, "-m", "evaluator", "run", "--config", str(options)], said.append)
        return failure(code, said[0]) if code else None
    finally:
        options.unlink(missing_ok=True)


class Watch:
    """A watch over a run folder.

    evaluate: takes a checkpoint and a folder, and writes the output of `run` to the folder. Returns why it failed, or None.
    """

    def __init__(self, config: WatchConfig, evaluate: Evaluate) -> None:
        self.config, self.evaluate = config, evaluate
        self.held = config.out / HELD
        options = flatten(replace(config, decoding=config.decoding.filled(DecodeConfig())))  # training tunes no decoder
        decisive = ("joints", "max_images", "batch_size", "hf32", *flatten(config.inference), *flatten(config.decoding))
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
        require_folder_name(out)
        if (names := foreign_entries(out)) and not board.exists():
            if {BEST, HELD} & {*names}:
                raise UserError(
                    f"leaderboard {board}: no such file, but {out} contains other output of `watch`; restore the file, or choose "
                    "another --out to evaluate all checkpoints again"
                )
            raise UserError(f"output folder {out}: not empty, and not the output of `watch`; choose an empty or new folder")
        if board.exists():
            self._read_board(read_board(board))
        else:
            out.mkdir(parents=True, exist_ok=True)
            self._write_board()
        self.held.mkdir(exist_ok=True)
        with locked(out / LOCK, f"{out}: another `watch` is writing to this folder"):
            remove_unfinished(out)
            self._restore_best()
            yield

    def _read_board(self, board: dict[str, Any]) -> None:
        settings = {**self.settings, "metric": self.config.metric}
        if changed := differences({**board["settings"], "metric": board["metric"]}, settings):
            raise UserError(
                f"{self.config.out}: this `watch` was started with other settings ({changed}); use the same ones, "
                "or choose another --out"
            )
        require_outputs(board, self.config.out / LEADERBOARD)
        # Failed evaluations are tried again.
        self.entries = {entry["step"]: entry for entry in board["checkpoints"] if "failed" not in entry}

    def _restore_best(self) -> None:
        """Restore a best checkpoint that is missing or damaged from the training run's. Prints a warning if that is gone, too."""
        ranked, path = self._ranked(), self.config.out / BEST
        if not ranked:
            return
        best = ranked[0]
        sources = [layout.checkpoint_path(folder, best["step"]) for folder in (self.config.run, self.held)]
        held = {file_facts(file)["sha256"] for file in list_checkpoints(self.held)}
        # A `watch` that was killed before it wrote the leaderboard may have kept a better one, which is still held.
        if path.exists() and file_facts(path)["sha256"] in {best["sha256"], *held}:
            return
        what = f"best checkpoint {path}: {'damaged' if path.exists() else 'missing'}"
        for source in sources:
            if source.is_file() and file_facts(source)["sha256"] == best["sha256"]:
                link_or_copy(source, path)
                print(f"{what}; restored from {source}", flush=True)
                return
        gone = f"run folder {self.config.run} no longer contains the checkpoint of step {best['step']:,}"
        print(f"warning: {what}, and {gone}; restore it from a backup", file=sys.stderr)

    def loop(self) -> None:
        """Evaluate checkpoints until a stop condition of the configuration is met."""
        last_s = time.monotonic()
        while not self._has_enough():
            require_folder(self.config.run, "run folder")
            training = self._is_training()  # checked first, so that the last checkpoints of a run are not missed
            self._hold_new()
            if waiting := self._waiting():
                self._evaluate(waiting[0], read_info(waiting[0]))
                last_s = time.monotonic()
            elif self.config.stop_with_training and not training and self._has_trained():
                print(f"the training run in {self.config.run} has ended")
                return
            elif self.config.idle_minutes is not None and time.monotonic() - last_s >= 60 * self.config.idle_minutes:
                print(f"no new checkpoint in {self.config.run} for {self.config.idle_minutes:g} minutes")
                return
            else:
                time.sleep(self.config.poll_seconds)

    def _has_enough(self) -> bool:
        return self.config.max_evaluations is not None and len(self.entries) >= self.config.max_evaluations

    def _has_trained(self) -> bool:
        return bool(self.entries) or (self.config.run / layout.CONFIG).exists()

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

    def _waiting(self) -> list[Path]:
        """Return the held checkpoints to be evaluated, by step. Releases those that are done, but not those that failed."""
        waiting = []
        for path in sorted(list_checkpoints(self.held), key=lambda path: read_info(path).step):
            entry = self.entries.get(read_info(path).step)
            if entry is None:
                waiting.append(path)
            elif "failed" not in entry:
                path.unlink()
        return waiting

    def _evaluate(self, held: Path, info: CheckpointInfo) -> None:
        """Evaluate a checkpoint, add it to the leaderboard, and keep it if it is the best."""
        step, out = info.step, output_folder(self.config.out, info.step)
        entry: dict[str, Any] = {"step": step, "epoch": info.epoch, "sha256": file_facts(held)["sha256"], "out": out.name}
        print(f"step {step:,}: evaluating", flush=True)
        cause = self.evaluate(held, out)
        if cause is not None:
            entry |= {"failed": cause}
        else:
            shown = ("figures", "num_images", "num_images_in_file", "unreadable_images", "speed")
            metrics = read_metrics(out / "metrics.json", shown, [self.config.metric])
            entry |= {name: metrics[name] for name in shown} | {"metrics_sha256": file_facts(out / "metrics.json")["sha256"]}
        self.entries[step] = {**entry, "evaluated": datetime.now(UTC).isoformat(timespec="seconds")}
        best = self._ranked()[0]
        if best["step"] == step and cause is None:
            link_or_copy(held, self.config.out / BEST)
        self._write_board()
        write_picture(self.config.out / layout.CURVES, lambda: draw_board([*self.entries.values()], self.config.metric))
        result = f"{self.config.metric} {entry['figures'][self.config.metric]:.4f}" if cause is None else f"failed: {cause}"
        print(f"step {step:,}: {result}" + (f"; best so far: step {best['step']:,}" if "figures" in best else ""), flush=True)

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
