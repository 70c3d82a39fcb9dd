"""The command `lineage`: what a network has learned from."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_cards.config import LineageConfig
from data_cards.sources import SourceCard, source_card
from pipeline.errors import UserError
from pipeline.storage.files import write_json
from pipeline.wording import counted, printable
from trainer.run.checkpoint import CheckpointInfo, checkpoint_faults, list_checkpoints, read_info
from trainer.run.history import TrainingRun, history_of

SOURCE_FIELDS = ("pretty_name", "creator", "url", "annotation_license_url", "image_licenses")


def run(config: LineageConfig) -> int:
    """Run the command `lineage`. Raises UserError if there is no readable checkpoint."""
    path = _newest(config.checkpoint)
    info = read_info(path)
    print("\n".join(map(printable, lines(path, info))))
    if config.json is not None:
        write_json(config.json, document(path, info))
    return 0


def lines(path: Path, info: CheckpointInfo) -> Iterator[str]:
    """Yield the lineage as text, the oldest part first."""
    yield f"{path}: step {info.step:,}, preset {info.config.get('preset', 'unknown')}"
    for what, origin in (("weights imported", info.origin), ("backbone imported", info.backbone_origin)):
        if origin:
            yield ""
            yield f"{what} from {origin.get('source', 'an unknown source')}"
            yield from (f"  {name:<12}{value}" for name, value in origin.items() if name != "source")
    history = history_of(info)
    if not history and not info.origin:
        yield "no training, and no imported weights"
    for number, training in enumerate(history, start=1):
        yield ""
        yield f"training {number}: preset {training.preset}, {counted(training.steps, 'step')}, {counted(training.epochs, 'epoch')}"
        yield from _data_lines(training)


def _data_lines(training: TrainingRun) -> Iterator[str]:
    records = training.records
    if records is None:
        yield f"  records     digest {training.records_digest}; an older version trained on them, and stored no more"
        return
    yield f"  data set    {records.name}: {counted(records.num_images, 'image')}, {counted(records.num_people, 'person')}"
    yield f"  annotations {records.annotations}, SHA-256 {records.annotations_sha256}"
    yield f"  records     digest {records.digest}"
    yield f"  data card   {f'SHA-256 {records.card_sha256}' if records.card_sha256 else 'none'}"
    for entry in records.licenses:
        yield f"  license     {entry.id}: {counted(entry.num_images, 'image')}, {entry.name}{f', {entry.url}' if entry.url else ''}"
    source = _source(training)
    if source is None:
        yield "  source      no card of data_cards/ describes this data set"
        return
    about = ", ".join(filter(None, (source.front[name] for name in ("pretty_name", "creator", "url"))))
    yield f"  source      {about} (data_cards/{source.name})"
    yield f"              annotations under {source.front['annotation_license_url']}"
    if source.front.get("image_licenses") == "random":
        yield "              the license ids of its images have no legal meaning"


def document(path: Path, info: CheckpointInfo) -> dict[str, Any]:
    """Return the lineage as --json writes it."""
    trainings = []
    for training in history_of(info):
        source = _source(training)
        about = {"card": source.name, **{name: source.front.get(name) for name in SOURCE_FIELDS}} if source else None
        trainings.append({**dataclasses.asdict(training), "source": about})
    return {
        "checkpoint": str(path),
        "step": info.step,
        "origin": info.origin,
        "backbone_origin": info.backbone_origin,
        "trainings": trainings,
    }


def _source(training: TrainingRun) -> SourceCard | None:
    return source_card({"description": training.records.name}) if training.records else None


def _newest(path: Path) -> Path:
    """Return a checkpoint file, or the newest one in a folder whose description can be read."""
    if not path.is_dir():
        return path
    found = list_checkpoints(path)
    if not found:
        faults = "; ".join(checkpoint_faults(path)) or "it has none"
        raise UserError(f"checkpoint {path}: no readable checkpoint in this folder ({faults}); give a run folder or a file")
    return found[0]
