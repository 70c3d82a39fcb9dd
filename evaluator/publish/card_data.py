"""The data from which a model card is written, and its front matter: the fields of a Hugging Face model card."""

import re
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from evaluator.publish.measurement import Measurement
from evaluator.publish.terms import Terms
from pipeline.skeleton import Skeleton
from trainer.run.checkpoint import CheckpointInfo
from trainer.run.history import TrainingRun, history_of

PACKAGE = "openpose-mindspore"
TASK = "keypoint-detection"
TAGS = ("human-pose-estimation", "openpose", "part-affinity-fields", "mindspore", "onnx")


@dataclass(frozen=True, kw_only=True)
class CardData:
    """All data of a card. sizes: bytes of each published file. pictures: caption by path. insize: length of the
    shorter side of an image in pixels, as in the first evaluation."""

    name: str
    terms: Terms
    info: CheckpointInfo
    skeleton: Skeleton
    num_weights: int
    insize: int
    measurements: list[Measurement]
    sizes: dict[str, int]
    pictures: dict[str, str]

    @property
    def history(self) -> tuple[TrainingRun, ...]:
        """The training runs, the oldest first."""
        return history_of(self.info)

    def was_trained_on(self, measurement: Measurement) -> bool:
        """Whether the images of an evaluation are those of a training run."""
        hashes = {run.records.annotations_sha256 for run in self.history if run.records}
        return measurement.annotations_sha256 in hashes


def front_matter(data: CardData) -> dict[str, Any]:
    """Return the YAML front matter of README.md."""
    names = [run.records.name for run in data.history if run.records]
    return {
        **data.terms.front_matter,
        "library_name": PACKAGE,
        "pipeline_tag": TASK,
        "tags": list(dict.fromkeys([*TAGS, slug(data.info.network["architecture"])])),
        **({"datasets": list(dict.fromkeys(map(slug, names)))} if names else {}),
        "model-index": [{"name": data.name, "results": [_result(measurement) for measurement in data.measurements]}],
    }


def _result(measurement: Measurement) -> dict[str, Any]:
    return {
        "task": {"type": TASK, "name": "Keypoint Detection"},
        "dataset": {
            "type": slug(measurement.data_set),
            "name": ", ".join(dict.fromkeys([measurement.data_set, measurement.annotations])),
            "args": {
                "num_images": measurement.num_images,
                "annotations_sha256": measurement.annotations_sha256,
                **measurement.settings,
            },
        },
        "metrics": [{"type": name, "value": value, "name": name} for name, value in measurement.figures.items()],
    }


def slug(text: str) -> str:
    """Return a text as an identifier of the Hub: lower case, digits, hyphens and periods."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:90] or "unnamed"


def package_version() -> str:
    """Return the version of this package as installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"
