"""The settings of the decoder that a network contains: checkpoints those of `tune`, exported files those of `export`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta

from evaluator.decoding import DecodeConfig
from evaluator.inference.exported import ExportedNetwork
from evaluator.inference.protocols import CheckpointNetwork
from pipeline.storage.documents import Count, Sha256, convert


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The settings of the decoder that `tune` found for a network, and on what.

    annotations: SHA-256 of the annotation file. inference: options that change the fields. ap_before, ap_after: COCO AP with the
    settings of before, and with settings that were chosen on other images.
    """

    decoding: DecodeConfig
    annotations: Sha256
    num_images: Count
    inference: dict[str, Any]
    ap_before: Annotated[float, Meta(ge=-1, le=1)]
    ap_after: Annotated[float, Meta(ge=-1, le=1)]


def read_tuning(description: Mapping[str, Any], where: str) -> Tuning | None:
    """Return the tuning that a checkpoint contains; None if it is empty. Raises UserError, which begins with `where`."""
    return convert(dict(description), Tuning, f"{where}: tuning") if description else None


def decoding_of(network: CheckpointNetwork) -> DecodeConfig:
    """Return the settings of the decoder that a network contains; the usual ones if it contains none.

    Raises UserError, naming its file, if they are damaged.
    """
    if isinstance(network, ExportedNetwork):
        return network.decoding
    tuning = read_tuning(network.info.tuning, f"checkpoint {network.path}")
    return tuning.decoding if tuning else DecodeConfig()
