"""The Croissant 1.1 description of a record set (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html)."""

import hashlib
import re
from typing import Any

import pyarrow as pa

from data_cards.sources import SourceCard
from pipeline.build.worker import SAMPLES_SCHEMA
from pipeline.records.codec import COLUMNS
from pipeline.records.manifest import MANIFEST, SAMPLES, SHARD_FILE, SHARD_ROWS, SHARDS, Manifest
from pipeline.version import PACKAGE

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
# The specification requires a date of publication; this one is used if the source has none. Today's date would make cards of equal record
# sets differ.
UNKNOWN_DATE = "1970-01-01"
METHOD = "Cao et al., Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields, CVPR 2017, arXiv:1611.08050"
# From appendix 1 of the specification; mlcroissant 1.1 expects exactly this.
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/", "description": {"@container": "@language"}, "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileObject": "cr:fileObject", "fileProperty": "cr:fileProperty", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isArray": "cr:isArray", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath",
    "key": "cr:key", "md5": "cr:md5", "name": {"@container": "@language"}, "parentField": "cr:parentField", "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/", "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex",
    "repeated": "cr:repeated", "replace": "cr:replace", "samplingRate": "cr:samplingRate", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
FORMATS = {
    SHARD_FILE: "https://www.mindspore.cn/docs/en/r2.7.0/api_python/mindspore.mindrecord.html",
    f"{SHARD_FILE}.db": "application/vnd.sqlite3",
    SHARD_ROWS: "application/x-parquet",
    SAMPLES: "application/x-parquet",
    MANIFEST: "application/json",
}
# Columns of samples.parquet and their descriptions.
SAMPLE_FIELDS = {
    "image_id": "Id of the image in the annotation file.",
    "variant": "Number of the augmented variant, from 0.",
    "file_name": "File name of the original image.",
    "shard": "Folder name of the shard that contains the row.",
    "row": "Number of the row in its shard, from 0.",
    "license": "Id of the image license in the annotation file; 0 if it has none.",
    "people": "Number of target people, P.",
    "affine": "2 x 3 matrix from original pixels to crop pixels, row by row.",
    "mirrored": "Whether the crop is mirrored.",
    "bytes": "Size of the row in bytes.",
    "crc32": "CRC32 of the row.",
    "width": "Width of the original image in pixels.",
    "height": "Height of the original image in pixels.",
    "pixels": "First 16 bytes of the SHA-256 of the shape and every fourth pixel row of the original image.",
    "boxes": "Box around the labeled keypoints of each person: minimum x, y, maximum x, y in original pixels.",
    "person_joints": "Number of labeled keypoints of each person.",
    "labeled": "Number of people with this keypoint labeled, in the order of the skeleton.",
    "visible": "Number of people with this keypoint labeled as visible.",
    "person_joints_inside": "Number of labeled keypoints of each person inside the crop.",
    "cut": "Number of people with this keypoint labeled, but outside the crop. Left and right are those of the original image.",
    "masked": "Fraction of the cells that the ignore mask covers.",
}
ROW_TYPES = {"bytes": "sc:Text", "int64": "sc:Integer", "int32": "sc:Integer"}


def describe(
    manifest: Manifest, source: SourceCard | None, *, name: str, description: str, licenses: list[str]
) -> dict[str, Any]:
    """Return the Croissant document. licenses: URLs, or names of licenses without a URL."""
    info = manifest.sources["annotations"].get("info", {})
    front = source.front if source else {}
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "dct:conformsTo": CONFORMS_TO,
        "name": name,
        "description": description,
        "license": licenses,
        "url": front.get("url") or info.get("url") or f"urn:sha256:{manifest.digest}",
        "creator": {"@type": "sc:Organization", "name": front.get("creator") or info.get("contributor") or PACKAGE},
        "datePublished": front.get("published") or _date(info),
        "citeAs": _bibtex(source) or METHOD,
        "version": f"{manifest.schema_version}.0.0",
        "keywords": ["human pose estimation", "part affinity fields", "OpenPose", manifest.format.skeleton.name],
        "isLiveDataset": False,
        "distribution": _distribution(manifest),
        "recordSet": [_samples(), _rows(manifest)],
    }


def _distribution(manifest: Manifest) -> list[dict[str, Any]]:
    text = manifest.to_json().encode()
    files = {
        MANIFEST: {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()},
        SAMPLES: manifest.samples_file,
        **{f"{SHARDS}/{shard.name}/{file}": facts for shard in manifest.shards for file, facts in shard.files.items()},
    }
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "contentSize": f"{facts['bytes']} B",
            "encodingFormat": FORMATS.get(path.rsplit("/", 1)[-1], "application/octet-stream"),
            "sha256": facts["sha256"],
        }
        for path, facts in files.items()
    ]
    shards = {
        "@type": "cr:FileSet",
        "@id": "mindrecord-files",
        "name": "mindrecord-files",
        "description": "The MindRecord file of every shard. The index of a file has the same name with the suffix .db.",
        "encodingFormat": FORMATS[SHARD_FILE],
        "includes": f"{SHARDS}/*/{SHARD_FILE}",
    }
    return [*objects, shards]


def _samples() -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"samples/{name}",
            "name": name,
            "description": description,
            "dataType": _data_type(item_type(name)),
            **({"isArray": True, "arrayShape": "-1"} if is_list(name) else {}),
            "source": {"fileObject": {"@id": SAMPLES}, "extract": {"column": name}},
        }
        for name, description in SAMPLE_FIELDS.items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One row per sample, in the order of the record set: image, crop and statistics.",
        "key": [{"@id": "samples/image_id"}, {"@id": "samples/variant"}],
        "field": fields,
    }


def is_list(column: str) -> bool:
    """Whether a column of samples.parquet contains lists."""
    kind = SAMPLES_SCHEMA.field(column).type
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)


def item_type(column: str) -> pa.DataType:
    """Return the type of a column of samples.parquet, or of its items if it contains lists."""
    kind = SAMPLES_SCHEMA.field(column).type
    return kind.value_type if is_list(column) else kind


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


def row_fields(manifest: Manifest) -> dict[str, str]:
    """Return the description of every column of a MindRecord row."""
    row_format = manifest.format
    height, width = row_format.targets.grid_hw
    side, skeleton = row_format.targets.insize, row_format.skeleton
    image = f"JPEG of quality {row_format.jpeg_quality}" if row_format.image_codec == "jpeg" else "raw pixels, uint8"
    return {
        "image": f"The crop, RGB, {side} x {side} pixels: {image}.",
        "targets": f"uint8 heatmaps ({skeleton.num_heatmaps}, {height}, {width}), background last, 255 = 1; then int8 PAFs "
        f"({skeleton.num_pafs}, {height}, {width}), x and y of each limb, 127 = 1. Compressed with zstd.",
        "mask": f"Packed bits of the ignore mask ({height}, {width}): 1 = excluded from the loss.",
        "keypoints": f"uint32 P and J, then float32 (P, {skeleton.num_joints}, 3): x and y in crop pixels, visibility v (0, 1, 2).",
        "image_id": "Id of the image in the annotation file.",
        "variant": "Number of the augmented variant.",
        "license": "Id of the image license in the annotation file.",
        "crc32": "CRC32 of the other columns.",
    }


def _rows(manifest: Manifest) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"rows/{name}",
            "name": name,
            "description": description,
            "dataType": ROW_TYPES[COLUMNS[name]],
            "source": {"fileSet": {"@id": "mindrecord-files"}, "extract": {"column": name}},
        }
        for name, description in row_fields(manifest).items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "rows",
        "name": "rows",
        "description": "The training samples. Read MindRecord files with MindSpore or pipeline.records.reader; Croissant loaders cannot read them.",
        "key": [{"@id": "rows/image_id"}, {"@id": "rows/variant"}],
        "field": fields,
    }


def _bibtex(source: SourceCard | None) -> str:
    """Return the first BibTeX entry of a source card, or an empty string."""
    found = re.search(r"```bibtex\n(.*?)\n```", source.sections.get("Citation", "") if source else "", re.DOTALL)
    return found.group(1) if found else ""


def _date(info: dict[str, str]) -> str:
    """Return the date of an annotation file as YYYY-MM-DD."""
    written = re.match(r"(\d{4})[-/](\d\d)[-/](\d\d)", info.get("date_created", ""))
    if written:
        return "-".join(written.groups())
    return f"{info['year']}-01-01" if re.fullmatch(r"\d{4}", info.get("year", "")) else UNKNOWN_DATE
