"""Which licenses of an annotation file a build may use."""

from collections.abc import Iterable, Mapping

from pipeline.errors import UserError

# Name of a group -> what, in the name or address of a license, keeps it out.
GROUPS = {"commercial": ("noncommercial", "bync"), "adaptable": ("noderiv", "byncnd", "bynd")}


def choose_licenses(wanted: Iterable[str], licenses: Mapping[int, tuple[str, str]]) -> set[int]:
    """Ids of the licenses that one of `wanted`, ids or names of groups, stands for.

    `licenses`: name and address by id, as the annotation file lists them. Raises UserError for a word that is neither.
    """
    chosen: set[int] = set()
    for word in wanted:
        if word in GROUPS:
            chosen |= {id for id, texts in licenses.items() if not _has(texts, GROUPS[word])}
        elif word.isdecimal() and int(word) in licenses:
            chosen.add(int(word))
        else:
            known = ", ".join(f"{id} ({name})" for id, (name, _) in sorted(licenses.items())) or "none"
            raise UserError(f"--licenses {word}: give {', '.join(GROUPS)} or ids of the annotation file: {known}")
    return chosen


def _has(texts: tuple[str, str], clauses: tuple[str, ...]) -> bool:
    """Whether a license's name or address, its letters alone, holds one of the clauses."""
    return any(clause in "".join(filter(str.isalpha, text.lower())) for text in texts for clause in clauses)
