"""The command `predict`: find people in any images and videos, and write drawings and JSON."""

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

from evaluator.inference.protocols import FieldNetwork
from evaluator.inference.streaming import prefetch
from evaluator.jobs.loading import load_checkpoint
from evaluator.jobs.outcome import report_unreadable
from evaluator.predict.config import PredictConfig
from evaluator.predict.output import Output, Picture
from evaluator.predict.video import SUFFIXES as VIDEO_SUFFIXES
from evaluator.predict.video import Video, VideoWriter
from pipeline.cli import save_config
from pipeline.errors import UserError
from pipeline.folders import new_folder, require_usable
from pipeline.images import UnreadableImage
from pipeline.wording import counted

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
FRAMES_AHEAD = 4


def run(config: PredictConfig) -> int:
    """Run the command. Raises UserError for invalid inputs and for an output folder that is in use."""
    require_usable(config.out)
    files = list_files(config.images)
    network, device = load_checkpoint(config.checkpoint, config.device, config.inference)
    return predict(config, files, network, device)


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


def predict(config: PredictConfig, files: list[Path], network: FieldNetwork, device: str = "CPU") -> int:
    """Find people in `files` with `network`, write the output folder, and return the exit code."""
    named = list(zip(files, unique_names(files), strict=True))
    with new_folder(config.out, last="results.json") as folder:
        with Output(folder, config, network, device) as output:
            for video, group in itertools.groupby(named, key=lambda pair: is_video(pair[0])):
                if video:
                    for file, name in group:
                        _add_video(output, file, name)
                else:
                    pictures = [Picture(file=file, name=name) for file, name in group]
                    output.add(pictures, len(pictures))
        if not output.num_images:
            first = f"{files[0]}: {output.unreadable[str(files[0])]}"
            raise UserError(first if len(files) == 1 else f"none of the {len(files)} files can be read; the first is {first}")
        save_config(config, folder / "config.yaml")
    print(
        f"{counted(output.num_people, 'person')} in {counted(output.num_images, 'image')}, {output.num_drawn} drawn "
        f"(--draw-min-score {config.draw_min_score:g}); wrote drawings, results.json and images.json to {config.out}"
    )
    return report_unreadable(output.unreadable, "skipped", allowed=False)


def _add_video(output: Output, file: Path, name: str) -> None:
    num_before = output.num_images
    try:
        video = Video(file)
    except UnreadableImage as error:
        output.unreadable[str(file)] = str(error)
        return
    frames = (Picture(file=file, name=name, frame=i, pixels=frame) for i, frame in enumerate(video.frames()))
    with VideoWriter(output.folder / f"{name}.mp4", video.fps) as writer:
        output.add(prefetch(frames, FRAMES_AHEAD), video.num_stated or None, writer)
    num_frames = output.num_images - num_before
    if not num_frames:
        output.unreadable[str(file)] = "none of its frames can be decoded"
    elif num_frames < video.num_stated:
        print(f"video {file}: only {num_frames} of {video.num_stated} frames can be decoded", file=sys.stderr)


def unique_names(files: list[Path]) -> list[str]:
    """Return a name for each drawing: the file name without suffix, with a number if another file has the same name."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = file.stem, 1
        while name in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name)
        names.append(name)
    return names
