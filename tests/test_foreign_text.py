"""Text from annotation files and manifests is printed on its line, without control characters."""

import shutil
from dataclasses import replace

import pytest

from data_cards.__main__ import COMMANDS as CARD_COMMANDS
from pipeline.__main__ import COMMANDS
from pipeline.cli import guarded, main
from pipeline.errors import UserError
from pipeline.records.manifest import MANIFEST, read_manifest

EVIL, SHOWN = "\x1b]0;title\x07\n\u202e\t\ud800", "\\x1b]0;title\\x07\\n\\u202e\\t\\ud800"


@pytest.fixture
def evil_records(records, tmp_path):
    """A record set whose license names, file name and settings hold control characters."""
    shutil.copytree(records, tmp_path / "set")
    manifest = read_manifest(records)
    evil = EVIL.removesuffix("\ud800")
    source = {**manifest.sources["annotations"], "name": evil, "info": {"description": evil}}
    manifest = replace(
        manifest,
        licenses=dict.fromkeys(manifest.licenses, evil),
        sources={"annotations": source},
        config={**manifest.config, evil: evil},
    )
    (tmp_path / "set" / MANIFEST).write_text(manifest.to_json())
    return tmp_path / "set"


def test_commands_print_the_text_of_a_record_set_on_one_line(evil_records, capsys):
    for commands, words in (
        (COMMANDS, ["info", str(evil_records)]),
        (COMMANDS, ["verify", str(evil_records), "--jobs", "1"]),
        (CARD_COMMANDS, ["compare", str(evil_records), str(evil_records)]),
    ):
        main("test", "", commands, words)
        captured = capsys.readouterr()
        assert all(line.isprintable() for line in captured.out.splitlines()), words
        assert SHOWN.removesuffix("\\ud800") in captured.out or words[0] == "verify"


def test_errors_are_one_printable_line(capsys):
    def fail():
        raise UserError(f"image {EVIL}: broken")

    assert guarded("test", fail) == 1
    assert capsys.readouterr().err == f"test: error: image {SHOWN}: broken\n"
