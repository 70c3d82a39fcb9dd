"""The cards of the source data sets."""

import re

import pytest
import yaml

from data_cards import sources
from pipeline.datasets.formats.registry import FORMATS

TOOLS = ("labelme", "label-studio", "cvat", "yolo-pose")
SECTIONS = ("Annotation", "Sizes", "Licenses", "Known issues", "Biases and limitations", "Uses", "Citation")


CARDS = sorted(path.stem for path in sources.FOLDER.glob("*.md") if path.stem != "README")


@pytest.mark.parametrize("name", CARDS)
def test_a_source_card_is_complete_and_cites_its_sources(name):
    source = sources.read_card(sources.FOLDER / f"{name}.md")
    assert all(len(source.sections.get(section, "")) > 20 for section in SECTIONS)
    assert sources.source_card({"description": f"{source.front['described_as']}, seed 3"}) == source
    cited = set(re.findall(r"\[([\d, ]+)\]", "".join(source.sections[s] for s in SECTIONS if s != "Citation")))
    numbers = {int(number) for part in cited for number in part.split(",")}
    listed = {int(number) for number in re.findall(r"^(\d+)\. ", source.sections["Citation"], re.MULTILINE)}
    assert numbers == listed and bool(numbers) == (name != "synthetic")


def test_every_data_set_that_convert_reads_has_a_card():
    for name, known in FORMATS.items():
        card = sources.source_card({"description": known.description})
        assert (card is None) == (name in TOOLS), name
        if card and known.license[1]:
            assert card.front["annotation_license_url"] == known.license[1]


def test_a_file_without_front_matter_is_not_a_card(tmp_path):
    """The README of the folder may quote the front matter of a card."""
    card = (sources.FOLDER / "synthetic.md").read_text()
    (tmp_path / "README.md").write_text(f"# Cards\n\n```\n{card}```\n")
    assert sources.source_card({"description": "Synthetic people, seed 3"}, tmp_path) is None
    (tmp_path / "own.md").write_text(card)
    assert sources.source_card({"description": "Synthetic people, seed 3"}, tmp_path).name == "own.md"


def test_a_card_without_front_matter_is_refused(tmp_path):
    (tmp_path / "x.md").write_text("# Title\n")
    with pytest.raises(ValueError, match="front matter"):
        sources.read_card(tmp_path / "x.md")
    (tmp_path / "x.md").write_text(f"---\n{yaml.safe_dump({'pretty_name': 'x'})}---\n")
    with pytest.raises(ValueError, match=r"x\.md: front matter must have .*described_as"):
        sources.read_card(tmp_path / "x.md")
