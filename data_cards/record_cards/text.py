"""The text of CARD.md: a Hugging Face data set card with YAML front matter and sections."""

import numpy as np

from data_cards.record_cards import croissant
from data_cards.record_cards.facts import Facts, front_matter
from data_cards.record_cards.statistics import Histogram
from pipeline.records.codec import SOURCE_SHIFT
from pipeline.records.rules import count_rules
from pipeline.storage.markdown import code, front_matter_text, plain, table
from pipeline.version import PACKAGE, package_version
from pipeline.wording import counted

CONTACT_SHEET = "contact_sheet.jpg"
POSITIONS = "people_positions.jpg"


def card_text(facts: Facts) -> str:
    """Return the complete text of CARD.md."""
    sections = (_summary, _uses, _structure, _creation, _statistics, _licenses, _leakage, _limitations, _citation)
    return front_matter_text(front_matter(facts)) + "\n" + "\n\n".join(section(facts).strip() for section in sections) + "\n"


def _summary(facts: Facts) -> str:
    found = [f"> - {plain(line)}." for leakage in facts.leakages if leakage.found for line in leakage.lines()]
    warning = "\n".join(["> **Warning: this record set shares images with another one.**", *found, "", ""]) if found else ""
    return f"""# {plain(facts.name)}

{warning}{plain(facts.summary)}.

The build measured all numbers about this record set. Statements about the source data set come from the sources cited below.

![Samples: crop with skeletons, ignore mask, heatmaps, PAFs](pictures/{CONTACT_SHEET})

The line below each crop names the image id and the id of the image license. Each picture is subject to the license of its image."""


def _uses(facts: Facts) -> str:
    return f"""## Uses

Train networks that predict the heatmaps and PAFs of this skeleton: `python -m trainer train --records RECORDS`. Do not evaluate on
this record set: crops are augmented, and people without keypoints are masked.

{_of_source(facts, "Uses")}"""


def _structure(facts: Facts) -> str:
    m, skeleton = facts.manifest, facts.manifest.format.skeleton
    on_disk = sum(shard_file["bytes"] for shard in m.shards for shard_file in shard.files.values())
    return f"""## Structure

{on_disk / 1e6:,.1f} MB in {counted(len(m.shards), "shard")}. A shard is a folder in `shards/` with a MindRecord file, its index and a list of its
rows. `samples.parquet` lists the rows of all shards, `manifest.json` contains settings and checksums, and `croissant.json` describes
every file. The set has no splits; all samples are for training.

Columns of a row in a shard:

{table(("column", "description"), [(f"`{name}`", text) for name, text in croissant.row_fields(m).items()])}

Columns of `samples.parquet`:

{table(("column", "description"), [(f"`{name}`", text) for name, text in croissant.SAMPLE_FIELDS.items()])}

Skeleton {code(skeleton.name)} with {counted(skeleton.num_joints, "joint")}: {plain(", ".join(skeleton.joints))}.
{counted(skeleton.num_limbs, "limb")}, in PAF order: {plain(", ".join(f"{a}–{b}" for a, b in skeleton.limbs))}."""


def _creation(facts: Facts) -> str:
    m, source = facts.manifest, facts.manifest.sources["annotations"]
    info = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.source_info.items())
    provenance = {
        "annotation file": f"{code(source['name'])}, {source['bytes']:,} bytes, SHA-256 `{source['sha256']}`",
        "`info` of the annotation file": plain(info) or "none",
        "pixels of the original images": f"SHA-256 over the hashes of all images `{facts.index.pixels_digest}`",
        "seed": f"`{m.seed}`; a sample is a function of (seed, image id, variant)",
        "content digest": f"`{m.digest}`, SHA-256 over all rows",
        "row schema version": f"{m.schema_version}",
        "builder version": f"{m.builder_version}, of `python -m pipeline build`",
        "package version": f"{PACKAGE} {package_version()}, which wrote this card",
    }
    if categories := source.get("categories"):
        named = ", ".join(f"{id} ({name})" for id, name in categories.items())
        provenance["categories whose people are used"] = plain(named)
    rules = [(rule, f"{m.counts.get(name, 0):,}") for name, rule in count_rules(m.config).items()]
    return f"""## Creation

{table(("item", "value"), list(provenance.items()))}
{_source_sets(facts)}
### Selection

{table(("rule", "count"), rules)}

### Settings

{table(("option", "value"), [(code(name), code(str(value))) for name, value in m.config.items()])}"""


def _source_sets(facts: Facts) -> str:
    """Return the section about the sources of a record set; empty for a single one."""
    m = facts.manifest
    if not m.source_sets:
        return ""
    rows = [
        (
            code(entry["name"]),
            plain(entry["annotations"].get("info", {}).get("description", "")) or "not described",
            f"{code(entry['annotations']['name'])}, SHA-256 `{entry['annotations']['sha256']}`",
            f"{count:,}",
            f"{entry['weight']:g}",
            plain(", ".join(entry["unlabeled"])) or "none",
        )
        for entry, count in zip(m.source_sets, m.images_per_source, strict=True)
    ]
    return f"""
### Sources

{table(("name", "data set", "annotation file", "images", "weight", "joints without labels"), rows)}

The number of a source, from 0, is `image_id >> {SOURCE_SHIFT}`; the other bits are the image id in its annotation file. An epoch shows an
image as often as the weight says. The loss leaves out the channels of joints without labels.
"""


def _statistics(facts: Facts) -> str:
    index = facts.index
    people = index.people[index.is_first]
    histograms = "\n\n".join(map(_histogram, facts.histograms))
    return f"""## Statistics

- {counted(int(people.sum()), "target person")} in {counted(len(people), "image")}: {people.mean():.2f} per image, at most {people.max()};
  {counted(int((people == 0).sum()), "image")} without people.
- {index.mirrored.mean():.1%} of the samples are mirrored.
- The ignore mask covers {index.masked.mean():.1%} of all cells.
- Mean size of a sample: {index.row_bytes.mean() / 1e3:.1f} KB.

{histograms}

### Positions of people

![Centers of the bounding boxes of people](pictures/{POSITIONS})

Centers of the boxes around the labeled keypoints of the target people, in the original images and in the crops."""


def _histogram(histogram: Histogram) -> str:
    heads = ("value", *(histogram.heading(name) for name in histogram.counts))
    columns = [
        [f"{count:,} ({share:.1%})" for count, share in zip(counts, histogram.shares(name), strict=True)]
        for name, counts in histogram.counts.items()
    ]
    return f"""### {histogram.title}

![{histogram.title}](pictures/{histogram.name}.jpg)

{table(heads, list(zip(map(plain, histogram.bins), *columns, strict=True)))}"""


def _licenses(facts: Facts) -> str:
    urls = facts.manifest.sources["annotations"].get("license_urls", {})
    ids, counts = np.unique(facts.index.license[facts.index.is_first], return_counts=True)
    names = [facts.manifest.licenses.get(str(id), "not listed in the source") for id in ids]
    rows = [
        (str(id), plain(name), plain(urls.get(str(id), "")), f"{count:,}")
        for id, name, count in zip(ids, names, counts, strict=True)
    ]
    return f"""## Licenses

{table(("id", "license", "URL", "images"), rows)}

{_of_source(facts, "Licenses") or "This table is read from the annotation file. Nothing else is known about the licenses of the images."}"""


def _leakage(facts: Facts) -> str:
    lines = "\n".join(f"- {plain(line)}." for leakage in facts.leakages for line in leakage.lines())
    not_compared = "Not compared with another record set yet; run `python -m data_cards RECORDS --against OTHER`."
    return f"""## Leakage

{lines or not_compared}

The comparison uses image ids and pixels of the original images. It does not recognize resized or recompressed images."""


def _limitations(facts: Facts) -> str:
    if facts.source is None:
        return """## Known issues, biases, limitations

No card describes this source data set. Ask its authors about known issues and biases."""
    return f"""## Known issues, biases, limitations

From the card of the source data set (`data_cards/{facts.source.name}`):

### Known issues

{_of_source(facts, "Known issues")}

### Biases and limitations

{_of_source(facts, "Biases and limitations")}"""


def _citation(facts: Facts) -> str:
    return f"""## Citation

Cite this record set by its content digest, and cite the method: {croissant.METHOD}.

{_of_source(facts, "Citation")}"""


def _of_source(facts: Facts, section: str) -> str:
    """Return a section of the source's card, or an empty string."""
    return facts.source.sections.get(section, "") if facts.source else ""
