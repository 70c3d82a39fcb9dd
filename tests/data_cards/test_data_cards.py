"""Cards say what is so: counts against the annotations and rows themselves, hashes against files, the same bytes again and again."""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import cv2
import mlcroissant
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pipeline_data import PIPELINE, build_config, words_of

from data_cards import card, charts, compare, croissant, leakage, sources, statistics
from data_cards.__main__ import COMMANDS, commanded
from pipeline.build import build
from pipeline.build.worker import BUILDER_VERSION
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.records import verify
from pipeline.records.codec import COLUMNS
from pipeline.records.manifest import CARD, MANIFEST, read_manifest
from pipeline.synthetic import synthesize
from pipeline.synthetic.synthesize import SynthesizeConfig

SECTIONS = ("Annotation", "Sizes", "Licenses", "Known faults", "Biases and limits", "Uses", "Citation")


def card_files(folder: Path) -> dict[str, bytes]:
    """Everything in a record set that is not the set itself."""
    own = ("shards", MANIFEST, "samples.parquet", "skipped.tsv")
    parts = {path: path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(part): path.read_bytes() for path, part in parts.items() if part.parts[0] not in own}


def run(*words) -> int:
    return main("python -m data_cards", "", COMMANDS, commanded([str(word) for word in words]))


def table(text: str, title: str) -> dict[str, list[str]]:
    """The first table under a heading of a card: the other cells by the first."""
    under = re.split(rf"^#+ {re.escape(title)}$", text, flags=re.MULTILINE)[1]
    lines = re.search(r"(^\|.*\n)+", under, re.MULTILINE).group().splitlines()[2:]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


def counts(text: str, title: str, column: int = 0) -> dict[str, int]:
    """The counts of a histogram's table, without the bins that have none."""
    cells = {name: int(cells[column].split(" (")[0].replace(",", "")) for name, cells in table(text, title).items()}
    return {name: count for name, count in cells.items() if count}


@pytest.fixture(scope="module")
def text(records) -> str:
    return (records / CARD).read_text()


@pytest.fixture(scope="module")
def document(records) -> dict:
    return json.loads((records / "croissant.json").read_text())


@pytest.fixture(scope="module")
def targets(annotations) -> dict[int, list[np.ndarray]]:
    """Keypoints (17, 3) of the target people by image id, filtered by hand as the defaults say."""
    found: dict[int, list[np.ndarray]] = {}
    for entry in json.loads(annotations.read_text())["annotations"]:
        points = np.array(entry["keypoints"]).reshape(17, 3)
        if not entry["iscrowd"] and (points[:, 2] > 0).sum() >= 5 and entry["area"] > 1024:
            found.setdefault(entry["image_id"], []).append(points)
    return found


@pytest.fixture(scope="module")
def rows(records) -> list[tuple[dict, dict, object]]:
    """Line of samples.parquet, row, decoded row of every sample."""
    from pipeline.records.reader import read_rows

    manifest = read_manifest(records)
    found = [row for shard in manifest.shards for row in read_rows(records / "shards" / shard.name)]
    index = pq.read_table(records / "samples.parquet").to_pylist()
    return [(line, row, manifest.format.decode(row)) for line, row in zip(index, found, strict=True)]


# ---- what the card says, against a literal count


def test_people_joints_and_licenses_are_those_of_the_annotations(text, targets, annotations):
    source = json.loads(annotations.read_text())
    assert counts(text, "Target people per image") == Counter(str(len(people)) for people in targets.values())
    names = source["categories"][0]["keypoints"]
    everyone = [person for people in targets.values() for person in people]
    title = "Joints labeled, and labeled as visible"
    for column, least in ((0, 1), (1, 2)):
        told = counts(text, title, column)
        assert {name: told.get(name, 0) for name in names} == {
            name: sum(int(person[place, 2] >= least) for person in everyone) for place, name in enumerate(names)
        }
        shoulders = [names.index(f"{side}_shoulder") for side in ("left", "right")]
        necks = [min((v for v in person[shoulders, 2] if v), default=0) for person in everyone]  # one shoulder is enough
        assert told["neck"] == sum(v >= least for v in necks)
    licenses = Counter(image["license"] for image in source["images"] if image["id"] in targets)
    assert {name.split()[0]: n for name, n in counts(text, "Licenses of the images").items()} == {
        str(id): n for id, n in licenses.items()
    }


def test_what_the_crop_cut_off_is_what_the_rows_lack(text, rows, records):
    skeleton = read_manifest(records).format.skeleton
    outside, whole, truncation = Counter(), Counter(), Counter()
    for line, _, sample in rows:
        for person in sample.keypoints:
            inside = 0
            for name, (x, y, v) in zip(skeleton.joints, person, strict=True):
                if line["mirrored"]:  # back to the original's name
                    swaps = {"left": "right", "right": "left"}
                    side, _, rest = name.partition("_")
                    name = f"{swaps[side]}_{rest}" if side in swaps else name
                if v > 0:
                    whole[name] += 1
                    is_inside = -0.5 <= x < 127.5 and -0.5 <= y < 127.5
                    inside += is_inside
                    outside[name] += not is_inside
            share = 1 - inside / (person[:, 2] > 0).sum()
            classes = {"none": share == 0, "0 to 25 %": share < 0.25, "25 to 50 %": share < 0.5, "50 to 75 %": share < 0.75}
            classes |= {"75 % or more": share < 1, "all": True}
            truncation[next(name for name, holds in classes.items() if holds)] += 1
    assert counts(text, "Labeled joints outside of the crop") == {name: n for name, n in outside.items() if n}
    assert counts(text, "People cut off by the crop: share of their labeled joints outside") == truncation
    told = table(text, "Labeled joints outside of the crop")["nose"][0]
    assert told == f"{outside['nose']:,} ({outside['nose'] / whole['nose']:.1%})"


def test_masked_share_rotation_and_size_are_those_of_the_rows(text, rows, targets, records):
    masked, rotation, before, after = Counter(), Counter(), Counter(), Counter()
    edges = [round(16 * math.sqrt(2) ** k) for k in range(14)]

    def size_class(diagonal):
        above = [edge for edge in edges if edge <= diagonal]
        return f"{above[-1]} to {edges[len(above)]}" if above and len(above) < len(edges) else "open"

    for line, _, sample in rows:
        share = np.float32(sample.ignore.mean())
        bounds = ((0.05, "0 to 5 %"), (0.1, "5 to 10 %"), (0.2, "10 to 20 %"), (0.3, "20 to 30 %"), (0.5, "30 to 50 %"))
        masked["none" if share == 0 else next((name for most, name in bounds if share < most), "50 % or more")] += 1
        a, b, _, c, d, _ = line["affine"]
        down = np.array([b * (-1 if line["mirrored"] else 1), d])  # where the original's "down" points
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
    title = "Person size before and after augmentation: box diagonal in pixels"
    assert counts(text, "Share of the crop in the ignore mask") == masked
    assert counts(text, "Rotation in degrees, clockwise") == rotation and "open" not in rotation
    assert counts(text, title, 0) == before and counts(text, title, 1) == after and "open" not in {*before, *after}


def neck_of(person: np.ndarray, affine: list[float]) -> np.ndarray:
    """The middle of the labeled shoulders in the crop, (1, 2), or nothing, (0, 2)."""
    left, right = person[5], person[6]
    labeled = [shoulder[:2] for shoulder in (left, right) if shoulder[2]]
    if not labeled:
        return np.zeros((0, 2))
    x, y = np.mean(labeled, axis=0)
    return np.array([[affine[0] * x + affine[1] * y + affine[2], affine[3] * x + affine[4] * y + affine[5]]])


def test_where_people_stand_is_where_their_boxes_are(records, targets):
    heats = statistics.heat_maps(statistics.Index(records, read_manifest(records)))
    expected = np.zeros((32, 32), int)
    for people in targets.values():
        for person in people:
            seen = person[person[:, 2] > 0, :2]
            x, y = (seen.min(axis=0) + seen.max(axis=0)) / 2 + 0.5
            expected[int(np.float32(y) / 240 * 32), int(np.float32(x) / 320 * 32)] += 1
    assert (heats["original"] == expected).all() and 0 < heats["crops"].sum() <= 2 * expected.sum()


def test_provenance_and_filter_counts_are_the_manifests(text, records, annotations):
    manifest = read_manifest(records)
    provenance = " ".join(cell for cells in table(text, "Creation").values() for cell in cells)
    assert hashlib.sha256(annotations.read_bytes()).hexdigest() in provenance
    assert manifest.digest in provenance and f"version {BUILDER_VERSION}" in provenance
    settings = {name.strip("`"): cells[0].strip("`") for name, cells in table(text, "Settings").items()}
    assert settings == {name: str(value) for name, value in manifest.config.items()}
    told = [int(cells[0]) for cells in table(text, "What was kept, masked and left out").values()]
    assert told[0] == len(json.loads(annotations.read_text())["images"]) and told[-2] == manifest.counts["images_selected"]
    assert sorted(n for n in told if n) == sorted(n for n in manifest.counts.values() if n)


# ---- the forms that others define


def test_front_matter_is_that_of_a_hugging_face_card(text, records):
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
    for heading in ("Uses", "Structure", "Creation", "Licenses", "Leakage", "Known faults, bias, limits", "Citation"):
        assert f"\n## {heading}\n" in body
    linked = set(re.findall(r"\]\((pictures/[^)]+)\)", body))
    assert linked == {f"pictures/{path.name}" for path in (records / "pictures").iterdir()}


def test_croissant_names_every_file_with_its_hash(document, records):
    objects = {part["@id"]: part for part in document["distribution"] if part["@type"] == "cr:FileObject"}
    files = [path for path in records.rglob("*") if path.is_file() and "shards" in path.parts]
    assert set(objects) == {str(path.relative_to(records)) for path in files} | {MANIFEST, "samples.parquet"}
    for name, part in objects.items():
        data = (records / name).read_bytes()
        assert part["sha256"] == hashlib.sha256(data).hexdigest() and part["contentSize"] == f"{len(data)} B"
    described = {record["@id"]: [field["name"] for field in record["field"]] for record in document["recordSet"]}
    assert described["samples"] == pq.read_schema(records / "samples.parquet").names
    assert set(described["rows"]) == set(COLUMNS)


@pytest.mark.parametrize("name", croissant.REQUIRED)
def test_our_own_check_misses_what_is_missing(document, name):
    assert croissant.problems(document) == []
    assert croissant.problems({key: value for key, value in document.items() if key != name})


@pytest.mark.parametrize("need", ["sha256", "contentUrl", "encodingFormat"])
def test_our_own_check_looks_at_every_file(document, need):
    worse = json.loads(json.dumps(document))
    del worse["distribution"][1][need]
    assert croissant.problems(worse) == [f"samples.parquet: {need}: required, missing or empty"]


def test_mlcroissant_finds_no_fault_and_reads_the_samples(records, document):
    dataset = mlcroissant.Dataset(records / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors and not issues.warnings
    index = pq.read_table(records / "samples.parquet")
    assert [row["samples/image_id"] for row in dataset.records("samples")] == index["image_id"].to_pylist()
    broken = json.loads(json.dumps(document))
    broken["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "nowhere"
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(broken)


@pytest.fixture(scope="module")
def bare(people, annotations, tmp_path_factory) -> Path:
    """A set from a file that says nothing of itself and of licenses."""
    folder = tmp_path_factory.mktemp("bare")
    content = json.loads(annotations.read_text())
    images = [{key: value for key, value in image.items() if key != "license"} for image in content["images"]]
    kept = {name: content[name] for name in ("annotations", "categories")}
    (folder / "own.json").write_text(json.dumps({**kept, "images": images}))
    build.run(build_config(people, folder / "set", annotations=folder / "own.json", variants=1))
    return folder / "set"


def test_a_source_that_nobody_knows_has_a_whole_card_that_says_so(bare):
    text, document = (bare / CARD).read_text(), json.loads((bare / "croissant.json").read_text())
    assert "There is no card of this source" in text and "# OpenPose records of own.json" in text
    assert croissant.problems(document) == [] and document["license"] == ["not stated by the source"]
    assert document["datePublished"] == croissant.UNKNOWN_DATE and read_manifest(bare).digest in document["url"]


def test_mlcroissant_accepts_a_source_that_nobody_knows(bare):
    assert not mlcroissant.Dataset(bare / "croissant.json").metadata.ctx.issues.errors


# ---- always the same bytes


def test_the_card_does_not_depend_on_jobs(records, people, tmp_path):
    build.run(build_config(people, tmp_path / "again", jobs=2))
    assert card_files(tmp_path / "again") == card_files(records)
    assert {"CARD.md", "croissant.json", "pictures/contact_sheet.jpg"} < set(card_files(records))


def test_the_card_of_a_build_that_was_killed_is_the_same(records, people, tmp_path):
    config = build_config(people, tmp_path / "killed", jobs=2)
    process = subprocess.Popen([*PIPELINE, *words_of(config)], start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(config.out.glob("shards/.writing-*")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (config.out / MANIFEST).exists()
    assert build.run(config) == 0
    assert card_files(config.out) == card_files(records)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["drawing", "swapping"])
def test_a_card_is_whole_or_absent_and_comes_again(records, people, tmp_path, monkeypatch, moment):
    """Stopped while drawing or between two renames; the build is then unfinished, and the same command ends it."""
    config = build_config(people, tmp_path / "set")

    def stop(*_, **__):
        raise Killed

    def leave_one(source, target):
        real(source, target)
        if Path(target).name == "croissant.json":
            raise Killed

    real = os.replace
    with monkeypatch.context() as patched:
        if moment == "drawing":
            patched.setattr(charts, "heat_chart", stop)
        else:
            patched.setattr(card.os, "replace", leave_one)
        with pytest.raises(Killed):
            build.run(config)
        assert not (config.out / MANIFEST).exists() and not (config.out / CARD).exists()
    (config.out / ".card-left").mkdir()  # a SIGKILL leaves its temporary folder
    (config.out / ".card-left" / CARD).write_text("half a ca")
    assert build.run(config) == 0
    assert card_files(config.out) == card_files(records)


def test_rewriting_that_is_stopped_leaves_no_card_that_looks_whole(records, tmp_path, monkeypatch):
    shutil.copytree(records, tmp_path / "set")

    def leave_one(source, target):
        real(source, target)
        raise Killed

    real = os.replace
    with monkeypatch.context() as patched:
        patched.setattr(card.os, "replace", leave_one)
        with pytest.raises(Killed):
            run(tmp_path / "set")
    assert not (tmp_path / "set" / CARD).exists()
    assert run(tmp_path / "set") == 0 and card_files(tmp_path / "set") == card_files(records)


def test_a_card_that_was_lost_is_made_anew(records, people, tmp_path):
    config = build_config(people, tmp_path / "set")
    shutil.copytree(records, config.out)
    for remake in (lambda: build.run(config), lambda: run(config.out), lambda: run("write", config.out)):
        (config.out / CARD).unlink()
        shutil.rmtree(config.out / "pictures")
        assert remake() == 0
        assert card_files(config.out) == card_files(records)
    assert verify.run(verify.VerifyConfig(records=config.out, jobs=1)) == 0


def test_growing_makes_the_card_of_the_grown_set(records, people, tmp_path):
    shutil.copytree(records, tmp_path / "set")
    build.run(build_config(people, tmp_path / "set", variants=3))
    manifest, text = read_manifest(tmp_path / "set"), (tmp_path / "set" / CARD).read_text()
    assert manifest.digest in text and read_manifest(records).digest not in text
    assert sum(counts(text, "Rotation in degrees, clockwise").values()) == manifest.num_samples == 3 * manifest.num_images


# ---- two sets


@pytest.fixture(scope="module")
def others(people, annotations, targets, tmp_path_factory) -> tuple[Path, int, int]:
    """A set of two images: one with the id of an image of `people` but other pixels, one with the pixels of another, as a PNG,
    under another id and name. Returns the folder, that id, and the id of the image whose pixels were taken."""
    folder = tmp_path_factory.mktemp("others")
    content = json.loads(annotations.read_text())
    same_id, same_pixels = sorted(targets)[3], sorted(targets)[5]
    images = {image["id"]: image for image in content["images"]}
    first, second = (images[id] for id in (same_id, same_pixels))
    source = people / "train2017"
    changed = cv2.imread(str(source / first["file_name"]))
    changed[8, 7] ^= 255
    cv2.imwrite(str(folder / "a.png"), changed)
    cv2.imwrite(str(folder / "b.png"), cv2.imread(str(source / second["file_name"])))
    kept = [entry for entry in content["annotations"] if entry["image_id"] in (same_id, same_pixels)]
    moved = [{**entry, "image_id": 900_001 if entry["image_id"] == same_pixels else same_id} for entry in kept]
    listed = [{**first, "file_name": "a.png"}, {**second, "file_name": "b.png", "id": 900_001}]
    (folder / "a.json").write_text(json.dumps({**content, "images": listed, "annotations": moved}))
    build.run(build_config(people, folder / "set", annotations=folder / "a.json", images=folder, variants=1, shards=1))
    return folder / "set", same_id, same_pixels


@pytest.fixture(scope="module")
def unrelated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unrelated")
    settings = dict(num_images=6, seed=6, width=320, height=240, jobs=1, split="val")
    synthesize.run(SynthesizeConfig(out=folder / "people", **settings))
    path = folder / "people/annotations/person_keypoints_val2017.json"
    where = dict(annotations=path, images=folder / "people/val2017", variants=1, shards=1)
    build.run(build_config(folder, folder / "set", **where))
    return folder / "set"


def test_leakage_finds_a_shared_id_and_the_same_pixels_under_another_id(records, others, unrelated):
    index = statistics.Index(records, read_manifest(records))
    other, same_id, same_pixels = others
    found = leakage.check(index, other)
    assert found.found and found.ids == (same_id,) and found.twins == ((same_pixels, 900_001),)
    assert not leakage.check(index, unrelated).found


def test_the_card_warns_of_leakage_and_the_command_fails(records, others, unrelated, tmp_path, capsys):
    shutil.copytree(records, tmp_path / "set")
    other, same_id, same_pixels = others
    assert run(tmp_path / "set", "--against", unrelated) == 0
    text = (tmp_path / "set" / CARD).read_text()
    assert "no image id and no pixels in common" in text and "Warning" not in text
    assert run(tmp_path / "set", "--against", unrelated, other) == 1
    text, said = (tmp_path / "set" / CARD).read_text(), capsys.readouterr().out
    warning = text.split("---\n")[2].split("![")[0]
    assert "**Warning: this set shares images with another.**" in warning
    for words in (f"1 image ids in common: {same_id}", f"1 images with identical pixels: {same_pixels} here is 900001 there"):
        assert words in warning and words in said
    assert run(tmp_path / "set") == 0 and card_files(tmp_path / "set") == card_files(records)


def test_compare_shows_two_sets_side_by_side(records, others, capsys):
    other, same_id, _ = others
    assert compare.run(compare.CompareConfig(first=records, second=other)) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    mine, theirs = read_manifest(records), read_manifest(other)
    assert f"samples {mine.num_samples} {theirs.num_samples}" in lines
    assert f"digest {mine.digest[:16]} {theirs.digest[:16]}" in lines
    assert "shards 2 1" in lines and "variants 2 1" in lines and not [line for line in lines if line.startswith("insize")]
    people = [pq.read_table(folder / "samples.parquet")["people"].to_pylist()[: m.num_images] for folder, m in
              ((records, mine), (other, theirs))]  # fmt: skip
    assert f"target people {sum(people[0])} {sum(people[1])}" in lines
    joint = [statistics.histograms(statistics.Index(f, m), m.licenses)[1].shares("labeled")[0] for f, m in
             ((records, mine), (other, theirs))]  # fmt: skip
    assert f"nose {joint[0]:.1%} {joint[1]:.1%}" in lines
    assert any(f"1 image ids in common: {same_id}" in line for line in lines)


# ---- pictures


def test_bars_are_as_long_as_their_counts():
    numbers = np.array([10, 20, 40, 0])
    histogram = statistics.Histogram(
        name="n", title="t", unit="things", bins=("a", "b", "c", "é|x" * 40), counts={"s": numbers}, of={"s": numbers * 0 + 70}
    )
    picture = charts.bar_chart(histogram)
    colored = (picture[50:] == charts.SERIES_COLORS[0]).all(axis=-1).sum(axis=1)
    lengths = [length for length in dict.fromkeys(colored.tolist()) if length]
    assert len(lengths) == 3 and np.allclose(np.array(lengths) / lengths[0], (1, 2, 4), rtol=0.03)
    assert histogram.trimmed().bins == ("a", "b", "c")
    with pytest.raises(ValueError, match="must be of 4 bins"):
        statistics.Histogram(name="n", title="t", unit="u", bins=("a",) * 4, counts={"s": numbers[:3]}, of={"s": numbers})


def test_the_heat_is_darkest_where_most_people_are():
    counts = np.zeros((32, 32), np.int64)
    counts[24, 8] = 9
    counts[4, 4] = 2
    picture = charts.heat_chart({"one": counts}, {"one": "t"})
    inner = picture[46 + 4 : -40 - 4, 24 + 4 : -24 - 4].sum(axis=-1)
    y, x = np.unravel_index(inner.argmin(), inner.shape)
    assert abs(y + 4 - 24.5 * 10) < 6 and abs(x + 4 - 8.5 * 10) < 6


def test_pictures_show_something(records):
    pictures = {path.name: cv2.imread(str(path)) for path in (records / "pictures").iterdir()}
    assert len(pictures) == 10 and all(picture.std() > 10 for picture in pictures.values())
    sheet = pictures["contact_sheet.jpg"]
    assert sheet.shape[0] > 3 * 64 and sheet.shape[1] > 8 * 64


# ---- cards of the sources


@pytest.mark.parametrize("name", ["coco2014", "coco2017", "synthetic"])
def test_a_source_card_is_complete_and_names_its_sources(name):
    source = sources.read_card(sources.FOLDER / f"{name}.md")
    assert all(len(source.sections.get(section, "")) > 20 for section in SECTIONS)
    assert sources.source_card({"description": f"{source.front['described_as']}, seed 3"}) == source
    cited = set(re.findall(r"\[([\d, ]+)\]", "".join(source.sections[s] for s in SECTIONS if s != "Citation")))
    numbers = {int(number) for part in cited for number in part.split(",")}
    listed = {int(number) for number in re.findall(r"^(\d+)\. ", source.sections["Citation"], re.MULTILINE)}
    assert numbers == listed and bool(numbers) == (name != "synthetic")


def test_the_synthetic_source_has_no_licenses_of_images(text, document):
    assert "drawn by lot" in text and document["license"] == ["https://www.apache.org/licenses/LICENSE-2.0"]
    assert "Nobody is real" in text


def test_a_card_without_front_matter_is_refused(tmp_path):
    (tmp_path / "x.md").write_text("# Title\n")
    with pytest.raises(ValueError, match="front matter"):
        sources.read_card(tmp_path / "x.md")
    (tmp_path / "x.md").write_text(f"---\n{yaml.safe_dump({'pretty_name': 'x'})}---\n")
    with pytest.raises(ValueError, match=r"must have .*described_as"):
        sources.read_card(tmp_path / "x.md")


# ---- mistakes


def test_mistakes_are_messages_with_exit_codes(records, tmp_path, capsys):
    assert run(tmp_path / "nowhere") == 1 and "nowhere: no record set" in capsys.readouterr().err
    assert run("compare", records, tmp_path) == 1 and "no record set" in capsys.readouterr().err
    shutil.copytree(records, tmp_path / "set")
    before = card_files(tmp_path / "set")
    assert run(tmp_path / "set", "--against", tmp_path / "nowhere") == 1 and "nowhere" in capsys.readouterr().err
    assert card_files(tmp_path / "set") == before, "the card that was there stays"
    (tmp_path / "set" / "shards/v000-s00000/rows.parquet").unlink()
    assert run(tmp_path / "set") == 1 and "v000-s00000/rows.parquet: missing" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "set", "--agianst", "x")
    assert stopped.value.code == 2


def test_a_damaged_row_is_named(records, tmp_path, capsys):
    shutil.copytree(records, tmp_path / "set")
    shard = tmp_path / "set/shards/v000-s00000/part.mindrecord"
    data = bytearray(shard.read_bytes())
    data[data.find(b"\xff\xd9") - 1] ^= 1
    shard.write_bytes(data)
    assert run(tmp_path / "set") == 1 and "CRC32 does not match; `python -m pipeline verify`" in capsys.readouterr().err


def test_a_set_of_an_older_builder_is_refused_by_name(records, tmp_path):
    shutil.copytree(records, tmp_path / "set")
    path = tmp_path / "set/samples.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["pixels", "masked"]), path)
    with pytest.raises(UserError, match="did not measure pixels, masked; build the records anew"):
        statistics.Index(tmp_path / "set", read_manifest(tmp_path / "set"))
