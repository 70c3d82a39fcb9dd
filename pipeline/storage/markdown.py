"""Markdown of data cards and model cards: tables, text from outside that shows as it is, YAML front matter."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline.wording import printable


def front_matter_text(fields: Mapping[str, Any]) -> str:
    """Return the front matter of a Hugging Face card: YAML between two lines of ---."""
    return f"---\n{yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=1000)}---\n"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. The cells are Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


def plain(text: str) -> str:
    """Return a text from outside that Markdown shows as it is, on one line, in a table too: no HTML, links, images or emphasis."""
    escaped = re.sub(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", printable(" ".join(text.split())))
    return html.escape(escaped, quote=False)


def code(text: str) -> str:
    """Return a text from outside as code."""
    return f"`{printable(' '.join(text.split())).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
