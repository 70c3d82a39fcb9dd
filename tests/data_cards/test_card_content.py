"""The content of a card: its numbers match counts of the annotations and the rows; its form is that of Hugging Face."""

import configparser
import hashlib
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from card_data import counts, table

from data_cards import sources
from data_cards.record_cards import statistics
from data_cards.record_cards.facts import Facts
from data_cards.record_cards.index import read_index
from data_cards.record_cards.text import card_text
from pipeline.build.worker import BUILDER_VERSION
from pipeline.records.codec import SCHEMA_VERSION
from pipeline.records.manifest import read_manifest

SETUP_CFG = Path(__file__).parents[2] / "setup.cfg"


@pytest.fixture(scope="module")
def rows(records) -> list[tuple[dict, dict, object]]:
    """Of every sample: row of samples.parquet, row of the shard, decoded row."""
    from pipeline_data import read_rows

    manifest = read_manifest(records)
    found = [row for shard in manifest.shards for row in read_rows(records / "shards" / shard.name)]
    index = pq.read_table(records / "samples.parquet").to_pylist()
    return [(line, row, manifest.format.decode(row)) for line, row in zip(index, found, strict=True)]


def test_people_keypoints_and_licenses_match_the_annotations(text, targets, annotations):
    source = json.loads(annotations.read_text())
    assert counts(text, "Target people per image") == Counter(str(len(people)) for people in targets.values())
    names = source["categories"][0]["keypoints"]
    all_people = [person for people in targets.values() for person in people]
    title = "Labeled and visible keypoints"
    for column, min_v in ((0, 1), (1, 2)):
        shown = counts(text, title, column)
        assert {name: shown.get(name, 0) for name in names} == {
            name: sum(int(person[place, 2] >= min_v) for person in all_people) for place, name in enumerate(names)
        }
        shoulders = [names.index(f"{side}_shoulder") for side in ("left", "right")]
        necks = [min((v for v in person[shoulders, 2] if v), default=0) for person in all_people]  # one shoulder is enough
        assert shown["neck"] == sum(v >= min_v for v in necks)
    licenses = Counter(image["license"] for image in source["images"] if image["id"] in targets)
    assert {name.split()[0]: n for name, n in counts(text, "Image licenses").items()} == {
        str(id): n for id, n in licenses.items()
    }


def test_keypoints_outside_the_crop_match_the_rows(text, rows, records):
    skeleton = read_manifest(records).format.skeleton
    outside, whole, truncation = Counter(), Counter(), Counter()
    for line, _, sample in rows:
        for person in sample.keypoints:
            inside = 0
            for name, (x, y, v) in zip(skeleton.joints, person, strict=True):
                if line["mirrored"]:  # name the joint as in the original image
                    swaps = {"left": "right", "right": "left"}
                    side, _, rest = name.partition("_")
                    name = f"{swaps[side]}_{rest}" if side in swaps else name
                if v > 0:
                    whole[name] += 1
                    is_inside = -0.5 <= x < 127.5 and -0.5 <= y < 127.5
                    inside += is_inside
                    outside[name] += not is_inside
            share = 1 - inside / (person[:, 2] > 0).sum()
            classes = {"none": share == 0, "0 to 25%": share < 0.25, "25 to 50%": share < 0.5, "50 to 75%": share < 0.75}
            classes |= {"75% or more": share < 1, "all": True}
            truncation[next(name for name, holds in classes.items() if holds)] += 1
    assert counts(text, "Labeled keypoints outside the crop") == {name: n for name, n in outside.items() if n}
    assert counts(text, "Truncated people: share of labeled keypoints outside the crop") == truncation
    nose = table(text, "Labeled keypoints outside the crop")["nose"][0]
    assert nose == f"{outside['nose']:,} ({outside['nose'] / whole['nose']:.1%})"


def test_ignored_share_rotation_and_person_size_match_the_rows(text, rows, targets):
    masked, rotation, before, after = Counter(), Counter(), Counter(), Counter()
    edges = [round(16 * math.sqrt(2) ** k) for k in range(14)]

    def size_class(diagonal):
        above = [edge for edge in edges if edge <= diagonal]
        return f"{above[-1]} to {edges[len(above)]}" if above and len(above) < len(edges) else "open"

    for line, _, sample in rows:
        share = np.float32(sample.ignore.mean())
        bounds = ((0.05, "0 to 5%"), (0.1, "5 to 10%"), (0.2, "10 to 20%"), (0.3, "20 to 30%"), (0.5, "30 to 50%"))
        masked["none" if share == 0 else next((name for limit, name in bounds if share < limit), "50% or more")] += 1
        a, b, _, c, d, _ = line["affine"]
        down = np.array([b * (-1 if line["mirrored"] else 1), d])  # the direction "down" of the original image
        degrees = math.degrees(math.atan2(-down[0], down[1]))
        low = math.floor(degrees / 5) * 5
        rotation[f"{low} to {low + 5}" if -45 <= low < 45 else "open"] += 1
        for person in targets[line["image_id"]]:
            seen = person[person[:, 2] > 0, :2]
            diagonal = math.hypot(*(seen.max(axis=0) - seen.min(axis=0) + 1))
            if line["variant"] == 0:
                before[size_class(diagonal)] += 1
            points = seen @ np.array([[a, b], [c, d]]).T + np.array(line["affine"])[[2, 5]]
            points = np.vstack([points, neck_of(person, line["affine"])])
            if ((points >= -0.5) & (points < 127.5)).all(axis=1).any():
                after[size_class(diagonal * math.sqrt(abs(a * d - b * c)))] += 1
    title = "Person size: diagonal of the bounding box in pixels"
    assert counts(text, "Share of the crop covered by the ignore mask") == masked
    assert counts(text, "Rotation in degrees, clockwise") == rotation and "open" not in rotation
    assert counts(text, title, 0) == before and counts(text, title, 1) == after and "open" not in {*before, *after}


def neck_of(person: np.ndarray, affine: list[float]) -> np.ndarray:
    """The midpoint of the labeled shoulders in the crop, (1, 2); (0, 2) if no shoulder is labeled."""
    left, right = person[5], person[6]
    labeled = [shoulder[:2] for shoulder in (left, right) if shoulder[2]]
    if not labeled:
        return np.zeros((0, 2))
    x, y = np.mean(labeled, axis=0)
    return np.array([[affine[0] * x + affine[1] * y + affine[2], affine[3] * x + affine[4] * y + affine[5]]])


def test_position_maps_count_the_centers_of_boxes(records, targets):
    maps = statistics.position_maps(read_index(records, read_manifest(records)))
    expected = np.zeros((32, 32), int)
    for people in targets.values():
        for person in people:
            seen = person[person[:, 2] > 0, :2]
            x, y = (seen.min(axis=0) + seen.max(axis=0)) / 2 + 0.5
            expected[int(np.float32(y) / 240 * 32), int(np.float32(x) / 320 * 32)] += 1
    assert (maps["original"] == expected).all() and 0 < maps["crops"].sum() <= 2 * expected.sum()


def test_provenance_settings_and_selection_match_the_manifest(text, records, annotations):
    manifest = read_manifest(records)
    provenance = " ".join(cell for cells in table(text, "Creation").values() for cell in cells)
    assert hashlib.sha256(annotations.read_bytes()).hexdigest() in provenance
    assert manifest.digest in provenance
    settings = {name.strip("`"): cells[0].strip("`") for name, cells in table(text, "Settings").items()}
    assert settings == {name: str(value) for name, value in manifest.config.items()}
    selection = [int(cells[0]) for cells in table(text, "Selection").values()]
    assert (
        selection[0] == len(json.loads(annotations.read_text())["images"]) and selection[-2] == manifest.counts["images_selected"]
    )
    assert sorted(n for n in selection if n) == sorted(n for n in manifest.counts.values() if n)


def test_every_version_is_named_for_what_it_is(text):
    """The package version comes from setup.cfg; the builder and the row schema have version numbers of their own."""
    setup = configparser.ConfigParser()
    setup.read(SETUP_CFG)
    creation = table(text, "Creation")
    assert creation["package version"] == [f"openpose-mindspore {setup['metadata']['version']}, which wrote this card"]
    assert creation["builder version"][0].startswith(f"{BUILDER_VERSION}, ")
    assert creation["row schema version"] == [str(SCHEMA_VERSION)]


def test_front_matter_is_valid_for_hugging_face(text, records):
    front, body = sources.split_front_matter(text)
    fields = (
        "license",
        "pretty_name",
        "tags",
        "size_categories",
        "source_datasets",
        "task_categories",
        "configs",
        "dataset_info",
    )
    assert not [name for name in fields if not front.get(name)]
    assert front["license"] != "other" or (front["license_name"] and front["license_link"])
    (split,) = front["dataset_info"]["splits"]
    assert split["num_examples"] == read_manifest(records).num_samples
    (files,) = front["configs"][0]["data_files"]
    schema = pq.read_schema(records / files["path"])
    arrow = {"bool": "bool", "binary": "fixed_size_binary[16]", "float32": "float", "float64": "double"}
    for feature in front["dataset_info"]["features"]:
        kind = schema.field(feature["name"]).type
        item = str(kind.value_type if "sequence" in feature else kind)
        name = feature.get("sequence") or feature["dtype"]
        assert item == arrow.get(name, name), feature
    assert [feature["name"] for feature in front["dataset_info"]["features"]] == schema.names
    for heading in ("Uses", "Structure", "Creation", "Licenses", "Leakage", "Known issues, biases, limitations", "Citation"):
        assert f"\n## {heading}\n" in body
    linked = set(re.findall(r"\]\((pictures/[^)]+)\)", body))
    assert linked == {f"pictures/{path.name}" for path in (records / "pictures").iterdir()}


def test_text_of_the_annotation_file_is_shown_as_text(records):
    """No HTML, links, images, table cells, headings or terminal escapes come from outside."""
    evil = "<script>alert(1)</script>\n# A\n\n![x](http://x/y.png) [a](b) | c `d` *e* &amp; \x1b[31m\u202e \ud800"
    manifest = read_manifest(records)
    source = {**manifest.sources["annotations"], "name": evil, "info": {"description": evil}, "license_urls": {"1": evil}}
    manifest = replace(manifest, sources={"annotations": source}, licenses=dict.fromkeys(manifest.licenses, evil))
    facts = Facts(manifest=manifest, index=read_index(records, manifest), histograms=[], source=None)
    text = card_text(facts).split("\n---\n", 1)[1]
    assert all(line.isprintable() for line in text.splitlines())
    shown = r"&lt;script&gt;alert(1)&lt;/script&gt; # A !\[x\](http://x/y.png) \[a\](b) \| c \`d\` \*e\* &amp;amp; \\x1b\[31m\\u202e \\ud800"
    assert f"# OpenPose records of {shown}\n" in text and f"images of {shown} in" in text
    assert f"description: {shown} |" in text and f"| {shown} | {shown} |" in text
    rest = re.sub(r"`[^`\n]*`", "", text.replace(shown, ""))  # code is shown as it is
    assert "<script" not in rest and rest.count("](") == rest.count("](pictures/")
