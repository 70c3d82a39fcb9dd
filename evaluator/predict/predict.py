"""The command `predict`: find people in any images and videos, and write drawings and JSON."""

import hashlib
import itertools
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.scoring import map_of, read_calibration, settings_of, warn_of_other_settings
from evaluator.inference.streaming import prefetch
from evaluator.jobs.documents import read_identity
from evaluator.jobs.loading import load_checkpoint, origin_of
from evaluator.jobs.outcome import report_unreadable
from evaluator.jobs.partial import Unfinished, differences, remove_leftover
from evaluator.jobs.results_version import RESULTS_VERSION
from evaluator.options import choose_batch_size
from evaluator.predict.config import PredictConfig
from evaluator.predict.names import output_names
from evaluator.predict.output import SKIPPED, Output, Picture, require_text_name
from evaluator.predict.video import SUFFIXES as VIDEO_SUFFIXES
from evaluator.predict.video import Video, VideoWriter
from pipeline.cli import flatten, save_config
from pipeline.documents import Count, convert, read_json
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.folders import new_folder, require_usable
from pipeline.images import UnreadableImage
from pipeline.wording import counted

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
FRAMES_AHEAD = 4
PREDICTION = "prediction.json"  # written last


class Counts(TypedDict):
    """Numbers of images and frames, in prediction.json."""

    num_images: Count
    num_unreadable: Count


class Skipped(TypedDict):
    """An entry of skipped.json."""

    file_name: str
    reason: str


def run(config: PredictConfig) -> int:
    """Run the command. Raises UserError for invalid inputs and for an output folder that is in use."""
    if not (config.out / PREDICTION).exists():
        require_usable(config.out)
    files = list_files(config.images)
    network, device = load_checkpoint(config.checkpoint, config.device, config.inference)
    return predict(config, files, network, origin_of(network, device, config.device))


def list_files(paths: Iterable[Path]) -> list[Path]:
    """Replace folders by the images and videos in them, sorted by name, without subfolders.

    Raises UserError for paths that do not exist and for folders without images and videos.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES + VIDEO_SUFFIXES)
            if not inside:
                raise UserError(f"folder {path}: contains no image or video ({', '.join(IMAGE_SUFFIXES + VIDEO_SUFFIXES)})")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"image {path}: no such file or folder")
    return files


def is_video(file: Path) -> bool:
    """Whether the suffix is that of a video."""
    return file.suffix.lower() in VIDEO_SUFFIXES


def predict(config: PredictConfig, files: list[Path], network: FieldNetwork, origin: dict[str, Any] | None = None) -> int:
    """Find people in `files` with `network`, write the output folder, and return the exit code.

    origin: what identifies the network (SHA-256, step), and the device.
    """
    origin = {"device": "CPU", "calibration": {}, **(origin or {})}
    batch_size = choose_batch_size(config.batch_size, origin["device"])
    identity = _identify(config, files, network, origin | {"batch_size": batch_size})
    if (config.out / PREDICTION).exists():
        return _report_complete(config, identity)
    calibration = read_calibration(identity["calibration"], f"checkpoint {config.checkpoint}")
    warn_of_other_settings(calibration, settings_of(config.inference, config.inference.insize or network.insize, config.decoding))
    to_scores = map_of(calibration, network.skeleton)
    with Unfinished(config.out, identity, network.skeleton.num_joints) as work:
        with new_folder(config.out, last=PREDICTION) as folder:
            names = output_names(files, [is_video(file) for file in files], folder)
            with Output(folder, config, network, batch_size, work, to_scores) as output:
                _add_files(output, list(zip(files, names, strict=True)))
            if not output.num_images:
                first = "{}: {}".format(*next(iter(output.unreadable.items())))
                raise UserError(first if len(files) == 1 else f"none of the {len(files)} files can be read; the first is {first}")
            save_config(config, folder / "config.yaml")
            counts = {"num_images": output.num_images, "num_unreadable": output.num_unreadable}
            write_json(folder / PREDICTION, {**identity, **counts})
        work.remove()
    print(
        f"{counted(output.num_people, 'person')} with a score of at least {config.select.min_score:g} (--min-score) in "
        f"{counted(output.num_images, 'image')}; wrote drawings, results.json and images.json to {config.out}"
    )
    return _report(config, output.unreadable, **counts)


def _report(config: PredictConfig, unreadable: dict[str, str], num_images: int, num_unreadable: int) -> int:
    return report_unreadable(unreadable, "skipped", config.tolerance, num_images + num_unreadable, num_unreadable)


def _report_complete(config: PredictConfig, identity: dict[str, Any]) -> int:
    """Print what an output that is complete already could not read, and return its exit code.

    Raises UserError if the output is that of other inputs or options, naming the difference.
    """
    out = config.out
    about = read_identity(out / PREDICTION, "prediction")
    counts = convert({name: about.pop(name, None) for name in Counts.__annotations__}, Counts, f"prediction {out / PREDICTION}")
    if changed := differences(about, identity):
        raise UserError(
            f"output folder {out}: contains a finished prediction with other inputs or options ({changed}); use the same ones, or "
            "choose another --out"
        )
    remove_leftover(out, identity, len(identity["skeleton"]["joints"]))
    print(f"{out}: already complete")
    skipped = read_json(out / SKIPPED, "skipped files") if (out / SKIPPED).exists() else []
    entries = convert(skipped, list[Skipped], f"skipped files {out / SKIPPED}")
    return _report(config, {entry["file_name"]: entry["reason"] for entry in entries}, **counts)


def _identify(config: PredictConfig, files: Sequence[Path], network: FieldNetwork, origin: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines the output. Two predictions with equal identities write the same bytes."""
    inputs = hashlib.sha256()
    for file in files:
        inputs.update(os.fsencode(file.absolute()))
        with suppress(OSError):  # it cannot be read; that is reported later
            facts = file.stat()
            inputs.update(f"\n{facts.st_size}\n{facts.st_mtime_ns}\n".encode())
    return {
        "command": "predict",
        "num_files": len(files),
        "openpose_json": config.openpose_json,
        "files": inputs.hexdigest(),
        "skeleton": network.skeleton.to_dict(),
        **flatten(config.select),
        **flatten(config.decoding),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config.inference).items()},
        **origin,
        "results_version": RESULTS_VERSION,
    }


def _add_files(output: Output, named: list[tuple[Path, str]]) -> None:
    for video, group in itertools.groupby(named, key=lambda pair: is_video(pair[0])):
        if video:
            for file, name in group:
                _add_video(output, file, name)
        else:
            pictures = [Picture(file=file, name=name) for file, name in group]
            output.add(pictures, len(pictures))


def _add_video(output: Output, file: Path, name: str) -> None:
    num_before = output.num_images
    try:
        require_text_name(file)
        video = Video(file)
    except UnreadableImage as error:
        output.skip(file, str(error))
        return
    frames = (Picture(file=file, name=name, frame=i, pixels=frame) for i, frame in enumerate(video.frames()))
    with VideoWriter(output.folder / f"{name}.mp4", video.fps) as writer:
        output.add(prefetch(frames, FRAMES_AHEAD), video.num_stated or None, writer)
    num_frames = output.num_images - num_before
    if not num_frames:
        output.skip(file, "none of its frames can be decoded", max(1, video.num_stated))
    elif num_frames < video.num_stated:
        missing = video.num_stated - num_frames
        output.skip(file, f"only {num_frames:,} of {video.num_stated:,} frames can be decoded", missing)
