"""Networks of a study, and their fields, which are computed once and kept. Used by decoder_study.py."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluator.inference.augmentation import AugmentedNetwork, image_fields
from evaluator.inference.config import InferConfig
from evaluator.inference.engines import load_engine
from evaluator.inference.stored_fields import STRIDE_PX, StoredFields
from evaluator.jobs.run import choose_images
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.file_skeleton import view_of_file
from pipeline.images import read_image
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18
from pipeline.storage.files import atomic_file
from trainer.device import DeviceConfig

FORM = "NAME=CHECKPOINT:ANNOTATIONS:IMAGES[:INSIZE] or NAME=FIELDS.npz:ANNOTATIONS"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A network, or stored fields if it has no images, and the people that it should find."""

    name: str
    path: Path
    annotations: Path
    images: Path | None = None
    insize: int | None = None

    @property
    def run(self) -> Path:
        """What is left out together."""
        return self.path if self.path.is_dir() or not self.images else self.path.parent


def parse(word: str) -> Source:
    """Read an argument."""
    name, _, rest = word.partition("=")
    parts = rest.split(":")
    if len(parts) not in (2, 3, 4):
        raise SystemExit(f"{word}: expected {FORM}")
    path, annotations, images = (Path(part) if part else None for part in [*parts, ""][:3])
    return Source(name=name, path=path, annotations=annotations, images=images, insize=int(parts[3]) if parts[3:] else None)


def fields_of(source: Source, path: Path, max_images: int | None) -> tuple[Skeleton, CocoFile, StoredFields]:
    """Return skeleton, annotations and fields of a network, computed once and kept as float16 in `path`."""
    if source.images is None:
        return COCO18, CocoFile(source.annotations, COCO18), StoredFields(source.path)
    inference = InferConfig(insize=source.insize)
    network, _ = load_engine(source.path, DeviceConfig(), inference)
    document = CocoFile(source.annotations, network.skeleton, view=view_of_file)
    document = document.only(choose_images(document, max_images))
    if not path.exists():
        if network.stride_px != STRIDE_PX:
            raise SystemExit(f"{source.path}: the stride is {network.stride_px} px; stored fields have {STRIDE_PX}")
        arrays = {"image_id": np.array([image.id for image in document.images])}
        arrays["orig_wh"] = np.array([image.size_wh for image in document.images])
        sizes_of = AugmentedNetwork(network, inference).sizes
        arrays["input_wh"] = np.array([sizes_of(image.size_wh)[0][0] for image in document.images])
        for image in progress_bar(document.images, desc=f"{source.name}: fields", unit="image"):
            fields = image_fields(network, read_image(source.images / image.file_name, image.size_wh), inference)
            arrays[f"hm_{image.id}"] = fields.heatmaps.astype(np.float16)
            arrays[f"paf_{image.id}"] = fields.pafs.astype(np.float16)
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    return network.skeleton, document, StoredFields(path)
