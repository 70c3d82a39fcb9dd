"""The command `watch`: evaluate each new checkpoint of a training while it runs, and keep the best.

    OUT/step-00005000/      output of `run` for that checkpoint
    OUT/leaderboard.json    all of them, best first
    OUT/best.safetensors    hard link to (or copy of) the best checkpoint: the training may remove its own
    OUT/held/               checkpoints that are being evaluated

A checkpoint is held first and let go last, so that a watch that was killed at any moment goes on with the same command.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evaluator.jobs.config import RunConfig, WatchConfig
from evaluator.jobs.partial import differences
from pipeline.cli import as_options, flatten
from pipeline.errors import UserError
from pipeline.files import file_facts, is_locked, link_or_copy, locked, read_json, remove_unfinished, write_json
from trainer.run.checkpoint import SUFFIX, list_checkpoints, read_checkpoint, read_info

LEADERBOARD, BEST, HELD, LOCK = "leaderboard.json", f"best{SUFFIX}", "held", "watch.lock"
STOPPED = (130, 143, -2, -15)  # exit codes of an evaluation that a signal stopped
TRAINING_LOCK = "train.lock"  # held by `python -m trainer train` as long as it runs

Evaluate = Callable[[Path, Path], int]


def run(config: WatchConfig) -> int:
    """Raises UserError for input that cannot be used and for an output folder of something else."""
    for what, path, there in (
        ("annotation file", config.annotations, config.annotations.is_file()),
        ("image folder", config.images, config.images.is_dir()),
    ):
        if not there:
            raise UserError(f"{what} {path}: not there")
    watch = Watch(config, lambda checkpoint, out: _in_a_process(config.evaluation(checkpoint, out)))
    with watch.claimed():
        watch.loop()
    return int(any("failed" in entry for entry in watch.entries.values()))


def _in_a_process(config: RunConfig) -> int:
    """`run` in a process of its own, whose memory is free again afterwards; stopped when this one is."""
    values = {name: value for name, value in flatten(config).items() if value is not None}
    process = subprocess.Popen([sys.executable, "-m", "evaluator", "run", *as_options(values)])
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


class Watch:
    """A watch over a run folder. `evaluate` takes a checkpoint and the folder for the output of `run`; returns the exit code."""

    def __init__(self, config: WatchConfig, evaluate: Evaluate) -> None:
        self.config, self.evaluate = config, evaluate
        self.held = config.out / HELD
        flat = flatten(config)
        shown = ("max_images", "batch_size", *flatten(config.inference), *flatten(config.decoding))
        self.settings = {"annotations": file_facts(config.annotations)["sha256"], **{name: flat[name] for name in shown}}
        self.entries: dict[int, dict[str, Any]] = {}
        # Files that were looked at, whole or not: path, time of the last change, size.
        self.known: set[tuple[Path, int, int]] = set()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Own the output folder. Raises UserError for a folder of something else, or of a watch that still runs."""
        out, board = self.config.out, self.config.out / LEADERBOARD
        if out.exists() and any(out.iterdir()) and not board.exists():
            raise UserError(f"output folder {out}: not empty and not of a watch; give an empty or new one")
        if board.exists():
            self._continue(read_json(board, "leaderboard"))
        else:
            out.mkdir(parents=True, exist_ok=True)
            self._write_board()
        self.held.mkdir(exist_ok=True)
        with locked(out / LOCK, f"{out}: another watch is writing there"):
            remove_unfinished(out)
            yield

    def _continue(self, there: dict[str, Any]) -> None:
        now = {**self.settings, "metric": self.config.metric}
        if changed := differences({**there["settings"], "metric": there["metric"]}, now):
            raise UserError(
                f"{self.config.out}: of a watch with other settings ({changed}); give the same ones, or another --out"
            )
        # What failed gets another chance.
        self.entries = {entry["step"]: entry for entry in there["checkpoints"] if "failed" not in entry}

    def loop(self) -> None:
        """Until one of the conditions of the configuration holds."""
        seen_s = time.monotonic()
        while not self._enough():
            training = self._training_runs()  # asked first: what it wrote before it ended is then seen
            self._hold_new()
            waiting = sorted(list_checkpoints(self.held), key=lambda path: read_info(path).step)
            if waiting:
                self._judge(waiting[0])
                seen_s = time.monotonic()
            elif self.config.stop_with_training and self.entries and not training:
                print(f"no training holds {self.config.run} any more")
                return
            elif self.config.idle_minutes is not None and time.monotonic() - seen_s >= 60 * self.config.idle_minutes:
                print(f"no new checkpoint in {self.config.run} for {self.config.idle_minutes:g} minutes")
                return
            else:
                time.sleep(self.config.poll_seconds)

    def _enough(self) -> bool:
        return self.config.max_evaluations is not None and len(self.entries) >= self.config.max_evaluations

    def _training_runs(self) -> bool:
        return is_locked(self.config.run / TRAINING_LOCK)

    def _hold_new(self) -> None:
        """Hold every whole checkpoint that was not evaluated yet, before the training removes it."""
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
                    link_or_copy(path, self.held / f"step-{info.step:08d}{SUFFIX}")
            except (UserError, FileNotFoundError) as error:  # not whole (yet), or removed by the training meanwhile
                print(f"passed over: {error}", file=sys.stderr)
                continue
            if self.entries.get(info.step, {"sha256": digest})["sha256"] != digest:
                raise UserError(
                    f"{path}: another checkpoint of step {info.step} than the one that {self.config.out} has evaluated; "
                    "the training was begun anew, so give another --out"
                )

    def _judge(self, held: Path) -> None:
        """Evaluate a checkpoint that is held, enter it, keep it if it is the best, and let it go."""
        info = read_info(held)
        if info.step not in self.entries:
            out = self.config.out / f"step-{info.step:08d}"
            entry = {"step": info.step, "epoch": info.epoch, "sha256": file_facts(held)["sha256"], "out": out.name}
            print(f"step {info.step:,}", flush=True)
            code = self.evaluate(held, out)
            if code in STOPPED:
                raise KeyboardInterrupt
            if code:
                entry |= {"failed": f"exit code {code}"}
            else:
                metrics = read_json(out / "metrics.json", "metrics")
                shown = ("figures", "num_images", "num_images_in_file", "unreadable_images", "speed")
                entry |= {name: metrics[name] for name in shown}
            self.entries[info.step] = {**entry, "evaluated": datetime.now(UTC).isoformat(timespec="seconds")}
            best = self._ranked()[0]
            if best["step"] == info.step and not code:
                link_or_copy(held, self.config.out / BEST)
            self._write_board()
            score = f"exit code {code}" if code else f"{self.config.metric} {entry['figures'][self.config.metric]:.4f}"
            print(f"step {info.step:,}: {score}; best so far: step {best['step']:,}", flush=True)
        held.unlink()

    def _ranked(self) -> list[dict[str, Any]]:
        """Best first; of equal ones that of fewer steps; those that failed last."""
        metric = self.config.metric
        figure = {step: entry["figures"][metric] if "figures" in entry else -2.0 for step, entry in self.entries.items()}
        return sorted(self.entries.values(), key=lambda entry: (-figure[entry["step"]], entry["step"]))

    def _write_board(self) -> None:
        ranked = self._ranked()
        best = ranked[0]["step"] if ranked and "figures" in ranked[0] else None
        board = {"run": str(self.config.run), "metric": self.config.metric, "best": best, "settings": self.settings}
        write_json(self.config.out / LEADERBOARD, {**board, "checkpoints": ranked})
