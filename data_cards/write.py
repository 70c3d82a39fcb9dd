"""The command `write`: write the card of an existing record set."""

from data_cards.config import WriteConfig
from data_cards.record_cards.card import write_card
from data_cards.record_cards.index import read_complete_manifest
from pipeline.records.manifest import CARD
from pipeline.storage.folders import require_writable
from pipeline.wording import counted, printable


def run(config: WriteConfig) -> int:
    """Run the command `write`. Raises UserError if a folder is not a complete record set."""
    manifest = read_complete_manifest(config.records)
    require_writable(config.records, f"record set {config.records}", "change its permissions, or copy it to another folder")
    leakages = write_card(config.records, manifest, against=config.against)
    print(f"{config.records / CARD}: {counted(manifest.num_samples, 'sample')}, digest {manifest.digest[:16]}")
    for leakage in leakages:
        for line in leakage.lines():
            print(f"  {'LEAKAGE' if leakage.found else 'no leakage'} {printable(line)}")
    return int(any(leakage.found for leakage in leakages))
