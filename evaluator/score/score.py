"""The command `score`: score results files of any program, and write for each what `run` writes, and a report about all."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluator.jobs.outcome import describe_metrics
from evaluator.jobs.partial import EVALUATION
from evaluator.metrics.checks import MismatchError, read_results
from evaluator.metrics.coco_eval import Evaluation, evaluate_twice, labeled_images
from evaluator.metrics.figures import Measured
from evaluator.metrics.others import as_written, measure_others, require_metrics
from evaluator.metrics.results import Results
from evaluator.report.config import ReportConfig
from evaluator.report.evaluations import Evaluated
from evaluator.report.report import Shown, make_page
from evaluator.score.config import ScoreConfig
from pipeline.cli import flatten, save_config
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.file_skeleton import shipped_skeleton_of_file
from pipeline.errors import UserError
from pipeline.skeletons import COCO18, read_skeleton
from pipeline.storage.files import file_facts, require_folder, write_atomic, write_json
from pipeline.storage.folders import new_folder, require_usable
from pipeline.wording import counted, printable

REPORT = "report.html"
EQUAL_SCORE = 1.0  # of results without score


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A results file and its metrics: over all images, over images with people, and those of other data sets."""

    path: Path
    results: Results
    evaluation: Evaluation
    people_images: Evaluation
    others: dict[str, Measured]


def run(config: ScoreConfig) -> int:
    """Run the command. Raises UserError for files that are invalid or do not belong together, and for an unusable output folder."""
    if config.out is not None:
        require_usable(config.out)
    if config.images is not None:
        require_folder(config.images, "image folder")
    if config.skeleton is None:
        document = CocoFile(config.annotations, COCO18, view=shipped_skeleton_of_file)
    else:
        document = CocoFile(config.annotations, read_skeleton(config.skeleton))
    if not document.images:
        raise UserError(f"annotation file {config.annotations}: contains no images")
    require_metrics(document, config.metrics)
    scored = [_score(path, document, config) for path in config.results]
    print("\n".join([*document.notes(), *_summary(scored)]))
    if config.out is not None:
        _write(config, config.out, document, scored)
    return 0


def _score(path: Path, document: CocoFile, config: ScoreConfig) -> Scored:
    """Read and score a results file. Raises UserError, which names the file, if it does not match the annotations."""
    results = read_results(path)
    if without := sum("score" not in entry for entry in results):
        print(f"{path}: {without:,} of {counted(len(results), 'result')} without score, as if it were {EQUAL_SCORE:g}")
        for entry in results:
            entry.setdefault("score", EQUAL_SCORE)
    ids = [image.id for image in document.images]
    try:
        evaluation, people_images = evaluate_twice(document, results, document.skeleton, ids, labeled_images(document))
    except MismatchError as error:
        raise UserError(f"results file {path}: {error}") from error
    others = measure_others(document, results, config.metrics, ids)
    return Scored(path=path, results=results, evaluation=evaluation, people_images=people_images, others=others)


def _summary(scored: list[Scored]) -> list[str]:
    """Return the figures as text: as `run` prints them for one file, as a table for several."""
    lines: list[str] = []
    if len(scored) == 1:
        lines += scored[0].evaluation.rows()
    else:
        columns = [f"{number}: {printable(str(each.path))}" for number, each in enumerate(scored, 1)]
        width = max(10, *map(len, columns))
        rows = {name: [each.evaluation.figures[name] for each in scored] for name in scored[0].evaluation.figures}
        for metric, measured in scored[0].others.items():
            rows |= {f"{metric} {name}": [each.others[metric].figures[name] for each in scored] for name in measured.figures}
        first = max(map(len, rows))
        lines.append("  ".join([" " * first, *(f"{column:>{width}}" for column in columns)]))
        lines += ["  ".join([f"{name:<{first}}", *(f"{value:>{width}.4f}" for value in row)]) for name, row in rows.items()]
        return lines
    for metric, measured in scored[0].others.items():
        lines += [f"--metric {metric}", *measured.lines()]
    return [*lines, scored[0].evaluation.line()]


def _write(config: ScoreConfig, out: Path, document: CocoFile, scored: list[Scored]) -> None:
    """Write the output folder: an evaluation, as `run` writes it, or a folder of several; and the report."""
    names = _folder_names([each.path for each in scored]) if len(scored) > 1 else ["."]
    shown = Shown(images=config.images, gallery=ReportConfig.gallery, pictures=ReportConfig.pictures)
    with new_folder(out, last=EVALUATION if len(scored) == 1 else REPORT) as folder:
        evaluated = [_write_evaluation(folder / name, each, config, document) for name, each in zip(names, scored, strict=True)]
        text, lines = make_page(evaluated, document, shown, out)
        write_atomic(folder / REPORT, text)
    print("\n".join([*lines, f"wrote results, metrics and {REPORT} to {out}"]))


def _write_evaluation(folder: Path, scored: Scored, config: ScoreConfig, document: CocoFile) -> Evaluated:
    """Write the files of an evaluation, and return them."""
    identity = {
        "annotations": document.sha256,
        "max_images": None,
        "skeleton": document.skeleton.to_dict(),
        "results": file_facts(scored.path)["sha256"],
    }
    settings = {**flatten(config), "results": str(scored.path)}
    metrics: dict[str, Any] = {
        **describe_metrics(document, document.images, scored.results, scored.evaluation, scored.people_images),
        "unreadable_images": {},
        **as_written(scored.others),
        "settings": settings,
    }
    folder.mkdir(exist_ok=True)
    write_json(folder / "results.json", scored.results)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / EVALUATION, identity)
    save_config(config, folder / "config.yaml")
    return Evaluated(folder=scored.path, identity=identity, results=scored.results, metrics=metrics, settings=settings)


def _folder_names(paths: list[Path]) -> list[str]:
    """Return a folder name for each file: its own without suffix, with a number in front if two are the same."""
    stems = [path.stem for path in paths]
    is_unique = max(Counter(stem.lower() for stem in stems).values()) == 1
    return stems if is_unique else [f"{number}-{stem}" for number, stem in enumerate(stems, 1)]
