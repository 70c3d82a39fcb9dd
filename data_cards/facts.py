"""What a card is written from, and its front matter: the fields of a Hugging Face data set card."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_cards import croissant
from data_cards.leakage import Leakage
from data_cards.sources import SourceCard
from data_cards.statistics import Histogram, Index
from pipeline.records.manifest import SAMPLES, Manifest

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
_FEATURE_TYPES = {"sc:Integer": "int64", "sc:Float": "float64", "sc:Text": "string", "sc:Boolean": "bool"}
_EXACT_TYPES = {
    **dict.fromkeys(("variant", "license", "people", "width", "height"), "int32"),
    **dict.fromkeys(("person_joints", "person_joints_inside", "labeled", "visible", "cut"), "int32"),
    **{"boxes": "float32", "masked": "float32", "pixels": "binary"},
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything a card is written from."""

    manifest: Manifest
    index: Index
    histograms: list[Histogram]
    source: SourceCard | None
    leakages: tuple[Leakage, ...] = ()

    @property
    def name(self) -> str:
        return f"OpenPose records of {self.source_name}"

    @property
    def source_name(self) -> str:
        info = self.manifest.sources["annotations"].get("info", {})
        told = info.get("description") or self.manifest.sources["annotations"]["name"]
        return self.source.front["pretty_name"] if self.source else told

    @property
    def source_info(self) -> dict[str, str]:
        return self.manifest.sources["annotations"].get("info", {})

    @property
    def summary(self) -> str:
        m = self.manifest
        return (
            f"{m.num_samples:,} training samples for multi-person pose estimation with Part Affinity Fields: {m.num_images:,} images "
            f"of {self.source_name}, each in {m.num_variants} augmented variants, with heatmaps, PAFs and ignore mask"
        )

    def licenses(self) -> list[str]:
        """Addresses (names where there is none) of what the annotations and the images are under."""
        front = self.source.front if self.source else {}
        own = [front["annotation_license_url"]] if front else []
        if front.get("image_licenses") == "drawn by lot":
            return own
        urls = self.manifest.sources["annotations"].get("license_urls", {})
        ids = map(str, np.unique(self.index.license).tolist())
        told = [urls.get(id) or self.manifest.licenses.get(id) or "not stated by the source" for id in ids]
        return list(dict.fromkeys([*own, *told]))


def front_matter(facts: Facts) -> dict[str, Any]:
    m, front = facts.manifest, facts.source.front if facts.source else {}
    features = [
        {"name": name, ("sequence" if is_list else "dtype"): _EXACT_TYPES.get(name, _FEATURE_TYPES[kind])}
        for name, (kind, is_list, _) in croissant.SAMPLE_FIELDS.items()
    ]
    split = {"name": "train", "num_bytes": m.samples["bytes"], "num_examples": m.num_samples}
    return {
        "license": "other",
        "license_name": "per-image",
        "license_link": "CARD.md#licenses",
        "pretty_name": facts.name,
        "language": [],
        "annotations_creators": front.get("annotations_creators", ["other"]),
        "source_datasets": front.get("source_datasets", ["original"]),
        "task_categories": ["keypoint-detection"],
        "size_categories": [next((name for most, name in _SIZES if m.num_samples < most), "10M<n<100M")],
        "tags": ["human-pose-estimation", "openpose", "part-affinity-fields", "mindspore", "mindrecord", "croissant"],
        "configs": [{"config_name": "samples", "data_files": [{"split": "train", "path": SAMPLES}]}],
        "dataset_info": {
            "config_name": "samples",
            "features": features,
            "splits": [split],
            "download_size": m.samples["bytes"],
            "dataset_size": m.samples["bytes"],
        },
    }
