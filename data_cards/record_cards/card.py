"""The card of a record set: CARD.md, croissant.json, pictures/ and the checksums of these in card.sha256. A build writes it right before the manifest."""

import json
import os
import shutil
from pathlib import Path

import numpy as np

from data_cards.record_cards import charts, croissant, leakage, statistics, text
from data_cards.record_cards.facts import Facts
from data_cards.record_cards.index import read_index
from data_cards.sources import source_card
from pipeline import draw
from pipeline.commands import preview
from pipeline.errors import UserError
from pipeline.records.extras import CARD_SUMS, CROISSANT, PICTURES, card_sums
from pipeline.records.manifest import CARD, Manifest
from pipeline.storage.files import TEMPORARY, locked, publish, remove_unfinished, space_errors, temporary_path

_CONTACT_SHEET_SAMPLES = 6
_HALVED_FROM_PX = 300  # larger crops are shown at half their size


def write_card(folder: Path, manifest: Manifest, against: tuple[Path, ...] = ()) -> tuple[leakage.Leakage, ...]:
    """Write the card of the record set in `folder`, whose manifest need not be written yet.

    Compares the set with the record sets `against` and returns the results. The old CARD.md is deleted first and the new one is
    written last: if CARD.md exists, the card is complete. Raises UserError, also if another process is writing the card, if there is no space left or if something else has the
    name of a file of the card.
    """
    folder = Path(folder)
    _require_replaceable(folder)
    index = read_index(folder, manifest)
    facts = Facts(
        manifest=manifest,
        index=index,
        histograms=statistics.histograms(index, manifest.licenses),
        source=source_card(manifest.sources["annotations"].get("info", {})),
        leakages=tuple(leakage.check(index, other) for other in against),
    )
    with locked(folder / f"{TEMPORARY}{CARD}.lock", f"{folder / CARD}: another process is writing the card; wait for it"):
        remove_unfinished(folder, CARD)
        _replace_card(folder, facts)
    return facts.leakages


def _replace_card(folder: Path, facts: Facts) -> None:
    temporary = temporary_path(folder / CARD)
    try:
        with space_errors(folder / CARD):
            temporary.mkdir()
            _write_files(temporary, folder, facts)
            (folder / CARD).unlink(missing_ok=True)
            shutil.rmtree(folder / PICTURES, ignore_errors=True)
            for name in (PICTURES, CROISSANT, CARD_SUMS, CARD):
                publish(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_replaceable(folder: Path) -> None:
    """Raise UserError if `pictures` is not a folder, or a file of the card is one: neither can be replaced by a rename."""
    advice = "move it out of the record set, then run `python -m data_cards write` again"
    for path in (folder / name for name in (CARD, CROISSANT, CARD_SUMS)):
        if path.is_dir() and not path.is_symlink():
            raise UserError(f"{path}: is a folder, expected a file of the data card; {advice}")
    pictures = folder / PICTURES
    if os.path.lexists(pictures) and (pictures.is_symlink() or not pictures.is_dir()):
        kind = "symbolic link" if pictures.is_symlink() else "file"
        raise UserError(f"{pictures}: is a {kind}, expected the folder with the pictures of the data card; {advice}")


def _write_files(out: Path, folder: Path, facts: Facts) -> None:
    (out / PICTURES).mkdir()
    for histogram in facts.histograms:
        charts.save(charts.bar_chart(histogram), out / PICTURES / f"{histogram.name}.jpg")
    titles = {"original": "in the original images", "crops": "in the crops"}
    charts.save(charts.position_chart(statistics.position_maps(facts.index), titles), out / PICTURES / text.POSITIONS)
    charts.save(contact_sheet(folder, facts.manifest), out / PICTURES / text.CONTACT_SHEET)
    document = croissant.describe(
        facts.manifest, facts.source, name=facts.name, description=facts.summary, licenses=facts.licenses()
    )
    (out / CROISSANT).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (out / CARD).write_text(text.card_text(facts))
    (out / CARD_SUMS).write_text(card_sums(out))


def contact_sheet(folder: Path, manifest: Manifest) -> np.ndarray:
    """Draw samples spread evenly over the set, two per row, uint8 RGB. Raises UserError if a row is damaged."""
    row_format, pictures = manifest.format, []
    halved = row_format.targets.insize >= _HALVED_FROM_PX
    for row, sample in preview.spread_samples(folder, manifest, _CONTACT_SHEET_SAMPLES):
        title = f"image {row['image_id']}, license {row['license']}"
        pictures.append(preview.sample_picture(sample, row_format, title, halved=halved))
    return draw.sheet(pictures, num_columns=2)
