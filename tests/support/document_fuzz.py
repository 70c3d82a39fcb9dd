"""A valid document for every reader of documents, and hypothesis strategies that damage it at any place."""

import contextlib
import copy
import io
import json
import re
import shutil
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st
from live_data import write_network
from safetensors.numpy import save_file
from trainer_data import make_info, small_tensors

from evaluator.decoding import DecodeConfig
from evaluator.inference import exported
from evaluator.inference.scoring import read_calibration
from evaluator.jobs.documents import read_board, read_identity, read_metrics
from evaluator.jobs.partial import CRC, _with_crc32, read_lines
from evaluator.jobs.submission import ImageList
from evaluator.metrics.checks import read_results, require_fit
from evaluator.metrics.figures import FIGURES
from evaluator.predict.previous import read_previous
from evaluator.report.evaluations import common_max_images, read_evaluation, skeleton_of
from pipeline.build.claim import read_plan, require_same_plan
from pipeline.build.growth import unfinished_growth
from pipeline.cli import flatten, parse
from pipeline.commands.info import _settings
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.combined import Source, read_sources
from pipeline.errors import UserError
from pipeline.records import contents, rules
from pipeline.records import manifest as manifests
from pipeline.records.codec import DamagedRow
from pipeline.records.manifest import SHARD_ROWS
from pipeline.records.reader import ShardReader, read_skipped
from pipeline.skeletons import COCO18, read_skeleton
from pipeline.storage.documents import read_json
from trainer.commands.info import describe
from trainer.config import TrainConfig
from trainer.distributed.hosts import STATUS, Hosts, host_folder
from trainer.distributed.rank_table import RankTable, read_rank_table
from trainer.run import checkpoint
from trainer.run.curves import read_curves
from trainer.run.log import cut_log, log_faults, read_log
from trainer.run.validations import Validation, best_of, logged

UNKNOWN = "more"  # a key that no document has
MAX_MESSAGE, MAX_S = 3_000, 6.0
EVIL = "\x1b]0;title\x07\n\u202e\t|<b>"


@dataclass(frozen=True, kw_only=True)
class Reader:
    """document: a valid one, as plain values. write: writes it into a folder. read: reads it there, as a command does. keeps: whether
    what was read means the same as the document. names_fields: whether a wrong value is found where it is, not by its effects."""

    document: Any
    write: Callable[[Path, Any], Path]
    read: Callable[[Path], Any]
    keeps: Callable[[Any, Any], bool]
    names_fields: bool = True


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document; of long lists, of the first values."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    for key, inner in items:
        found += _places(inner, (*path, key))
    return found


def _nested(depth: int, kind: str) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


VALUES = [
    None, True, False, -1, 0, 1, 7, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**40, 1e-320, 0.5, -0.5, 1e38, 1e308, -1e308, float("nan"),
    float("inf"), "", "x", "0", "-1", EVIL, "\0", "../../x", "/etc/passwd", "--help", "a" * 20_000, [], {}, [[]], [None], [1, "x"], {"a": 1},
    {"": None}, {EVIL: EVIL}, _nested(100, "list"), _nested(100, "dict"), _nested(900, "list"), [0] * 20_000, ["x"] * 3_000,
]  # fmt: skip
ANYTHING = st.sampled_from(VALUES).map(copy.deepcopy) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@dataclass(frozen=True, kw_only=True)
class Damaged:
    """A damaged document. names: the key of the value that was replaced, and those in it; empty for other changes."""

    document: Any
    names: tuple[str, ...] = ()


def names_of(path: tuple[Any, ...], value: Any) -> tuple[str, ...]:
    """Return the key of a value at this path of a document, and the keys in the value, one of which a message about it names."""
    names = [key for key in path if isinstance(key, str)][-1:]
    return (*names, *(value if isinstance(value, dict) else ())) if names else ()


@st.composite
def damaged(draw: st.DrawFn, document: Any) -> Damaged:
    """Return a copy of a document with one or two changes: any value at any place, a key or an entry less, more or twice."""
    document, names = copy.deepcopy(document), ()
    num_changes = draw(st.integers(1, 2))
    for _ in range(num_changes):
        if not (path := draw(st.sampled_from(_places(document)))):
            return Damaged(document=draw(ANYTHING))
        parent, last = document, path[-1]
        for key in path[:-1]:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "replace", "replace", "delete", "add", "swap"]))
        if action == "replace":
            names = names_of(path, parent[last]) if num_changes == 1 else ()
            parent[last] = draw(ANYTHING)
        elif action == "delete":
            del parent[last]
        elif isinstance(parent, dict):
            parent[UNKNOWN if action == "add" else draw(st.sampled_from(sorted(parent, key=str)))] = draw(ANYTHING)
        else:
            parent.insert(0, copy.deepcopy(parent[last]) if action == "add" else draw(ANYTHING))
    return Damaged(document=document, names=names)


def _names_field(message: str, names: tuple[str, ...]) -> bool:
    """Whether a message names one of these fields, as such or in words, or the line of a text that cannot be parsed, or says that a
    value occurs twice or that the file is too large."""
    words = [name.replace("_", " ").removesuffix(" id").removesuffix("s") for name in names]
    said = message.replace("_", " ")
    is_line = re.search(r"\bline \d", said) is not None
    return not names or is_line or any(word in said for word in (*words, "duplicate", "occurs twice", "bytes, at most"))


def check(reader: Reader, folder: Path, damaged: Damaged) -> str:
    """Read a damaged document. Return "" if it was accepted with its meaning kept, and the message if it was refused, naming file and
    field; fail for everything else."""
    try:
        path = reader.write(folder, damaged.document)
    except (ValueError, RecursionError, yaml.YAMLError, OverflowError):  # cannot be written, such as lone surrogates
        return ""
    started_s = time.process_time()
    try:
        value = reader.read(path)
        message = ""
        assert reader.keeps(value, damaged.document), "read as something else"
    except UserError as error:
        message = str(error)
        assert str(path) in message or str(path.parent) in message, f"does not name the file: {message}"
        said = message.replace(str(path), "").replace(str(path.parent), "")
        assert not reader.names_fields or _names_field(said, damaged.names), f"does not name {damaged.names}: {message}"
        assert len(message) < MAX_MESSAGE, f"{len(message)} characters: {message[:200]}"
    assert time.process_time() - started_s < MAX_S
    return message


# ---- the documents


def _json(name: str) -> Callable[[Path, Any], Path]:
    def write(folder: Path, document: Any) -> Path:
        (folder / name).write_text(json.dumps(document))
        return folder / name

    return write


def _yaml(name: str) -> Callable[[Path, Any], Path]:
    def write(folder: Path, document: Any) -> Path:
        (folder / name).write_text(yaml.safe_dump(document, sort_keys=False))
        return folder / name

    return write


def _write_checkpoint(folder: Path, document: Any) -> Path:
    """Write a checkpoint whose checksum is right."""
    path, text, tensors = folder / "step-00000007.safetensors", json.dumps(document), small_tensors()
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    crc32 = str(checkpoint._crc32(text, arrays))
    save_file(arrays, path, {"format": checkpoint.FORMAT, "version": "2", "info": text, "crc32": crc32})
    return path


def _read_checkpoint(path: Path) -> Any:
    info, tensors = checkpoint.read_checkpoint(path)
    assert len("\n".join(describe(path, info, tensors, None))) < 1_000_000
    return asdict(info)


def _write_manifest(folder: Path, document: Any) -> Path:
    """Write a manifest whose checksum is right."""
    if isinstance(document, dict):
        document = {**document, "checksum": manifests._checksum(json.loads(json.dumps(document)))}
    return _json(manifests.MANIFEST)(folder, document)


def _read_manifest(path: Path) -> Any:
    manifest = manifests.read_manifest(path.parent)
    rules.count_lines(manifest)
    _settings(manifest)
    contents.check_files(path.parent, manifest, hashes=False)
    return json.loads(manifest.to_json())


def _read_config(path: Path) -> Any:
    """As `train --config` does: its errors exit with 2."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            return flatten(parse(TrainConfig, ["--config", str(path)], prog="train"))
        except SystemExit as stop:
            assert stop.code == 2 and "Traceback" not in said.getvalue()
            # What the option class itself refuses may come from the command line too: it names the option, not the file.
            raise UserError(f"{path}: {said.getvalue()}") from stop


def _read_calibration(path: Path) -> Any:
    return json.loads(json.dumps(asdict(read_calibration(read_json(path, "calibration", dict[str, Any]), str(path)))))


def _write_log(folder: Path, document: Any) -> Path:
    (folder / "log.jsonl").write_text(f"{json.dumps(document)}\n")
    return folder / "log.jsonl"


def _read_log(path: Path) -> Any:
    """A run resumes with any log; the curves need an entry."""
    entries, faults = read_log(path.parent), log_faults(path.parent)
    best_of(logged(entries, 2))
    try:
        read_curves(path.parent)
    finally:
        assert cut_log(path.parent, 10**6) == faults
    if faults:
        raise UserError(faults[0])
    return entries


def _write_people(folder: Path, document: Any) -> Path:
    """Write a line whose CRC32 is right."""
    (folder / "people.jsonl").write_bytes(_with_crc32(json.dumps(document).encode()))
    return folder / "people.jsonl"


def _read_people(path: Path) -> Any:
    lines = read_lines(path, num_joints=2)
    if lines.faults:
        raise UserError(lines.faults[0])
    return json.loads(lines.good[0].rpartition(CRC)[0] + b"}")


def _write_settings(folder: Path, document: Any) -> Path:
    (folder / "metrics.json").write_text('{"figures": {}}')
    (folder / "results.json").write_text("[]")
    return _yaml("config.yaml")(folder, document)


def _read_plan(path: Path) -> Any:
    class Complete:
        num_variants = 1

    unfinished_growth(path.parent.parent, Complete())  # type: ignore[arg-type]
    plan = read_plan(path.parent)
    require_same_plan(PLAN, plan, path.parent)
    return plan


def _write_plan(folder: Path, document: Any) -> Path:
    (folder / "growing").mkdir(exist_ok=True)
    return _json("build.json")(folder / "growing", document)


def _write_status(folder: Path, document: Any) -> Path:
    place = host_folder(folder, 1)
    place.mkdir(exist_ok=True)
    return _json(STATUS)(place, document)


def _read_status(path: Path) -> None:
    """Another host's file with anything in it counts as silence."""
    hosts = Hosts(path.parent.parent, nodes=2, node_rank=0, timeout_s=1)
    hosts._last[1], hosts._changed_s[1] = hosts._read(path), 0.0
    assert hosts.problem().isprintable()


def _read_report(path: Path) -> Any:
    evaluated = read_evaluation(path.parent)
    try:
        skeleton_of(evaluated)
    except UserError as error:  # may name the checkpoint or skeleton file that the settings name
        raise UserError(f"{path}: {error}") from error
    common_max_images([evaluated])
    return evaluated.settings


def _write_header(shard: Path) -> Callable[[Path, Any], Path]:
    """Return a function that writes a copy of a shard with another header. One that is too long overwrites the first rows."""
    data = shard.read_bytes()

    def write(folder: Path, document: Any) -> Path:
        text = json.dumps(document).encode()
        shutil.copyfile(f"{shard}.db", folder / f"{shard.name}.db")
        (folder / shard.name).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + len(text) :])
        return folder / shard.name

    return write


def _read_header(path: Path) -> None:
    """Any row may be damaged, but is then named."""
    try:
        with contextlib.closing(ShardReader(path.parent)) as reader:
            for number in range(len(reader)):
                reader.read(number)
    except DamagedRow as error:
        raise UserError(f"{path}: {error}") from error


def _write_skipped(folder: Path, document: Any) -> Path:
    schema = pa.schema([("image_id", pa.int64())], metadata={"skipped": json.dumps(document)})
    pq.write_table(schema.empty_table(), folder / SHARD_ROWS)
    return folder / SHARD_ROWS


def same(value: Any, document: Any) -> bool:
    """Whether plain values are equal and of the same kind: 1 is neither true nor "1"."""
    return json.dumps(value, sort_keys=True) == json.dumps(document, sort_keys=True)


def contains(value: Any, document: Any) -> bool:
    """Whether a value has all entries of a document, apart from the type of numbers; it may have more, such as defaults."""
    if isinstance(document, dict):
        known = {key: inner for key, inner in document.items() if key != UNKNOWN}
        return isinstance(value, dict) and all(key in value and contains(value[key], inner) for key, inner in known.items())
    if isinstance(document, list):
        return len(value) == len(document) and all(map(contains, value, document))
    if isinstance(document, float) or isinstance(value, float):
        return not isinstance(document, bool) and (float(value) == float(document) or value != value)
    return bool(value == document) and isinstance(value, bool) == isinstance(document, bool)


COCO = {
    "info": {"description": "people", "version": 1},
    "licenses": [{"id": 1, "name": "CC", "url": "http://x"}],
    "categories": [{"id": 1, "name": "person", "keypoints": list(COCO18.source_joints)}],
    "images": [{"id": n, "file_name": f"{n}.jpg", "width": 64, "height": 48, "license": 1, "crowdIndex": 0.5} for n in (1, 2)],
    "annotations": [
        {
            "id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "area": 900.0, "bbox": [1, 2, 30, 30.5],
            "keypoints": [5, 6, 2] * 17, "segmentation": segmentation, "head_box": [5, 6, 7, 8.5], "num_keypoints": 17,
        }
        for n, segmentation in ((1, [[1, 1, 9, 1, 9, 9]]), (2, {"size": [48, 64], "counts": [64 * 48]}))
    ],
}  # fmt: skip
PLAN = {
    "builder_version": "1", "schema_version": 2, "config": {"variants": 2, "seed": 0}, "skeleton": COCO18.to_dict(),
    "sources": {"annotations": {"name": "a.json"}},
}  # fmt: skip
SHA = "0" * 64
IDENTITY = {
    "annotations": SHA, "max_images": None, "skeleton": COCO18.to_dict(), "results_version": 3, "shard": [1, 2], "insize": 64, "calibration": {}, "precision": "O0",
    "people": {"bytes": 3, "sha256": SHA},
}  # fmt: skip
METRICS = {
    "figures": dict.fromkeys(FIGURES, 0.5), "num_images": 3, "num_images_in_file": 3, "unreadable_images": {"a.jpg": "empty"},
    "speed": {"network_s": 1.5}, "others": {"pck": {"about": "x", "figures": {"PCK": 0.5}, "joints": {"PCK": {"nose": 1.0}}, "counts": {"people": 3}}},
    "settings": {"images": "photos", "pictures": 2, "draw_min_score": 0.1, "seed": 1},
}  # fmt: skip
CALIBRATION = {
    "knots": [[0.0, 0.1], [2.5, 0.5], [9.0, 0.9]], "settings": {"scales": [1.0], "mirror": False}, "annotations": SHA, "checkpoint": SHA,
    "num_images": 3, "num_people": 9, "num_right": 4, "ece_before": 0.2, "ece_after": 0.1,
}  # fmt: skip
BOARD = {
    "run": "run", "metric": "AP", "best": 5, "settings": {"insize": 64},
    "checkpoints": [{"step": 5, "epoch": 1, "sha256": SHA, "out": "step-5", "figures": {"AP": 0.5}}, {"step": 6, "epoch": 1, "sha256": SHA, "failed": "x"}],
}  # fmt: skip
ENTRY = {
    "epoch": 0, "step": 2, "loss": 1.5, "imgs_per_sec": 4.0, "data_wait": 0.1, "vgglr": 0.0, "baselr": 1e-4, "stagelr": 1e-4,
    "eta_s": 3.0, "gradient_norm": None, "skipped": 0, "stage_losses": [[0.5, None], [0.5, 0.5]], "time": "now",
}  # fmt: skip
VALIDATION = Validation(step=2, figures={"AP": 0.25, "AP .5": 0.5}, data="0a1b")
VALIDATED = {
    "epoch": 0, "step": 2, "validation": {"AP": 0.25, "AP .5": 0.5, "AP (M)": -1.0}, "validation_data": "0a1b", "time": "now",
}  # fmt: skip
SIZE = ("id", "file_name", "width", "height")
SKIPPED = [{"image_id": 3, "file_name": "3.jpg", "reason": "truncated"}]
RANKS = {
    "version": "1.0",
    "server_list": [{"server_id": "a", "device": [{"rank_id": "0", "device_id": "4"}, {"rank_id": 1, "device_id": 5}]}],
}
RESULTS = [
    {
        "image_id": 1,
        "category_id": 1,
        "keypoints": [1.0, 2.0, 1] * 17,
        "score": score,
        "bbox": [1, 2, 3, 4.5],
        "confidences": [0.5] * 17,
    }
    for score in (0.5, 0.25)
]
CONFIG = {
    "preset": "small", "records": "r", "out": "o", "lr": 0.1, "lr_steps": [5, 6], "batch_size": 4, "resume": True, "vgg_path": None,
    "num_stages": 3, "backbone_channels": [4] * 10,
}  # fmt: skip
HOST = {"state": "running", "message": "", "token": "ab", "count": 3}
PEOPLE = {"image_id": 4, "scores": [0.5], "keypoints": [[[1.0, 2.0, 0.5], [3.0, 4.0, 0.5]]]}
SOURCES = {
    "sources": [
        {"name": "coco", "annotations": "a.json", "images": "a"},
        {
            "name": "sport",
            "annotations": "b.json",
            "images": "b",
            "skeleton": "mpii16",
            "joints": {"upper_neck": "neck"},
            "weight": 0.5,
        },
    ]
}
FOUND = [{"id": 1, "file_name": "a.jpg", "drawing": "a.jpg"}, {"id": 2, "file_name": "b.mp4", "drawing": "b.mp4", "frame": 0}]
EXPORTED = {
    "stride_px": 8, "insize": 64, "decoding": asdict(DecodeConfig()), "input": {"shape": [None, None, None, 3]},
    "checkpoint": {"step": 7, "epoch": 0}, "calibration": {},
}  # fmt: skip


def _keeps_images(file: CocoFile, document: Any) -> bool:
    images = {image.id: image for image in file.images}
    return all(contains(asdict(images[entry["id"]]), {key: entry[key] for key in SIZE}) for entry in document["images"])


def _keeps_options(value: dict[str, Any], document: Any) -> bool:
    found = {key: value[key.replace("-", "_")] for key in document}
    return all(contains(found[key], inner) or found[key] == str(inner) for key, inner in document.items())


def _keeps_devices(table: RankTable, document: Any) -> bool:
    return list(map(len, table.devices)) == [len(server["device"]) for server in document["server_list"]]


def _keeps_sources(sources: list[Source], document: Any) -> bool:
    return [(source.name, source.weight) for source in sources] == [
        (entry["name"], entry.get("weight", 1.0)) for entry in document["sources"]
    ]


def _read_results_of(coco: CocoFile) -> Callable[[Path], Any]:
    """Return a function that reads results and compares them with an annotation file."""

    def read(path: Path) -> Any:
        results = read_results(path)
        try:
            require_fit(coco, results, COCO18)
        except UserError as error:  # compares files; names that of the annotations
            raise UserError(f"{path}: {error}") from error
        return results

    return read


def _write_previous(folder: Path, document: Any) -> Path:
    """Write images.json of a finished output of `predict`, beside results.json."""
    (folder / "results.json").write_text(json.dumps([{"image_id": 1, "score": 0.5}]))
    return _json("images.json")(folder, document)


def _write_exported(network: bytes) -> Callable[[Path, Any], Path]:
    """Return a function that writes a copy of an exported network with other metadata."""

    def write(folder: Path, document: Any) -> Path:
        import onnx

        model = onnx.load_from_string(network)
        texts = {"format": exported.FORMAT, "version": str(exported.FORMAT_VERSION)}
        texts |= {str(name): json.dumps(value) for name, value in document.items()} if isinstance(document, dict) else {}
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, folder / "network.onnx")
        return folder / "network.onnx"

    return write


def _read_exported(path: Path) -> Any:
    network = exported.ExportedNetwork(path)
    return {"stride_px": network.stride_px, "insize": network.insize, "skeleton": _plain(network.skeleton.to_dict())}


def _plain(document: Any) -> Any:
    return json.loads(json.dumps(document))


def readers(folder: Path, records: Path | None = None) -> dict[str, Reader]:
    """Return every reader by name. records: a record set, whose manifest is damaged."""
    annotations = _json("annotations.json")(folder, COCO)
    skeleton = _plain(COCO18.to_dict())
    network = write_network(folder / "network.onnx").read_bytes()
    rows = (
        ("checkpoint", _plain(asdict(make_info(validations=(VALIDATION,)))), _write_checkpoint, _read_checkpoint, contains),
        ("skeleton", skeleton, _yaml("skeleton.yaml"), lambda path: _plain(read_skeleton(path).to_dict()), contains),
        ("sources", SOURCES, _yaml("sources.yaml"), lambda path: read_sources(path, None)[1], _keeps_sources),
        ("config", CONFIG, _yaml("train.yaml"), _read_config, _keeps_options),
        ("annotations", COCO, _json("a.json"), lambda path: CocoFile(path, COCO18), _keeps_images),
        ("image list", {"images": COCO["images"]}, _json("i.json"), lambda path: ImageList(path, None, COCO18), _keeps_images),
        ("results", RESULTS, _json("results.json"), _read_results_of(CocoFile(annotations, COCO18)), contains),
        ("evaluation", IDENTITY, _json("evaluation.json"), lambda path: read_identity(path, "evaluation"), same),
        ("metrics", METRICS, _json("metrics.json"), lambda p: read_metrics(p, ("settings", "unreadable_images"), FIGURES), same),
        ("calibration", CALIBRATION, _json("calibration.json"), _read_calibration, contains),
        ("leaderboard", BOARD, _json("leaderboard.json"), read_board, same),
        ("prediction", FOUND, _write_previous, lambda path: read_previous(path.parent).images, same),
        ("settings", {"checkpoint": "gone", "skeleton": None}, _write_settings, _read_report, same),
        ("people", PEOPLE, _write_people, _read_people, same),
        ("log", ENTRY, _write_log, _read_log, lambda entries, document: same(entries, [document])),
        ("log of validations", VALIDATED, _write_log, _read_log, lambda entries, document: same(entries, [document])),
        ("rank table", RANKS, _json("ranks.json"), read_rank_table, _keeps_devices),
        ("build plan", _plain(PLAN), _write_plan, _read_plan, same),
        ("host status", HOST, _write_status, _read_status, lambda *_: True),
        ("skipped images", SKIPPED, _write_skipped, lambda path: read_skipped(pq.read_schema(path), str(path)), contains),
        ("exported network", {**EXPORTED, "skeleton": skeleton}, _write_exported(network), _read_exported, _keeps_metadata),
    )
    found = {name: Reader(document=d, write=w, read=r, keeps=k) for name, d, w, r, k in rows}
    return found | (_record_readers(records) if records is not None else {})


def _keeps_metadata(value: Any, document: Any) -> bool:
    return contains(value, {name: document[name] for name in value})


def _record_readers(records: Path) -> dict[str, Reader]:
    """Return the readers of the documents of a record set."""
    manifest = json.loads((records / manifests.MANIFEST).read_text())
    del manifest["checksum"]
    shard = next((records / manifests.SHARDS).iterdir()) / manifests.SHARD_FILE
    (length,) = struct.unpack_from("<Q", data := shard.read_bytes())
    header = json.loads(data[8 : 8 + length])
    return {
        "manifest": Reader(document=manifest, write=_write_manifest, read=_read_manifest, keeps=contains),
        "shard header": Reader(
            document=header, write=_write_header(shard), read=_read_header, keeps=lambda *_: True, names_fields=False
        ),
    }
