"""Write the card of a record set: CARD.md, croissant.json, pictures/. The build calls it last before the manifest."""

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from data_cards import charts, croissant, leakage, statistics, text
from data_cards.facts import Facts
from data_cards.sources import source_card
from pipeline import draw
from pipeline.commands import preview
from pipeline.errors import UserError
from pipeline.files import publish, remove_unfinished, temporary_path
from pipeline.records import codec
from pipeline.records.manifest import CARD, SHARDS, Manifest, check_files, read_manifest
from pipeline.records.reader import ShardReader

CROISSANT = "croissant.json"
PICTURES = "pictures"
SHEET_SAMPLES = 6
HALVED_FROM_PX = 300  # larger crops are shown at half their size


@dataclass(frozen=True, kw_only=True)
class WriteConfig:
    """Write the card of a record set anew: CARD.md, croissant.json and pictures/, from what was measured when it was built.

    With --against, also look for images that the set shares with others (by id, or by pixels under another id), warn on the
    card, and end with exit code 1 if there are any.

    Example: python -m data_cards records
             python -m data_cards write records --against val-records
    """

    records: Annotated[Path, tyro.conf.Positional]
    """Folder made by `pipeline build`."""
    against: tuple[Path, ...] = ()
    """Record sets with which this one should share no image, such as that of the validation images."""


def run(config: WriteConfig) -> int:
    """The command `write`. Raises UserError for a folder that is no complete record set."""
    manifest = read_whole(config.records)
    leakages = write_card(config.records, manifest, against=config.against)
    print(f"{config.records / CARD}: {manifest.num_samples:,} samples, digest {manifest.digest[:16]}")
    for found in leakages:
        for line in found.lines():
            print(f"  {'LEAKAGE' if found.found else 'no leakage'} {line}")
    return int(any(found.found for found in leakages))


def read_whole(folder: Path) -> Manifest:
    """The manifest of a record set whose files are all there. Raises UserError."""
    manifest = read_manifest(folder)
    if faults := check_files(folder, manifest, hashes=False):
        raise UserError(f"{folder}: {faults[0]}; `python -m pipeline verify` tells more")
    return manifest


def write_card(folder: Path, manifest: Manifest, against: tuple[Path, ...] = ()) -> tuple[leakage.Leakage, ...]:
    """Write the card into the record set in `folder`. The manifest need not be there yet.

    CARD.md is removed first and comes last: where it is, the card is whole. Returns what `against` gave. Raises UserError.
    """
    folder = Path(folder)
    index = statistics.Index(folder, manifest)
    facts = Facts(
        manifest=manifest,
        index=index,
        histograms=statistics.histograms(index, manifest.licenses),
        source=source_card(manifest.sources["annotations"].get("info", {})),
        leakages=tuple(leakage.check(index, other) for other in against),
    )
    remove_unfinished(folder, CARD)
    temporary = temporary_path(folder / CARD)
    temporary.mkdir()
    try:
        _write(temporary, folder, facts)
        (folder / CARD).unlink(missing_ok=True)
        shutil.rmtree(folder / PICTURES, ignore_errors=True)
        for name in (PICTURES, CROISSANT, CARD):
            publish(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return facts.leakages


def _write(out: Path, folder: Path, facts: Facts) -> None:
    (out / PICTURES).mkdir()
    for histogram in facts.histograms:
        charts.save(charts.bar_chart(histogram), out / PICTURES / f"{histogram.name}.jpg")
    titles = {"original": "over the original images", "crops": "over the crops"}
    charts.save(charts.heat_chart(statistics.heat_maps(facts.index), titles), out / PICTURES / text.HEAT)
    charts.save(contact_sheet(folder, facts.manifest), out / PICTURES / text.CONTACT_SHEET)
    document = croissant.describe(
        facts.manifest, facts.source, name=facts.name, description=facts.summary, licenses=facts.licenses()
    )
    problems = croissant.problems(document)
    assert not problems, problems
    (out / CROISSANT).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (out / CARD).write_text(text.card_text(facts))


def contact_sheet(folder: Path, manifest: Manifest) -> np.ndarray:
    """SHEET_SAMPLES rows spread over the set, two side by side, uint8 RGB. Raises UserError for a damaged row."""
    chosen = np.unique(np.linspace(0, manifest.num_samples - 1, SHEET_SAMPLES).round().astype(int))
    form, start, pictures = manifest.format, 0, []
    halved = form.targets.insize >= HALVED_FROM_PX
    for shard in manifest.shards:
        numbers = [int(number) - start for number in chosen if start <= number < start + shard.num_rows]
        if numbers:
            try:
                with closing(ShardReader(folder / SHARDS / shard.name)) as reader:
                    rows = [reader.read(number) for number in numbers]
                for row in rows:
                    title = f"{row['image_id']}, license {row['license']}"
                    pictures.append(preview.sample_picture(form.decode(row), form, title, halved=halved))
            except (codec.DamagedRow, OSError) as error:
                raise UserError(f"{folder}: {error}; `python -m pipeline verify` tells more") from error
        start += shard.num_rows
    return draw.sheet(pictures, num_columns=2)
