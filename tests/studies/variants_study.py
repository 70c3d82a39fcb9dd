"""How many variants does training need? AP on unseen synthetic people after the same number of steps, for several K.

    python tests/studies/variants_study.py --out study

Trains with and without jitter, with the people and the network of the quickstart, but with few images, so that each is seen as
often as in a real training run. Each of the six runs takes about six minutes on two cores. An interrupted study continues.
"""

import argparse
import json
import shlex
import subprocess
from pathlib import Path

from evaluator.quickstart import JITTER, build_command, evaluate_command, people_command, train_command
from trainer.run.log import read_log

NUM_IMAGES, NUM_UNSEEN = 400, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output folder for images, records and runs")
    parser.add_argument("--variants", type=int, nargs="+", default=[1, 4, 16], help="values of K to compare")
    parser.add_argument("--num-steps", type=int, default=1600, help="training steps, each of 8 images")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{'K':>3}  {'jitter':<6}{'AP':>7}{'AP .5':>7}{'AP .75':>7}   final loss", flush=True)
    for variants in options.variants:
        for jitter in (False, True):
            metrics, loss = study(options.out, variants, jitter, options.num_steps)
            values = "".join(f"{metrics[name]:>7.3f}" for name in ("AP", "AP .5", "AP .75"))
            print(f"{variants:>3}  {'yes' if jitter else 'no':<6}{values}   {loss:.5f}", flush=True)


def study(out: Path, variants: int, jitter: bool, num_steps: int) -> tuple[dict, float]:
    """Train and evaluate, unless the results exist. Returns the metrics and the last logged loss."""
    name = f"k{variants:02d}{'-jitter' if jitter else ''}"
    train, unseen, records, run, evaluation = (
        out / folder for folder in ("train", "unseen", f"records-{variants}", f"run-{name}", f"evaluation-{name}")
    )
    _run_unless_done(out, train, people_command(train, NUM_IMAGES, "train", 0))
    _run_unless_done(out, unseen, people_command(unseen, NUM_UNSEEN, "val", 0))
    _run_unless_done(out, records / "manifest.json", build_command(train, records, variants, 0))
    if not evaluation.exists():
        _run_unless_done(out, None, train_command(records, run, num_steps, 0) + (JITTER if jitter else []))
    _run_unless_done(out, evaluation, evaluate_command(run, unseen, evaluation))
    metrics = json.loads((evaluation / "metrics.json").read_text())["figures"]
    return metrics, read_log(run)[-1]["loss"]


def _run_unless_done(out: Path, output: Path | None, command: list[str]) -> None:
    if output is None or not output.exists():
        with open(out / "study.log", "a") as log:
            print("$", shlex.join(command), file=log, flush=True)
            subprocess.run(command, stdout=log, stderr=log, check=True)


if __name__ == "__main__":
    main()
