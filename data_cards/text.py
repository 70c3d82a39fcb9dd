"""The text of CARD.md: a Hugging Face data set card, valid YAML front matter and sections, from what was measured."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from data_cards import croissant
from data_cards.leakage import Leakage
from data_cards.sources import SourceCard
from data_cards.statistics import Histogram, Index
from pipeline.records import SCHEMA_VERSION, Manifest

CONTACT_SHEET = "contact_sheet.jpg"
HEAT = "where_people_stand.png"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))
_FEATURE_TYPES = {"sc:Integer": "int64", "sc:Float": "float64", "sc:Text": "string", "sc:Boolean": "bool"}
_EXACT_TYPES = {
    **dict.fromkeys(("variant", "licence", "people", "width", "height"), "int32"),
    **dict.fromkeys(("person_joints", "person_joints_inside", "labelled", "visible", "cut"), "int32"),
    **{"boxes": "float32", "masked": "float32", "pixels": "binary"},
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything a card is written from."""

    manifest: Manifest
    index: Index
    histograms: list[Histogram]
    source: SourceCard | None
    leakages: tuple[Leakage, ...] = ()

    @property
    def name(self) -> str:
        return f"OpenPose records of {self.source_name}"

    @property
    def source_name(self) -> str:
        info = self.manifest.sources["annotations"].get("info", {})
        told = info.get("description") or self.manifest.sources["annotations"]["name"]
        return self.source.front["pretty_name"] if self.source else told

    @property
    def source_info(self) -> dict[str, str]:
        return self.manifest.sources["annotations"].get("info", {})

    @property
    def summary(self) -> str:
        m = self.manifest
        return (
            f"{m.num_samples:,} training samples for multi-person pose estimation with Part Affinity Fields: {m.num_images:,} images "
            f"of {self.source_name}, each in {m.num_variants} augmented variants, with heatmaps, PAFs and ignore mask"
        )

    def licences(self) -> list[str]:
        """Addresses (names where there is none) of what the annotations and the images are under."""
        front = self.source.front if self.source else {}
        own = [front["annotation_license_url"]] if front else []
        if front.get("image_licences") == "drawn by lot":
            return own
        urls = self.manifest.sources["annotations"].get("licence_urls", {})
        ids = map(str, np.unique(self.index.licence).tolist())
        told = [urls.get(id) or self.manifest.licences.get(id) or "not stated by the source" for id in ids]
        return list(dict.fromkeys([*own, *told]))


def card_text(facts: Facts) -> str:
    """The whole of CARD.md."""
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=1000)
    sections = (_summary, _uses, _structure, _creation, _measured, _licences, _leakage, _limits, _citation)
    return f"---\n{front}---\n\n" + "\n\n".join("\n".join(section(facts)) for section in sections) + "\n"


def _front_matter(facts: Facts) -> dict[str, Any]:
    m, front = facts.manifest, facts.source.front if facts.source else {}
    features = [
        {"name": name, ("sequence" if is_list else "dtype"): _EXACT_TYPES.get(name, _FEATURE_TYPES[kind])}
        for name, (kind, is_list, _) in croissant.SAMPLE_FIELDS.items()
    ]
    split = {"name": "train", "num_bytes": m.samples["bytes"], "num_examples": m.num_samples}
    return {
        "license": "other",
        "license_name": "per-image",
        "license_link": "CARD.md#licences",
        "pretty_name": facts.name,
        "language": [],
        "annotations_creators": front.get("annotations_creators", ["other"]),
        "source_datasets": front.get("source_datasets", ["original"]),
        "task_categories": ["keypoint-detection"],
        "size_categories": [next((name for most, name in _SIZES if m.num_samples < most), "10M<n<100M")],
        "tags": ["human-pose-estimation", "openpose", "part-affinity-fields", "mindspore", "mindrecord", "croissant"],
        "configs": [{"config_name": "samples", "data_files": [{"split": "train", "path": "samples.parquet"}]}],
        "dataset_info": {
            "config_name": "samples",
            "features": features,
            "splits": [split],
            "download_size": m.samples["bytes"],
            "dataset_size": m.samples["bytes"],
        },
    }


def _summary(facts: Facts) -> list[str]:
    warnings = [line for leakage in facts.leakages if leakage.found for line in leakage.lines()]
    warned = (
        ["> **Warning: this set shares images with another.**", *(f"> - {line}." for line in warnings), ""] if warnings else []
    )
    return [
        *(f"# {facts.name}", "", *warned, f"{facts.summary}.", ""),
        *(
            "What this card says of the set was measured when it was built; what it says of the source names where that was read.",
            "",
        ),
        f"![Samples: crop with skeletons, ignore mask, heatmaps, PAFs](pictures/{CONTACT_SHEET})",
        "",
        "Under each crop stand the image's id and its licence's id: the picture is under those licences.",
    ]


def _uses(facts: Facts) -> list[str]:
    lines = [
        *("## Uses", ""),
        "For training networks that predict the heatmaps and PAFs of this skeleton: `python -m trainer train --records RECORDS`.",
        "Not for evaluation: crops are augmented, and people without key points are masked.",
    ]
    return lines + (["", _demoted(facts.source.sections.get("Uses", ""))] if facts.source else [])


def _structure(facts: Facts) -> list[str]:
    m, skeleton = facts.manifest, facts.manifest.format.skeleton
    on_disk = sum(shard_file["bytes"] for shard in m.shards for shard_file in shard.files.values())
    rows = [(f"`{name}`", what) for name, what in croissant.row_fields(m).items()]
    columns = [(f"`{name}`", what) for name, (_, _, what) in croissant.SAMPLE_FIELDS.items()]
    return [
        *(
            "## Structure",
            "",
            f"{on_disk / 1e6:,.1f} MB: {len(m.shards)} shards under `shards/`, each a folder with a MindRecord file, its index and a list",
        ),
        "of its rows; `samples.parquet` lists all of them; `manifest.json` holds settings and checksums; `croissant.json` describes",
        "every file. A row of a shard:",
        *(
            "",
            *_table(("column", "what"), rows),
            "",
            "A line of `samples.parquet`:",
            "",
            *_table(("column", "what"), columns),
            "",
        ),
        f"Skeleton `{skeleton.name}`, {skeleton.num_joints} joints: {', '.join(skeleton.joints)}.",
        f"{skeleton.num_limbs} limbs, in the order of the PAFs: {', '.join(f'{a}–{b}' for a, b in skeleton.limbs)}.",
        *("", "There is no split: the whole set is for training."),
    ]


def _creation(facts: Facts) -> list[str]:
    m, source = facts.manifest, facts.manifest.sources["annotations"]
    told = "; ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.source_info.items()) or "nothing"
    rules = [(rule, f"{m.counts.get(name, 0):,}") for name, rule in _rules(m.config).items()]
    settings = [(f"`{name}`", f"`{value}`") for name, value in m.config.items()]
    return [
        *("## Creation", "", *_table(("", ""), [
            ("annotation file", f"`{source['name']}`, {source['bytes']:,} bytes, SHA-256 `{source['sha256']}`"),
            ("what it says of itself", told),
            ("pixels of the originals", f"SHA-256 over all images `{facts.index.pixels_digest}`"),
            ("seed", f"`{m.seed}`: sample (image, variant) is a function of (seed, image id, variant)"),
            ("row schema", f"version {SCHEMA_VERSION}"),
            ("builder", f"version {m.builder_version}, `python -m pipeline build`"),
            ("digest of all rows", f"`{m.digest}`"),
        ])),
        *("", "### What was kept, masked and left out", "", *_table(("rule", "how many"), rules)),
        *("", "### Settings", "", *_table(("option", "value"), settings)),
    ]  # fmt: skip


def _rules(config: dict[str, Any]) -> dict[str, str]:
    """Count of the manifest -> the rule that it counts, in the order of application."""
    licences = ", ".join(config["licenses"]) or "all"
    return {
        "images_in_file": "images in the file",
        "images_of_other_licences": f"images left out: licence not among the wanted ({licences})",
        "people_crowd": "crowd regions, into the ignore mask",
        "people_unlabelled": "people without any labelled joint, into the ignore mask",
        "people_few_joints": f"people with fewer than {config['min_joints']} labelled joints, into the ignore mask",
        "people_small": f"people whose area is not above {config['min_area_px']:g} px² or whose joints' box has a diagonal below "
        f"{config['min_diagonal_px']:g} px, into the ignore mask",
        "people_target": "target people",
        "images_without_target": "images left out: people, but no target among them",
        "images_people_free_dropped": "images left out: nobody annotated",
        "people_free": f"images without people kept (share {config['people_free_share']:g})",
        "images_selected": "images selected",
        "images_skipped": "of these left out: unreadable",
    }


def _measured(facts: Facts) -> list[str]:
    index = facts.index
    people = index.people[index.once]
    lines = [
        *("## What is in it", ""),
        f"{people.sum():,} target people in {len(people):,} images ({people.mean():.2f} an image, at most {people.max()}; "
        f"{(people == 0).sum():,} images without). {index.mirrored.mean():.1%} of the samples are mirrored; "
        f"{index.masked.mean():.1%} of all cells are in the ignore mask. A sample has {index.bytes.mean() / 1e3:.1f} KB.",
    ]
    for histogram in facts.histograms:
        heads = ("", *(f"{name}{_whole(histogram, name)}" for name in histogram.counts))
        cells = [
            [f"{c:,} ({s:.1%})" for c, s in zip(histogram.counts[n], histogram.shares(n), strict=True)] for n in histogram.counts
        ]
        lines += ["", f"### {histogram.title}", "", f"![{histogram.title}](pictures/{histogram.name}.png)", ""]
        lines += _table(heads, list(zip(map(_cell, histogram.bins), *cells, strict=True)))
    return [
        *(*lines, "", "### Where people stand", "", f"![Middles of people's boxes](pictures/{HEAT})", ""),
        "The middles of the boxes around the labelled joints of the target people: over the original images, and over the crops.",
    ]


def _whole(histogram: Histogram, series: str) -> str:
    """What the percentages of a column are of."""
    wholes = set(histogram.of[series].tolist())
    return f", of {wholes.pop():,} {histogram.unit}" if len(wholes) == 1 else f", of {histogram.unit}"


def _licences(facts: Facts) -> list[str]:
    urls = facts.manifest.sources["annotations"].get("licence_urls", {})
    ids, counts = np.unique(facts.index.licence[facts.index.once], return_counts=True)
    rows = [
        (
            str(id),
            _cell(facts.manifest.licences.get(str(id), "not listed in the source")),
            _cell(urls.get(str(id), "")),
            f"{count:,}",
        )
        for id, count in zip(ids.tolist(), counts.tolist(), strict=True)
    ]
    note = _demoted(facts.source.sections.get("Licences", "")) if facts.source else "The annotation file is the only source here."
    return ["## Licences", "", *_table(("id", "licence", "address", "images"), rows), "", note]


def _leakage(facts: Facts) -> list[str]:
    if not facts.leakages:
        told = ["Not compared with any other set: `python -m data_cards RECORDS --against OTHER` does, and says so here."]
    else:
        told = [f"- {line}." for leakage in facts.leakages for line in leakage.lines()]
    return [
        *("## Leakage", "", *told, ""),
        "Compared are image ids and the pixels of the originals; an image that was resized or compressed anew is not recognised.",
    ]


def _limits(facts: Facts) -> list[str]:
    lines = ["## Known faults, bias, limits", ""]
    if facts.source is None:
        return [*lines, "There is no card of this source: whoever made the annotations knows their faults and biases."]
    parts = ("Known faults", "Biases and limits")
    return lines + [f"Of the source (`data_cards/{facts.source.name}` in the project):"] + [
        line for part in parts for line in ("", f"### {part}", "", _demoted(facts.source.sections.get(part, "")))
    ]  # fmt: skip


def _citation(facts: Facts) -> list[str]:
    own = f"Cite this set by its digest, and the method: {croissant.METHOD}."
    return ["## Citation", "", own, *(["", facts.source.sections.get("Citation", "")] if facts.source else [])]


def _demoted(text: str) -> str:
    """A source card's section as part of this card's."""
    return text.replace("\n### ", "\n#### ")


def _table(heads: tuple[str, ...], rows: list) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def _cell(text: str) -> str:
    """Words of an annotation file inside a table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
