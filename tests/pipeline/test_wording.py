"""Singular and plural in messages."""

import pytest

from pipeline.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        *((0, "image", "0 images"), (1, "image", "1 image"), (1200, "image", "1,200 images")),
        *((1, "person", "1 person"), (2, "person", "2 people"), (2, "target person", "2 target people")),
    ],
)
def test_counted_uses_singular_and_plural(number, noun, text):
    assert counted(number, noun) == text
