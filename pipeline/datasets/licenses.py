"""Select the licenses of an annotation file that a build may use."""

from collections.abc import Iterable, Mapping

from pipeline.errors import UserError

# Group -> clauses that exclude a license from it, as they appear in its name or URL reduced to letters.
GROUPS = {"commercial": ("noncommercial", "bync"), "adaptable": ("noderiv", "byncnd", "bynd")}


def choose_licenses(wanted: Iterable[str], licenses: Mapping[int, tuple[str, str]]) -> set[int]:
    """Return the ids of the licenses that `wanted` selects; each word is a license id or the name of a group.

    `licenses`: name and URL by id, as in the annotation file. Raises UserError for any other word.
    """
    chosen: set[int] = set()
    for word in wanted:
        if word in GROUPS:
            chosen |= {id for id, texts in licenses.items() if not _has_clause(texts, GROUPS[word])}
        elif word.isdecimal() and int(word) in licenses:
            chosen.add(int(word))
        else:
            known = ", ".join(f"{id} ({name})" for id, (name, _) in sorted(licenses.items())) or "none"
            raise UserError(f"--licenses {word}: choose {', '.join(GROUPS)} or license ids of the annotation file: {known}")
    return chosen


def _has_clause(texts: tuple[str, str], clauses: tuple[str, ...]) -> bool:
    """Whether a license's name or URL, reduced to letters, contains one of the clauses."""
    return any(clause in "".join(filter(str.isalpha, text.lower())) for text in texts for clause in clauses)
