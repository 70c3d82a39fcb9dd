"""The command `calibrate`: fit the probability that a predicted person is right, and keep it in a copy of the checkpoint."""

import dataclasses
from pathlib import Path
from typing import Any

from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import score_map
from evaluator.export.export import add_metadata
from evaluator.inference.config import InferConfig
from evaluator.inference.engines import ONNX_SUFFIX, sha256
from evaluator.inference.scoring import Calibration, settings_of
from evaluator.jobs.config import CalibrateConfig
from evaluator.jobs.documents import read_identity
from evaluator.jobs.partial import EVALUATION
from evaluator.metrics.calibration import MIN_PROBABILITY, Judged, Reliability, cross_fit, fit, judge, reliability
from evaluator.metrics.checks import read_results
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import convert
from pipeline.storage.folders import require_writable
from pipeline.wording import counted
from trainer.run import layout
from trainer.run.checkpoint import read_checkpoint, save_checkpoint

INFERENCE = ("scales", "mirror", "raw_weights")  # and the size of the input, which an evaluation states in pixels
MIN_IMAGES, MIN_PEOPLE, MIN_RIGHT = 10, 50, 10  # for a fit that means anything


def run(config: CalibrateConfig) -> int:
    """Run the command. Raises UserError if files do not belong together, and for too few people."""
    is_exported = config.checkpoint.suffix.lower() == ONNX_SUFFIX
    require_new(config.out, ONNX_SUFFIX if is_exported else layout.CHECKPOINT_SUFFIX)
    identity = _read_identity(config.evaluation)
    settings = _settings(config.evaluation, identity)
    if sha256(config.annotations, "annotation file") != identity["annotations"]:
        raise UserError(f"annotation file {config.annotations}: not the file that {config.evaluation} was evaluated with")
    checkpoint = _find_checkpoint(config, identity["checkpoint"])
    skeleton = Skeleton.from_dict(identity["skeleton"], f"evaluation {config.evaluation / EVALUATION}: skeleton")
    document = CocoFile(config.annotations, skeleton)
    document = document.only(choose_images(document, identity["max_images"]))
    judged = judge(document, _read_raw(config.evaluation / "results.json"), skeleton)
    counts = len(set(judged.image_ids.tolist())), len(judged), int(judged.is_right.sum())
    if any(count < least for count, least in zip(counts, (MIN_IMAGES, MIN_PEOPLE, MIN_RIGHT), strict=True)):
        raise UserError(
            f"evaluation {config.evaluation}: calibration needs at least {MIN_PEOPLE} predicted people in {MIN_IMAGES} images, "
            f"{MIN_RIGHT} of them right, got {counts[1]} in {counts[0]}, {counts[2]} right; evaluate more images, or train longer"
        )
    calibration = calibrate(judged, skeleton, len(document.images), identity, settings)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    if is_exported:
        add_metadata(checkpoint, config.out, {"calibration": _plain(calibration)})
    else:
        info, tensors = read_checkpoint(checkpoint)
        save_checkpoint(
            config.out, dataclasses.replace(info, calibration=_plain(calibration)), tensors, then="run the command again"
        )
    print(f"wrote {config.out}: {checkpoint} with calibrated scores")
    return 0


def calibrate(
    judged: Judged, skeleton: Skeleton, num_images: int, identity: dict[str, Any], settings: dict[str, Any]
) -> Calibration:
    """Fit the calibration of an evaluation with this identity and these settings, and print how reliable the scores become."""
    crossed = cross_fit(judged)
    possible = crossed >= MIN_PROBABILITY
    before = reliability(score_map(skeleton)(judged.raw[possible]), judged.is_right[possible])
    after = reliability(crossed[possible], judged.is_right[possible])
    num_right, num_possible = int(judged.is_right.sum()), counted(int(possible.sum()), "person")
    print(f"{counted(len(judged), 'predicted person')} in {counted(num_images, 'image')}, {num_right} of them right")
    print(f"{num_possible} with a probability of at least {MIN_PROBABILITY:g}, fitted to the other half of the images:")
    print("\n".join(table(after)))
    print(f"expected calibration error: {before.ece:.4f} before, {after.ece:.4f} after, on images that were not used for fitting")
    return Calibration(
        knots=tuple(fit(judged.raw, judged.is_right)),
        settings=settings,
        annotations=identity["annotations"],
        checkpoint=identity["checkpoint"],
        num_images=num_images,
        num_people=len(judged),
        num_right=num_right,
        ece_before=before.ece,
        ece_after=after.ece,
    )


def table(measured: Reliability) -> list[str]:
    """Return one line per group of people."""
    rows = zip(measured.count, measured.score, measured.right, strict=True)
    return [f"{'people':>8}{'mean score':>12}{'right':>8}", *(f"{n:>8}{score:>12.3f}{right:>8.3f}" for n, score, right in rows)]


def require_new(out: Path, suffix: str = layout.CHECKPOINT_SUFFIX) -> None:
    """Raise UserError unless a network can be written to this path, which must end in `suffix` and not exist."""
    if out.suffix != suffix:
        kind = "an exported network" if suffix == ONNX_SUFFIX else "a checkpoint"
        raise UserError(f"output file {out}: the name of {kind} ends in {suffix}; choose another --out")
    if out.exists():
        raise UserError(f"output file {out}: already exists; choose another --out")
    if (out.parent / layout.CONFIG).exists() and (out.parent / layout.LOG).exists():
        raise UserError(f"output file {out}: in a run folder, whose older checkpoints training deletes; choose another --out")
    require_writable(out, f"output file {out}")


def _read_identity(folder: Path) -> dict[str, Any]:
    """Return the identity of a complete evaluation of a checkpoint."""
    path = folder / EVALUATION
    identity = read_identity(path, "evaluation")
    if "people" in identity:
        raise UserError(
            f"evaluation {folder}: is a shard; combine all shards with `python -m evaluator merge`, and give its --out"
        )
    decisive = ("annotations", "skeleton", "max_images", "insize", *INFERENCE, *DecodeConfig.__dataclass_fields__)
    if missing := [name for name in decisive if name not in identity]:
        raise UserError(f"evaluation {path}: missing required field `{missing[0]}`; repeat the evaluation with this version")
    if "checkpoint" not in identity:
        raise UserError(
            f"evaluation {folder}: of stored fields, not of a checkpoint; give the --out folder of `run --checkpoint`"
        )
    return identity


def _settings(folder: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the evaluation that change raw scores."""
    where = f"evaluation {folder / EVALUATION}"
    inference = convert({name: identity[name] for name in INFERENCE}, InferConfig, where)
    decoding = convert({name: identity[name] for name in DecodeConfig.__dataclass_fields__}, DecodeConfig, where)
    return settings_of(inference, identity["insize"], decoding)


def _find_checkpoint(config: CalibrateConfig, wanted: str) -> Path:
    """Return the checkpoint with that SHA-256. Raises UserError if it is not the one that was given, or not in that run folder."""
    files = layout.checkpoint_files(config.checkpoint) if config.checkpoint.is_dir() else [config.checkpoint]
    for file in files[::-1]:
        if sha256(file, "checkpoint") == wanted:
            return file
    what = "contains no checkpoint" if config.checkpoint.is_dir() else "not the checkpoint"
    raise UserError(f"checkpoint {config.checkpoint}: {what} of evaluation {config.evaluation} (SHA-256 {wanted[:12]}…)")


def _read_raw(path: Path) -> Any:
    results = read_results(path)
    if any("raw_score" not in entry for entry in results):
        raise UserError(f"results file {path}: has no `raw_score`, so it is of an earlier version; repeat the evaluation")
    if any(entry["raw_score"] < 0 for entry in results):
        raise UserError(f"results file {path}: raw_score must not be negative; the file was edited, repeat the evaluation")
    return results


def _plain(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as plain values, with numbers of as many digits as matter."""
    plain = dataclasses.asdict(calibration)
    plain["knots"] = [list(knot) for knot in calibration.knots]
    return plain
