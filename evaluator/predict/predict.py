"""The command `predict`: find people in any images and videos, and write drawings and JSON."""

import hashlib
import itertools
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evaluator.decoding import DecodeConfig
from evaluator.inference.clock import Clock
from evaluator.inference.engines import load_and_report, origin_of
from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.scoring import read_calibration
from evaluator.inference.streaming import prefetch
from evaluator.inference.tuned import decoding_of
from evaluator.jobs.partial import Unfinished, remove_leftover
from evaluator.jobs.results_version import RESULTS_VERSION
from evaluator.options import choose_batch_size
from evaluator.predict.config import PredictConfig
from evaluator.predict.drawn import Picture, require_text_name
from evaluator.predict.encoding import WITHOUT_FFMPEG, find_ffmpeg
from evaluator.predict.frames import FrameSequence
from evaluator.predict.listing import Sources, is_video, list_sources
from evaluator.predict.names import output_names
from evaluator.predict.output import VIDEO_SUFFIX, Output
from evaluator.predict.predictor import EVERYBODY, Predictor
from evaluator.predict.previous import (
    LAST,
    PREDICTION,
    Previous,
    discard_other_work,
    finish,
    read_prediction,
    read_previous,
    read_skipped,
    require_same,
)
from evaluator.predict.video import Video
from pipeline.cli import flatten, save_config
from pipeline.errors import UserError
from pipeline.images import UnreadableImage
from pipeline.storage.files import write_json
from pipeline.storage.folders import extended_folder, new_folder, require_usable, unfinished_folder
from pipeline.tolerance import report_unreadable
from pipeline.wording import counted

FRAMES_AHEAD = 4
SCHEMA_VERSION = 2  # of the JSON files, see evaluator/README.md


def run(config: PredictConfig) -> int:
    """Run the command. Raises UserError for invalid inputs and for an output folder that is in use."""
    if not (config.out / PREDICTION).exists():
        require_usable(config.out)
    sources = list_sources(config.images, exclude=(config.out, unfinished_folder(config.out)))
    sources.report_ignored()
    network, device = load_and_report(config.checkpoint, config.device, config.inference)
    config = replace(config, decoding=config.decoding.filled(decoding_of(network)))
    return predict(config, sources, network, origin_of(network, device, config.device))


def predict(
    config: PredictConfig,
    sources: Sources,
    network: FieldNetwork,
    origin: dict[str, Any] | None = None,
    clock: Clock | None = None,
) -> int:
    """Find people in `sources` with `network`, write the output folder, and return the exit code.

    origin: what identifies the network (SHA-256, step), and the device. clock: measures where the time goes.
    """
    origin = {"device": "CPU", "calibration": {}, **(origin or {})}
    decoding = config.decoding.over(DecodeConfig())
    config = replace(config, decoding=config.decoding.filled(decoding))
    predictor = Predictor.of(
        network,
        inference=config.inference,
        decoding=decoding,
        calibration=read_calibration(origin["calibration"], f"checkpoint {config.checkpoint}"),
        select=EVERYBODY,
        batch_size=choose_batch_size(config.batch_size, origin["device"]),
    )
    origin["batch_size"] = predictor.batch_size
    identity, previous = _identify(config, sources, network, origin), Previous()
    work_identity = identity
    if (config.out / PREDICTION).exists():
        if not config.skip_existing:
            return _report_complete(config, identity)
        require_same(config.out, identity, except_files=True)
        previous = read_previous(config.out)
        added = sources.without(previous.file_names)
        work_identity = _identify(config, added, network, origin) | {"last_id": previous.last_id}
        discard_other_work(config.out, work_identity)
        if not added.files:
            finish(config.out, identity, previous)
            return _report_complete(config, identity)
        sources = added
    with Unfinished(config.out, work_identity, network.skeleton.num_joints) as work:
        output = _write(config, sources, predictor, work, previous, identity, clock or Clock())
        work.remove()
    about = (
        f"{counted(output.num_people, 'person')} with a score of at least {config.select.min_score:g} (--min-score) in "
        f"{counted(output.num_images, 'image')}"
    )
    if output.num_reduced:
        about += f"; {counted(output.num_reduced, 'huge image')} drawn at reduced size"
    print(f"{about}; wrote drawings, results.json and images.json to {config.out}")
    return _report(config, output.unreadable, len(previous.images) + output.num_images, output.num_unreadable)


def _write(
    config: PredictConfig,
    sources: Sources,
    predictor: Predictor,
    work: Unfinished,
    previous: Previous,
    identity: dict[str, Any],
    clock: Clock,
) -> Output:
    """Write the output folder, or add to the finished one of which `previous` has the lists."""
    is_new = not previous.images
    with new_folder(config.out, last=PREDICTION) if is_new else extended_folder(config.out, LAST) as folder:
        videos = [is_video(file) for file in sources.files]
        names = output_names(sources.files, videos, folder, sources.places, previous.drawings)
        with Output(folder, config, predictor, work, previous, clock) as output:
            output.retry(sources.files)
            _add_files(output, list(zip(sources.files, names, strict=True)))
        if is_new and not output.num_images:
            first = next(iter(output.unreadable.values()))
            what = f"{first['file_name']}: {first['reason']}"
            num_files = len(sources.files)
            raise UserError(what if num_files == 1 else f"none of the {num_files} files can be read; the first is {what}")
        save_config(config, folder / "config.yaml")
        counts = {"num_images": len(previous.images) + output.num_images, "num_unreadable": output.num_unreadable}
        write_json(folder / PREDICTION, {**identity, **counts})
    return output


def _report(config: PredictConfig, unreadable: dict[str, Any], num_images: int, num_unreadable: int) -> int:
    reasons = {name: entry["reason"] for name, entry in unreadable.items()}
    return report_unreadable(reasons, "skipped", config.tolerance, num_images + num_unreadable, num_unreadable)


def _report_complete(config: PredictConfig, identity: dict[str, Any]) -> int:
    """Print what an output that is complete already could not read, and return its exit code.

    Raises UserError if the output is that of other inputs or options, naming the difference.
    """
    require_same(config.out, identity, except_files=False)
    _, counts = read_prediction(config.out)
    remove_leftover(config.out, identity, len(identity["skeleton"]["joints"]))
    print(f"{config.out}: already complete")
    return _report(config, {entry["file_name"]: entry for entry in read_skipped(config.out)}, **counts)


def _identify(config: PredictConfig, sources: Sources, network: FieldNetwork, origin: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines the output. Two predictions with equal identities write the same bytes."""
    return {
        "command": "predict",
        "schema_version": SCHEMA_VERSION,
        "num_files": len(sources.files),
        **{name: getattr(config, name) for name in ("openpose_json", "coco_video", "table")},
        **{f"video_{name}": value for name, value in flatten(config.video).items()},
        **flatten(config.tracking),
        **{f"draw_{name.removeprefix('draw_')}": value for name, value in flatten(config.drawing).items()},
        "files": _digest(sources.files),
        "skeleton": network.skeleton.to_dict(),
        **flatten(config.select),
        **asdict(config.decoding.over(DecodeConfig())),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config.inference).items()},
        **origin,
        "results_version": RESULTS_VERSION,
    }


def _digest(files: Sequence[Path]) -> str:
    """Return a digest of names, sizes and times of files."""
    inputs = hashlib.sha256()
    for file in files:
        inputs.update(os.fsencode(file.absolute()))
        with suppress(OSError):  # it cannot be read; that is reported later
            facts = file.stat()
            inputs.update(f"\n{facts.st_size}\n{facts.st_mtime_ns}\n".encode())
    return inputs.hexdigest()


def _add_files(output: Output, named: list[tuple[Path, str]]) -> None:
    has_videos = any(is_video(file) for file, _ in named)
    ffmpeg = find_ffmpeg() if has_videos else None
    if has_videos and ffmpeg is None:
        print(WITHOUT_FFMPEG, flush=True)
    for video, group in itertools.groupby(named, key=lambda pair: is_video(pair[0])):
        if video:
            for file, name in group:
                _add_video(output, file, name, ffmpeg)
        else:
            pictures = [Picture(file=file, name=name) for file, name in group]
            output.add(pictures, len(pictures))


def _add_video(output: Output, file: Path, name: str, ffmpeg: str | None) -> None:
    num_before, config = output.num_images, output.config
    try:
        require_text_name(file)
        video = Video(file, config.video)
    except UnreadableImage as error:
        output.skip(file, str(error))
        return
    frames = (
        Picture(file=file, name=name, frame=number, seconds=number / video.fps, pixels=frame) for number, frame in video.frames()
    )
    path = output.folder / f"{name}{VIDEO_SUFFIX}"
    with FrameSequence(video, file, path, config, output.predictor, ffmpeg) as sequence:
        output.add_video(prefetch(frames, FRAMES_AHEAD), video.num_stated or None, sequence, file, video.fps)
    num_frames = output.num_images - num_before
    if not num_frames:
        output.skip(file, "none of its frames can be decoded", max(1, video.num_stated))
    elif num_frames < video.num_stated:
        missing = video.num_stated - num_frames
        output.skip(file, f"only {num_frames:,} of {video.num_stated:,} frames can be decoded", missing)
