"""How well are people followed through videos? MOTA, IDF1 and switches on fields of the true keypoints, with and without clothes.

    python tests/studies/tracking_study.py --out study

Makes clips with `pipeline synthesize --video`, one set for each seed and largest number of people per clip, and runs
`evaluator oracle --video` on each with the images, so that clothes tell people apart, and without. Prints the table as Markdown, which
is also in OUT/tracking.md. An interrupted study continues.

The tracker was tuned on the seeds 11 to 19; the default seeds are others.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

SETS = ("4:41:20", "4:42:20", "4:43:20", "6:44:12", "6:45:12", "6:46:12")
TUNING_SEEDS = range(11, 20)
HEADER = "| people per clip | seed | clips | tracking by | MOTA | IDF1 | switches | crossings | ms per frame |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="output folder for clips, metrics and the table")
    parser.add_argument(
        "--sets", nargs="+", default=SETS, help="PEOPLE:SEED:CLIPS: largest number of people per clip, seed, number of clips"
    )
    options = parser.parse_args()
    rows = [HEADER, "| " + " | ".join(["---"] * HEADER.count(" | ")) + " | --- |"]
    print("\n".join(rows), flush=True)
    totals: dict[str, list[dict]] = {}
    for name in options.sets:
        people, seed, num_clips = map(int, name.split(":"))
        clips = options.out / f"people{people}-seed{seed}-clips{num_clips}"
        if not clips.exists():
            size = ["--num-clips", num_clips, "--max-walkers", people, "--seed", seed]
            _run("pipeline", "synthesize", "--video", "--out", clips, *size)
        for cue in ("motion and clothes", "motion alone"):
            metrics = measure(clips, cue)
            totals.setdefault(cue, []).append(metrics["tracking"]["all"])
            _add(rows, (people, f"{seed}{' (tuned on)' if seed in TUNING_SEEDS else ''}", num_clips, cue), metrics)
    for cue, figures in totals.items():
        total = {key: sum(entry[key] for entry in figures) for key in ("switches", "crossings")}
        mean = {key: sum(entry[key] for entry in figures) / len(figures) for key in ("MOTA", "IDF1")}
        num_clips = sum(int(name.split(":")[2]) for name in options.sets)
        _add(rows, ("all", "", num_clips, cue), {"tracking": {"all": {**total, **mean}}})
    (options.out / "tracking.md").write_text("\n".join(rows) + "\n")


def measure(clips: Path, cue: str) -> dict:
    """Return the metrics of `oracle --video` on these clips, which are kept beside them."""
    out = clips.with_name(f"{clips.name}-{cue.replace(' ', '-')}")
    if not out.exists():
        images = ["--images", clips / "train2017"] if cue == "motion and clothes" else []
        annotations = clips / "annotations" / "person_keypoints_train2017.json"
        _run("evaluator", "oracle", "--video", "--annotations", annotations, "--out", out, *images)
    return json.loads((out / "metrics.json").read_text())


def _add(rows: list[str], names: tuple, metrics: dict) -> None:
    figures = metrics["tracking"]["all"]
    cells = [*names, f"{figures['MOTA']:.3f}", f"{figures['IDF1']:.3f}", int(figures["switches"]), int(figures["crossings"])]
    milliseconds = metrics.get("tracking_ms")
    rows.append("| " + " | ".join(map(str, [*cells, f"{milliseconds:.1f}" if milliseconds else ""])) + " |")
    print(rows[-1], flush=True)


def _run(package: str, *words: object) -> None:
    subprocess.run([sys.executable, "-m", package, *map(str, words)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
