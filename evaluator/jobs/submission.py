"""`run --submission`: predictions for images without annotations, such as COCO's test sets, as COCO's server expects them.

The format is https://cocodataset.org/#format-results: a list of image_id, category_id, keypoints and score.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from evaluator.decoding.scores import ScoreMap
from evaluator.jobs.config import MergeConfig, RunConfig
from evaluator.jobs.partial import EVALUATION, Found
from evaluator.metrics.results import to_results
from evaluator.predict.listing import IMAGE_SUFFIXES
from pipeline.cli import save_config
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Image
from pipeline.datasets.file_skeleton import view_of_file
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, image_size
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18
from pipeline.storage.documents import read_json
from pipeline.storage.files import file_facts, write_json
from pipeline.storage.folders import new_folder
from pipeline.tolerance import report_unreadable
from pipeline.wording import counted

UPLOADED = ("image_id", "category_id", "keypoints", "score")
PERSON = 1  # category of people in COCO


class ImageList(CocoFile):
    """Images without annotations: those of a file with a list `images`, such as COCO's image_info, or of a folder.

    The keypoints are COCO's if the network predicts all of them, else its own.
    """

    def __init__(self, path: Path | None, folder: Path | None, skeleton: Skeleton) -> None:
        """path: the file; None for all images of `folder`. Raises UserError for another file, and for a folder without images."""
        assert path or folder, "RunConfig requires --images with --checkpoint, MergeConfig one of the two"
        self.path = path or folder or Path()
        self.videos, self.annotations, self.categories, self.category_id = {}, {}, {PERSON: "person"}, PERSON
        self.derived, self.licenses, self.info = Counter(), {}, {}
        has_all = {*COCO18.source_joints} <= {*skeleton.joints}
        category = {"id": PERSON, "name": "person", "keypoints": list(COCO18.source_joints)}
        self.skeleton = view_of_file([category], skeleton, str(self.path)) if has_all else skeleton
        self.is_folder = path is None
        if path is None:
            self.images = _images_of(self.path)
            return
        document = read_json(path, "image list")
        if not isinstance(document, dict) or not isinstance(document.get("images"), list) or not document["images"]:
            raise UserError(
                f"image list {path}: expected an object with a list `images`, such as COCO's image_info_test-dev2017.json"
            )
        self.images = self._images(document["images"])

    @property
    def sha256(self) -> str:
        """Of the file; of a folder, of the names and sizes of its images."""
        if not self.is_folder:
            return file_facts(self.path)["sha256"]
        listed = [[image.file_name, *image.size_wh, (self.path / image.file_name).stat().st_size] for image in self.images]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def _images_of(folder: Path) -> list[Image]:
    """Return the images in a folder and the folders in it. If all names are numbers, as in COCO, these are the ids, else 1, 2, …."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."))
    if not files:
        raise UserError(f"image folder {folder}: contains no image ({', '.join(IMAGE_SUFFIXES)})")
    numbers = [int(file.stem) for file in files if file.stem.isdecimal() and len(file.stem) < 19]
    numbered = len({*numbers}) == len(files)
    return sorted(
        (_image(file, folder, numbers[place] if numbered else place + 1) for place, file in enumerate(files)),
        key=lambda image: image.id,
    )


def _image(file: Path, folder: Path, id: int) -> Image:
    try:
        width, height = image_size(file)
    except UnreadableImage:  # it is listed as unreadable later, when its pixels are read
        width, height = 1, 1
    return Image(id=id, file_name=file.relative_to(folder).as_posix(), width=width, height=height)


def publish(
    config: RunConfig | MergeConfig, identity: dict[str, Any], document: ImageList, found: Found, to_scores: ScoreMap
) -> int:
    """Write the output folder and return the exit code."""
    results = [
        {name: entry[name] for name in UPLOADED}  # type: ignore[literal-required]  # names of a TypedDict
        for image in document.images
        if image.id in found.people
        for entry in to_results(
            found.people[image.id], image_id=image.id, category_id=PERSON, skeleton=document.skeleton, to_scores=to_scores
        )
    ]
    with new_folder(config.out, last=EVALUATION) as folder:
        write_json(folder / "results.json", results)
        if document.is_folder:
            listed = [
                {"id": image.id, "file_name": image.file_name, "width": image.width, "height": image.height}
                for image in document.images
                if image.id in found.people
            ]
            write_json(folder / "images.json", listed)
        write_json(folder / EVALUATION, identity)
        save_config(config, folder / "config.yaml")
    print(f"keypoints: {', '.join(document.skeleton.source_joints)}")
    print(
        f"wrote {counted(len(results), 'predicted person')} in {counted(len(document.images), 'image')} to {config.out / 'results.json'}"
    )
    unreadable = {image.file_name: found.unreadable[image.id] for image in document.images if image.id in found.unreadable}
    return report_unreadable(unreadable, "they have no results", config.tolerance, len(document.images))
