"""Index, histograms and charts."""

import dataclasses
import typing

import cv2
import numpy as np
import pytest

from data_cards.record_cards import charts, statistics
from data_cards.record_cards.index import Index, read_index
from pipeline.records.manifest import read_manifest


def test_the_index_declares_all_of_its_columns(records):
    """Every attribute is a typed field, so that a type checker knows it and a misspelled column is an error."""
    manifest = read_manifest(records)
    index, types = read_index(records, manifest), typing.get_type_hints(Index)
    assert set(vars(index)) == {field.name for field in dataclasses.fields(Index)} <= set(types)
    assert all(isinstance(getattr(index, name), np.ndarray) for name, kind in types.items() if kind is np.ndarray)
    assert len(index.image_id) == manifest.num_samples and len(index.boxes) == index.people.sum()
    with pytest.raises(dataclasses.FrozenInstanceError):
        index.people = index.variant


def test_bars_are_proportional_to_counts():
    numbers = np.array([10, 20, 40, 0])
    histogram = statistics.Histogram(
        name="n", title="t", unit="thing", bins=("a", "b", "c", "é|x" * 40), counts={"s": numbers}, totals={"s": numbers * 0 + 70}
    )
    picture = charts.bar_chart(histogram)
    colored = (picture[50:] == charts.SERIES_COLORS[0]).all(axis=-1).sum(axis=1)
    lengths = [length for length in dict.fromkeys(colored.tolist()) if length]
    assert len(lengths) == 3 and np.allclose(np.array(lengths) / lengths[0], (1, 2, 4), rtol=0.03)
    assert histogram.trimmed().bins == ("a", "b", "c")
    with pytest.raises(ValueError, match="must have 4 bins"):
        statistics.Histogram(name="n", title="t", unit="u", bins=("a",) * 4, counts={"s": numbers[:3]}, totals={"s": numbers})


def test_a_position_map_is_darkest_at_the_maximum():
    counts = np.zeros((32, 32), np.int64)
    counts[24, 8] = 9
    counts[4, 4] = 2
    picture = charts.position_chart({"one": counts}, {"one": "t"})
    inner = picture[46 + 4 : -40 - 4, 24 + 4 : -24 - 4].sum(axis=-1)
    y, x = np.unravel_index(inner.argmin(), inner.shape)
    assert abs(y + 4 - 24.5 * 10) < 6 and abs(x + 4 - 8.5 * 10) < 6


def test_pictures_are_not_blank(records):
    pictures = {path.name: cv2.imread(str(path)) for path in (records / "pictures").iterdir()}
    assert len(pictures) == 10 and all(picture.std() > 10 for picture in pictures.values())
    sheet = pictures["contact_sheet.jpg"]
    assert sheet.shape[0] > 3 * 64 and sheet.shape[1] > 8 * 64


@pytest.mark.parametrize(
    ("series", "total", "heading"),
    [("wide", 1, "wide, of 1 image"), ("wide", 1200, "wide, of 1,200 images"), ("images", 1200, "1,200 images")],
)
def test_headings_name_series_and_total(series, total, heading):
    counts = {series: np.array([total])}
    histogram = statistics.Histogram(name="n", title="t", unit="image", bins=("a",), counts=counts, totals=counts)
    assert histogram.heading(series) == heading
