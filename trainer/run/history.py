"""What a network has learnt from: the record sets of all its training runs, as checkpoints hold them. Imports nothing heavy."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.records.provenance import Provenance
from pipeline.storage.documents import Count
from pipeline.wording import counted

if TYPE_CHECKING:
    from trainer.run.checkpoint import CheckpointInfo


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A run in the history of a network."""

    preset: str
    steps: Count
    epochs: Count
    """Complete passes over the images."""
    records_digest: str
    records: Provenance | None
    """None if a version of this package trained it that did not store where records come from."""


def history_of(info: "CheckpointInfo") -> tuple[TrainingRun, ...]:
    """Return all training runs of a checkpoint, the oldest first, also of checkpoints that do not list them."""
    if info.history or not info.records_digest:
        return info.history
    preset = str(info.config.get("preset", "unknown"))
    return (TrainingRun(preset=preset, steps=info.step, epochs=info.epoch, records_digest=info.records_digest, records=None),)


def lineage_lines(info: "CheckpointInfo") -> Iterator[str]:
    """Yield the lineage as text: imported weights, then one paragraph per training run."""
    for what, origin in (("weights", info.origin), ("backbone", info.backbone_origin)):
        if origin:
            yield f"{what} imported: {', '.join(f'{name} {value}' for name, value in origin.items())}"
    for number, run in enumerate(history_of(info), start=1):
        yield f"training {number}: preset {run.preset}, {counted(run.steps, 'step')}, {counted(run.epochs, 'epoch')}"
        yield f"  records digest {run.records_digest}"
        if run.records is None:
            yield "  data set unknown: trained by an older version"
            continue
        data = run.records
        yield f"  data set {data.name}: {counted(data.num_images, 'image')}, {counted(data.num_people, 'person')}"
        yield f"  annotations {data.annotations}, SHA-256 {data.annotations_sha256}"
        yield f"  data card {f'SHA-256 {data.card_sha256}' if data.card_sha256 else 'none'}"
        for entry in data.licenses:
            yield f"  license {entry.id}, {entry.name}{f' ({entry.url})' if entry.url else ''}: {counted(entry.num_images, 'image')}"
