"""A check of Croissant 1.1 documents that is stricter than mlcroissant, which only warns about missing fields."""

import re
from collections import Counter

from data_cards.record_cards.croissant import CONFORMS_TO

REQUIRED = (
    "@context",
    "@type",
    "dct:conformsTo",
    "name",
    "description",
    "license",
    "url",
    "creator",
    "datePublished",
    "distribution",
)


def problems(document: dict) -> list[str]:
    """One line per requirement of Croissant 1.1 that the document does not meet."""
    found = [f"{name}: required, missing or empty" for name in REQUIRED if not document.get(name)]
    if document.get("dct:conformsTo") != CONFORMS_TO:
        found.append(f"dct:conformsTo: must be {CONFORMS_TO}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(document.get("datePublished"))):
        found.append(f"datePublished: must be a date, got {document.get('datePublished')}")
    parts = document.get("distribution", [])
    sets = document.get("recordSet", [])
    ids = Counter(node.get("@id") for node in (*parts, *sets, *(field for record in sets for field in record["field"])))
    found += [f"@id {id}: must occur once" for id, times in ids.items() if times > 1]
    for part in parts:
        needs = ("@id", "name", "encodingFormat", "contentUrl", "contentSize", "sha256")
        for need in needs if part.get("@type") == "cr:FileObject" else ("@id", "encodingFormat", "includes"):
            if not part.get(need):
                found.append(f"{part.get('@id')}: {need}: required, missing or empty")
    for record in sets:
        for field in record["field"]:
            source = field.get("source", {})
            if not field.get("dataType") or (source.get("fileObject") or source.get("fileSet") or {}).get("@id") not in ids:
                found.append(f"{field.get('@id')}: needs a dataType and a source in the distribution")
    return found
