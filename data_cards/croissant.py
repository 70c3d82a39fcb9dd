"""The Croissant 1.1 description of a record set (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html), and its check."""

import hashlib
import re
from collections import Counter
from typing import Any

from data_cards.sources import SourceCard
from pipeline.records.codec import COLUMNS
from pipeline.records.manifest import MANIFEST, SAMPLES, SHARD_FILE, SHARD_ROWS, SHARDS, Manifest

CONFORMS_TO = "http://mlcommons.org/croissant/1.1"
PROJECT = "openpose-mindspore"
# The specification wants a date of publication; that of a source which does not say when it was made. Never today's: the
# same content has the same card.
UNKNOWN_DATE = "1970-01-01"
METHOD = "Cao et al., Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields, CVPR 2017, arXiv:1611.08050"
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
# Appendix 1 of the specification, as mlcroissant 1.1 expects it.
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
# Column of samples.parquet -> Croissant type, whether it is a list, what it is.
SAMPLE_FIELDS = {
    "image_id": ("sc:Integer", False, "Id of the image in the annotation file."),
    "variant": ("sc:Integer", False, "Number of the augmented variant, from 0."),
    "file_name": ("sc:Text", False, "File of the original image."),
    "shard": ("sc:Text", False, "Folder of the shard that holds the row."),
    "row": ("sc:Integer", False, "Number of the row in its shard."),
    "license": ("sc:Integer", False, "Id of the image's license in the annotation file, 0 where it has none."),
    "people": ("sc:Integer", False, "Target people, P."),
    "affine": ("sc:Float", True, "Rows of the 2 x 3 matrix, original pixels to crop pixels."),
    "mirrored": ("sc:Boolean", False, "Whether left and right are exchanged."),
    "bytes": ("sc:Integer", False, "Bytes of the row's blocks."),
    "crc32": ("sc:Integer", False, "CRC32 of the row's blocks and ids."),
    "width": ("sc:Integer", False, "Width of the original in pixels."),
    "height": ("sc:Integer", False, "Height of the original in pixels."),
    "pixels": ("sc:Text", False, "First 16 bytes of SHA-256 over the original's shape and every fourth row of its pixels."),
    "boxes": (
        "sc:Float",
        True,
        "Of each person: least x, least y, greatest x, greatest y of the labeled joints, original pixels.",
    ),
    "person_joints": ("sc:Integer", True, "Labeled joints of each person."),
    "labeled": ("sc:Integer", True, "People with this joint labeled, joints in the skeleton's order."),
    "visible": ("sc:Integer", True, "People with this joint labeled as visible."),
    "person_joints_inside": ("sc:Integer", True, "Labeled joints of each person inside the crop."),
    "cut": ("sc:Integer", True, "People whose joint is labeled but outside of the crop, by the original's joint names."),
    "masked": ("sc:Float", False, "Share of the crop's cells in the ignore mask."),
}
ROW_TYPES = {"bytes": "sc:Text", "int64": "sc:Integer", "int32": "sc:Integer"}


def describe(
    manifest: Manifest, source: SourceCard | None, *, name: str, description: str, licenses: list[str]
) -> dict[str, Any]:
    """The whole document. licenses: addresses, or names where there is none."""
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
        "creator": {"@type": "sc:Organization", "name": front.get("creator") or info.get("contributor") or PROJECT},
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
        SAMPLES: manifest.samples,
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
        "description": "The MindRecord file of every shard; its index lies beside it under the same name with .db.",
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
            "description": what,
            "dataType": kind,
            **({"isArray": True, "arrayShape": "-1"} if is_list else {}),
            "source": {"fileObject": {"@id": SAMPLES}, "extract": {"column": name}},
        }
        for name, (kind, is_list, what) in SAMPLE_FIELDS.items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": "One line per sample, in the order of training positions: which image, how it was cut out, what it shows.",
        "key": [{"@id": "samples/image_id"}, {"@id": "samples/variant"}],
        "field": fields,
    }


def row_fields(manifest: Manifest) -> dict[str, str]:
    """Column of a MindRecord row -> what it holds."""
    form = manifest.format
    height, width = form.targets.grid_hw
    side, skeleton = form.targets.insize, form.skeleton
    image = f"JPEG of quality {form.jpeg_quality}" if form.image_codec == "jpeg" else "raw pixels, uint8"
    return {
        "image": f"The crop, RGB, {side} x {side}: {image}.",
        "targets": f"zstd of uint8 heatmaps ({skeleton.num_heatmaps}, {height}, {width}), the background last, then int8 PAFs "
        f"({skeleton.num_pafs}, {height}, {width}), x and y of each limb; 255 and 127 stand for 1.",
        "mask": f"Packed bits of the ignore mask ({height}, {width}): 1 = does not count in the loss.",
        "keypoints": f"uint32 P and J, then float32 (P, {skeleton.num_joints}, 3): x and y in pixels of the crop, v (0, 1, 2).",
        "image_id": "Id of the image in the annotation file.",
        "variant": "Number of the augmented variant.",
        "license": "Id of the image's license in the annotation file.",
        "crc32": "CRC32 of the blocks and ids.",
    }


def _rows(manifest: Manifest) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"rows/{name}",
            "name": name,
            "description": what,
            "dataType": ROW_TYPES[COLUMNS[name]],
            "source": {"fileSet": {"@id": "mindrecord-files"}, "extract": {"column": name}},
        }
        for name, what in row_fields(manifest).items()
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "rows",
        "name": "rows",
        "description": "The training samples. MindRecord is read by MindSpore or pipeline.records.reader, not by Croissant's own loaders.",
        "key": [{"@id": "rows/image_id"}, {"@id": "rows/variant"}],
        "field": fields,
    }


def problems(document: dict[str, Any]) -> list[str]:
    """What Croissant 1.1 requires and this document lacks, one line each. Stricter than mlcroissant, which only warns."""
    found = [f"{name}: required, missing or empty" for name in REQUIRED if not document.get(name)]
    if document.get("dct:conformsTo") != CONFORMS_TO:
        found.append(f"dct:conformsTo: must be {CONFORMS_TO}")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(document.get("datePublished"))):
        found.append(f"datePublished: must be a date, got {document.get('datePublished')}")
    parts = document.get("distribution", [])
    sets = document.get("recordSet", [])
    ids = Counter(node.get("@id") for node in (*parts, *sets, *(field for record in sets for field in record["field"])))
    found += [f"@id {id}: must be there once" for id, times in ids.items() if times > 1]
    for part in parts:
        needs = ("@id", "name", "encodingFormat", "contentUrl", "contentSize", "sha256")
        for need in needs if part.get("@type") == "cr:FileObject" else ("@id", "encodingFormat", "includes"):
            if not part.get(need):
                found.append(f"{part.get('@id')}: {need}: required, missing or empty")
    for record in sets:
        for field in record["field"]:
            source = field.get("source", {})
            if not field.get("dataType") or (source.get("fileObject") or source.get("fileSet") or {}).get("@id") not in ids:
                found.append(f"{field.get('@id')}: needs a dataType and a source that the distribution has")
    return found


def _bibtex(source: SourceCard | None) -> str:
    """The first BibTeX entry of a source card's citation; nothing if there is none."""
    found = re.search(r"```bibtex\n(.*?)\n```", source.sections.get("Citation", "") if source else "", re.DOTALL)
    return found.group(1) if found else ""


def _date(info: dict[str, str]) -> str:
    written = re.match(r"(\d{4})[-/](\d\d)[-/](\d\d)", info.get("date_created", ""))
    if written:
        return "-".join(written.groups())
    return f"{info['year']}-01-01" if re.fullmatch(r"\d{4}", info.get("year", "")) else UNKNOWN_DATE
