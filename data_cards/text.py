"""The text of CARD.md: a Hugging Face data set card, YAML front matter and sections, from what was measured."""

import numpy as np
import yaml

from data_cards import croissant
from data_cards.facts import Facts, front_matter
from data_cards.statistics import Histogram
from pipeline.records.codec import SCHEMA_VERSION
from pipeline.records.manifest import count_rules

CONTACT_SHEET = "contact_sheet.jpg"
HEAT = "where_people_stand.jpg"


def card_text(facts: Facts) -> str:
    """The whole of CARD.md."""
    front = yaml.safe_dump(front_matter(facts), sort_keys=False, allow_unicode=True, width=1000)
    sections = (_summary, _uses, _structure, _creation, _measured, _licenses, _leakage, _limits, _citation)
    return f"---\n{front}---\n\n" + "\n\n".join(section(facts).strip() for section in sections) + "\n"


def _summary(facts: Facts) -> str:
    found = [f"> - {line}." for leakage in facts.leakages if leakage.found for line in leakage.lines()]
    warning = "\n".join(["> **Warning: this set shares images with another.**", *found, "", ""]) if found else ""
    return f"""# {facts.name}

{warning}{facts.summary}.

What this card says of the set was measured when it was built; what it says of the source names where that was read.

![Samples: crop with skeletons, ignore mask, heatmaps, PAFs](pictures/{CONTACT_SHEET})

Under each crop stand the image's id and its license's id: the picture is under that license."""


def _uses(facts: Facts) -> str:
    return f"""## Uses

For training networks that predict the heatmaps and PAFs of this skeleton: `python -m trainer train --records RECORDS`.
Not for evaluation: crops are augmented, and people without keypoints are masked.

{_of_source(facts, "Uses")}"""


def _structure(facts: Facts) -> str:
    m, skeleton = facts.manifest, facts.manifest.format.skeleton
    on_disk = sum(shard_file["bytes"] for shard in m.shards for shard_file in shard.files.values())
    columns = {name: what for name, (_, _, what) in croissant.SAMPLE_FIELDS.items()}
    return f"""## Structure

{on_disk / 1e6:,.1f} MB in {len(m.shards)} shards. A shard is a folder under `shards/` with a MindRecord file, its index and a list of
its rows; `samples.parquet` lists all of them; `manifest.json` holds settings and checksums; `croissant.json` describes every file.
There is no split: the whole set is for training. A row of a shard:

{_table(("column", "what"), [(f"`{name}`", what) for name, what in croissant.row_fields(m).items()])}

A line of `samples.parquet`:

{_table(("column", "what"), [(f"`{name}`", what) for name, what in columns.items()])}

Skeleton `{skeleton.name}`, {skeleton.num_joints} joints: {", ".join(skeleton.joints)}.
{skeleton.num_limbs} limbs, in the order of the PAFs: {", ".join(f"{a}–{b}" for a, b in skeleton.limbs)}."""


def _creation(facts: Facts) -> str:
    m, source = facts.manifest, facts.manifest.sources["annotations"]
    told = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.source_info.items())
    provenance = {
        "annotation file": f"`{source['name']}`, {source['bytes']:,} bytes, SHA-256 `{source['sha256']}`",
        "what it says of itself": _cell(told) or "nothing",
        "pixels of the originals": f"SHA-256 over the hashes of all images `{facts.index.pixels_digest}`",
        "seed": f"`{m.seed}`: sample (image, variant) is a function of (seed, image id, variant)",
        "row schema": f"version {SCHEMA_VERSION}",
        "builder": f"version {m.builder_version}, `python -m pipeline build`",
        "digest of all rows": f"`{m.digest}`",
    }
    rules = [(rule, f"{m.counts.get(name, 0):,}") for name, rule in count_rules(m.config).items()]
    return f"""## Creation

{_table(("", ""), list(provenance.items()))}

### What was kept, masked and left out

{_table(("rule", "how many"), rules)}

### Settings

{_table(("option", "value"), [(f"`{name}`", f"`{value}`") for name, value in m.config.items()])}"""


def _measured(facts: Facts) -> str:
    index = facts.index
    people = index.people[index.once]
    histograms = "\n\n".join(map(_histogram, facts.histograms))
    return f"""## What is in it

{people.sum():,} target people in {len(people):,} images ({people.mean():.2f} an image, at most {people.max()}; {(people == 0).sum():,}
images without). {index.mirrored.mean():.1%} of the samples are mirrored; {index.masked.mean():.1%} of all cells are in the ignore
mask. A sample has {index.bytes.mean() / 1e3:.1f} KB.

{histograms}

### Where people stand

![Middles of people's boxes](pictures/{HEAT})

The middles of the boxes around the labeled joints of the target people: over the original images, and over the crops."""


def _histogram(histogram: Histogram) -> str:
    heads = ("", *(f"{name}, of {histogram.whole(name)}" for name in histogram.counts))
    columns = [
        [f"{count:,} ({share:.1%})" for count, share in zip(counts, histogram.shares(name), strict=True)]
        for name, counts in histogram.counts.items()
    ]
    return f"""### {histogram.title}

![{histogram.title}](pictures/{histogram.name}.jpg)

{_table(heads, list(zip(map(_cell, histogram.bins), *columns, strict=True)))}"""


def _licenses(facts: Facts) -> str:
    urls = facts.manifest.sources["annotations"].get("license_urls", {})
    ids, counts = np.unique(facts.index.license[facts.index.once], return_counts=True)
    names = [facts.manifest.licenses.get(str(id), "not listed in the source") for id in ids]
    rows = [
        (str(id), _cell(name), _cell(urls.get(str(id), "")), f"{count:,}")
        for id, name, count in zip(ids, names, counts, strict=True)
    ]
    return f"""## Licenses

{_table(("id", "license", "address", "images"), rows)}

{_of_source(facts, "Licenses") or "What the annotation file says of the images' licenses is all that is known here."}"""


def _leakage(facts: Facts) -> str:
    told = "\n".join(f"- {line}." for leakage in facts.leakages for line in leakage.lines())
    nothing = "Not compared with any other set: `python -m data_cards RECORDS --against OTHER` does, and says so here."
    return f"""## Leakage

{told or nothing}

Compared are image ids and the pixels of the originals; an image that was resized or compressed anew is not recognized."""


def _limits(facts: Facts) -> str:
    if facts.source is None:
        return """## Known faults, bias, limits

There is no card of this source: whoever made the annotations knows their faults and biases."""
    return f"""## Known faults, bias, limits

Of the source (`data_cards/{facts.source.name}` in the project):

### Known faults

{_of_source(facts, "Known faults")}

### Biases and limits

{_of_source(facts, "Biases and limits")}"""


def _citation(facts: Facts) -> str:
    return f"""## Citation

Cite this set by its digest, and the method: {croissant.METHOD}.

{_of_source(facts, "Citation")}"""


def _of_source(facts: Facts, section: str) -> str:
    """A section of the source's card; nothing where there is none."""
    return facts.source.sections.get(section, "") if facts.source else ""


def _table(heads: tuple[str, ...], rows: list) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows))


def _cell(text: str) -> str:
    """Words of an annotation file inside a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
