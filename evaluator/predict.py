"""The command `predict`: people in any images, as drawings and as JSON."""

from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from evaluator.coco import to_results
from evaluator.config import PredictConfig
from evaluator.infer import FieldNetwork, image_fields
from evaluator.pictures import draw_found, write_picture
from evaluator.run import decode_or_explain, load, report_unreadable
from pipeline.cli import UserError, save_config
from pipeline.images import UnreadableImage, read_image
from pipeline.output import new_folder, refuse_used, write_json

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
PERSON = 1  # COCO's category


def run(config: PredictConfig) -> int:
    """Raises UserError for input that cannot be used and for an output folder that is not empty."""
    refuse_used(config.out)
    files = list_images(config.images)
    return predict(config, files, load(config.checkpoint, config.device_target))


def list_images(paths: Iterable[Path]) -> list[Path]:
    """Files as given, folders as the images in them (not below them) by name. Raises UserError where there is nothing."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"folder {path}: no image ({', '.join(SUFFIXES)}) in it")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise UserError(f"image {path}: no such file or folder")
    return files


def predict(config: PredictConfig, files: list[Path], network: FieldNetwork) -> int:
    """Find people in `files` with `network` and write the output folder."""
    images, results, unreadable = [], [], {}
    names = unique_names(files)
    with new_folder(config.out) as folder:
        for image_id, file in enumerate(tqdm(files, desc="finding people", unit="image", disable=None), start=1):
            try:
                pixels = read_image(file)
            except UnreadableImage as error:
                unreadable[str(file)] = str(error)
                continue
            fields = image_fields(network, pixels, config.insize)
            people = decode_or_explain(fields, network.skeleton, config.decoding, str(file))
            results += to_results(people, image_id=image_id, category_id=PERSON, skeleton=network.skeleton)
            height, width = pixels.shape[:2]
            images.append(
                {"id": image_id, "file_name": str(file), "width": width, "height": height, "drawing": names[image_id - 1]}
            )
            write_picture(folder / names[image_id - 1], draw_found(pixels, people, network.skeleton, config.draw_min_score))
        if not images:
            raise UserError(f"none of {len(files)} images can be read, such as {files[0]}: {unreadable[str(files[0])]}")
        write_json(folder / "results.json", results)
        write_json(folder / "images.json", images)
        save_config(config, folder / "config.yaml")
    print(f"{len(results)} people in {len(images)} images: drawings, results.json and images.json in {config.out}")
    return report_unreadable(unreadable, "are left out", allowed=False)


def unique_names(files: list[Path]) -> list[str]:
    """A name for each drawing: the file's, numbered where two folders have the same."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = f"{file.stem}.jpg", 1
        while name in taken:
            number += 1
            name = f"{file.stem}-{number}.jpg"
        taken.add(name)
        names.append(name)
    return names
