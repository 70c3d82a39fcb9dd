"""The data from which a card is written, and its front matter: the fields of a Hugging Face data set card."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from data_cards.record_cards import croissant
from data_cards.record_cards.index import Index
from data_cards.record_cards.leakage import Leakage
from data_cards.record_cards.statistics import Histogram
from data_cards.sources import SourceCard
from pipeline.records.manifest import SAMPLES, Manifest
from pipeline.wording import counted

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
# Names of pyarrow types in Hugging Face data set cards, where they differ.
_FEATURE_TYPES = {"float": "float32", "double": "float64"}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All data of a card."""

    manifest: Manifest
    index: Index
    histograms: list[Histogram]
    source: SourceCard | None
    leakages: tuple[Leakage, ...] = ()

    @property
    def name(self) -> str:
        """Title of the card."""
        return f"OpenPose records of {self.source_name}"

    @property
    def source_name(self) -> str:
        """Name of the source data set: from its card or its annotation file."""
        if self.source:
            return self.source.front["pretty_name"]
        return self.manifest.data_set

    @property
    def source_info(self) -> dict[str, str]:
        """The field `info` of the annotation file."""
        return self.manifest.sources["annotations"].get("info", {})

    @property
    def summary(self) -> str:
        """One sentence about the record set, without the final period."""
        m = self.manifest
        return (
            f"{counted(m.num_samples, 'training sample')} for multi-person pose estimation with Part Affinity Fields: "
            f"{counted(m.num_images, 'image')} of {self.source_name} in {counted(m.num_variants, 'augmented variant')}, "
            f"with heatmaps, PAFs and ignore masks"
        )

    def licenses(self) -> list[str]:
        """Return the URLs of the licenses of annotations and images; names of licenses without a URL."""
        front = self.source.front if self.source else {}
        own = [front["annotation_license_url"]] if front else []
        if front.get("image_licenses") == "random":
            return own
        urls = self.manifest.sources["annotations"].get("license_urls", {})
        ids = map(str, np.unique(self.index.license).tolist())
        of_images = [urls.get(id) or self.manifest.licenses.get(id) or "not stated by the source" for id in ids]
        return list(dict.fromkeys([*own, *of_images]))


def front_matter(facts: Facts) -> dict[str, Any]:
    """Return the YAML front matter of CARD.md."""
    m, front = facts.manifest, facts.source.front if facts.source else {}
    features = [
        {"name": name, ("sequence" if croissant.is_list(name) else "dtype"): _feature_type(croissant.item_type(name))}
        for name in croissant.SAMPLE_FIELDS
    ]
    split = {"name": "train", "num_bytes": m.samples_file["bytes"], "num_examples": m.num_samples}
    return {
        "license": "other",
        "license_name": "per-image",
        "license_link": "CARD.md#licenses",
        "pretty_name": facts.name,
        "language": [],
        "annotations_creators": front.get("annotations_creators", ["other"]),
        "source_datasets": front.get("source_datasets", ["original"]),
        "task_categories": ["keypoint-detection"],
        "size_categories": [next((name for limit, name in _SIZES if m.num_samples < limit), "10M<n<100M")],
        "tags": ["human-pose-estimation", "openpose", "part-affinity-fields", "mindspore", "mindrecord", "croissant"],
        "configs": [{"config_name": "samples", "data_files": [{"split": "train", "path": SAMPLES}]}],
        "dataset_info": {
            "config_name": "samples",
            "features": features,
            "splits": [split],
            "download_size": m.samples_file["bytes"],
            "dataset_size": m.samples_file["bytes"],
        },
    }


def _feature_type(kind: pa.DataType) -> str:
    name = str(kind).split("[")[0]  # fixed_size_binary[16]
    return "binary" if name == "fixed_size_binary" else _FEATURE_TYPES.get(name, name)
