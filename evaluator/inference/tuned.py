"""The settings of the decoder that a network contains: checkpoints those of `tune`, exported files those of `export`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from msgspec import Meta

from evaluator.decoding import DecodeConfig
from evaluator.inference.config import InferConfig
from evaluator.inference.exported import ExportedNetwork
from evaluator.inference.protocols import CheckpointNetwork
from pipeline.storage.documents import Count, Sha256, convert
from pipeline.wording import counted, printable


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """The settings of the decoder that `tune` found for a network, and on what.

    annotations: SHA-256 of the annotation file. inference: options that change the fields. ap_before, ap_after: COCO AP with the
    settings of before, and with settings that were chosen on other images; equal if the settings stayed.
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
    tuning = _tuning_of(network)
    return tuning.decoding if tuning else DecodeConfig()


def describe_decoder(network: CheckpointNetwork, inference: InferConfig) -> list[str]:
    """Return a line for the user if the decoder was tuned for a network, with a warning if that was with other options."""
    tuning = _tuning_of(network)
    if tuning is None:
        return []
    now = inference_options(inference)
    others = [
        f"{name}: {tuning.inference.get(name)} then, {now[name]} now" for name in now if tuning.inference.get(name) != now[name]
    ]
    changed = f"; with other options, for which they may not be the best ({printable('; '.join(others))})" if others else ""
    return [f"decoder: settings tuned on {counted(tuning.num_images, 'image')}{changed}"]


def inference_options(inference: InferConfig) -> dict[str, Any]:
    """Return the options that change the fields, as plain values."""
    return {**asdict(inference), "scales": list(inference.scales)}


def _tuning_of(network: CheckpointNetwork) -> Tuning | None:
    return read_tuning(network.info.tuning, f"checkpoint {network.path}")
