"""What a record set is: the row schema, one row's encoding and decoding, the manifest. Loads no mindspore.

A row is a dict of columns (`COLUMNS`). MindRecord has no uint8, int8 or bool arrays, so those columns are bytes:
  image      JPEG, or S * S * 3 raw bytes, RGB
  targets    zstd of uint8 heatmaps (J + 1, h, w), then int8 PAFs (2 L, h, w)
  mask       packed bits of the ignore mask (h, w), 1 = ignored
  keypoints  little-endian uint32 P and J, then float32 (P, J, 3); never empty, also without people
  crc32      of the four blocks above and the three ids: MindRecord itself has no checksum
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa

from pipeline.augment import Crop
from pipeline.cli import UserError, read_json
from pipeline.skeleton import Skeleton
from pipeline.targets import (
    TargetConfig,
    dequantise_heatmaps,
    dequantise_pafs,
    quantise_heatmaps,
    quantise_pafs,
    render_heatmaps,
    render_pafs,
    shown_cells,
)

SCHEMA_VERSION = 1
COLUMNS = {
    "image": "bytes",
    "targets": "bytes",
    "mask": "bytes",
    "keypoints": "bytes",
    "image_id": "int64",
    "variant": "int32",
    "licence": "int32",
    "crc32": "int64",
}
MANIFEST = "manifest.json"
CARD = "CARD.md"
SAMPLES = "samples.parquet"
SHARDS = "shards"
SHARD_FILE = "part.mindrecord"
SHARD_ROWS = "rows.parquet"

Row = dict[str, Any]


class DamagedRow(ValueError):
    """A row that does not decode to what was encoded."""


@dataclass(frozen=True, kw_only=True)
class RecordFormat:
    """Everything that encoding and decoding a row needs to know; part of the manifest."""

    skeleton: Skeleton
    targets: TargetConfig
    image_codec: Literal["jpeg", "raw"] = "jpeg"
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        if self.image_codec not in ("jpeg", "raw"):
            raise ValueError(f"image_codec must be jpeg or raw, got {self.image_codec!r}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be from 1 to 100, got {self.jpeg_quality}")

    @property
    def page_bytes(self) -> int:
        """Page size of the MindRecord files: a power of two in which every row fits, raw ones several times.

        Rows do not go over the end of a page, and a file ends with a whole one: large pages waste space in small files.
        """
        targets = (self.skeleton.num_heatmaps + self.skeleton.num_pafs) * self.targets.grid_hw[0] * self.targets.grid_hw[1]
        largest_row = 3 * self.targets.insize**2 + targets + (1 << 16)
        return 1 << (largest_row * (4 if self.image_codec == "raw" else 1) - 1).bit_length()

    def encode(self, crop: Crop, *, image_id: int, variant: int, licence: int) -> Row:
        """A finished crop -> a row. Renders the targets of its key points.

        A cell that shows a joint or limb of a target is never ignored: else small people beside an unlabelled one, whose mask was
        dilated over them, would not be learnt at all.
        """
        heatmaps, pafs = self.render(crop.keypoints)
        ignore = crop.ignore & ~shown_cells(heatmaps, pafs) if crop.ignore.any() else crop.ignore
        row = {
            "image": self.encode_image(crop.image),
            "targets": self.encode_targets(heatmaps, pafs),
            "mask": np.packbits(ignore).tobytes(),
            "keypoints": struct.pack("<II", *crop.keypoints.shape[:2]) + crop.keypoints.astype("<f4").tobytes(),
            "image_id": int(image_id),
            "variant": int(variant),
            "licence": int(licence),
        }
        return {**row, "crc32": row_crc32(row)}

    def render(self, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 (P, J, 3), crop pixels -> heatmaps uint8 (J + 1, h, w) and PAFs int8 (2 L, h, w), quantised."""
        shape = dict(skeleton=self.skeleton, grid_hw=self.targets.grid_hw, config=self.targets)
        return quantise_heatmaps(render_heatmaps(keypoints, **shape)), quantise_pafs(render_pafs(keypoints, **shape))

    def decode_image(self, block: bytes | np.ndarray) -> np.ndarray:
        """-> uint8 (S, S, 3) RGB. Raises DamagedRow."""
        side = self.targets.insize
        image = np.frombuffer(block, np.uint8)
        if self.image_codec == "jpeg":
            image = cv2.imdecode(image, cv2.IMREAD_COLOR_RGB)
        elif image.size == side * side * 3:
            image = image.reshape(side, side, 3)
        if image is None or image.shape != (side, side, 3):
            raise DamagedRow(f"image is not a {self.image_codec} of {side} x {side} pixels")
        return image

    def decode_targets(self, block: bytes | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """-> heatmaps uint8 (J + 1, h, w) and PAFs int8 (2 L, h, w), still quantised. Raises DamagedRow."""
        cells = self.targets.grid_hw[0] * self.targets.grid_hw[1]
        split, total = self.skeleton.num_heatmaps * cells, (self.skeleton.num_heatmaps + self.skeleton.num_pafs) * cells
        try:
            levels = np.frombuffer(_ZSTD.decompress(np.ascontiguousarray(block), total, asbytes=True), np.uint8)
        except (pa.ArrowException, OSError) as error:
            raise DamagedRow(f"targets do not decompress: {error}") from error
        return (
            levels[:split].reshape(-1, *self.targets.grid_hw),
            levels[split:].view(np.int8).reshape(-1, *self.targets.grid_hw),
        )

    def decode_mask(self, block: bytes | np.ndarray) -> np.ndarray:
        """-> uint8 (h, w), 1 = ignored. Raises DamagedRow."""
        height, width = self.targets.grid_hw
        bits = np.frombuffer(block, np.uint8)
        if bits.size != -(-height * width // 8):
            raise DamagedRow(f"mask has {bits.size} bytes, expected {-(-height * width // 8)}")
        return np.unpackbits(bits, count=height * width).reshape(height, width)

    def decode_keypoints(self, block: bytes | np.ndarray) -> np.ndarray:
        """-> float32 (P, J, 3), pixels of the crop. Raises DamagedRow."""
        block = bytes(block)
        people, joints = struct.unpack_from("<II", block) if len(block) >= 8 else (0, -1)
        if joints != self.skeleton.num_joints or len(block) != 8 + 12 * people * joints:
            raise DamagedRow(f"key points have {len(block)} bytes for {people} people of {joints} joints")
        return np.frombuffer(block, "<f4", offset=8).reshape(people, joints, 3)

    def decode(self, row: Row) -> "Decoded":
        """A whole row, checked against its CRC. Raises DamagedRow."""
        if row_crc32(row) != row["crc32"]:
            raise DamagedRow("CRC32 does not match")
        heatmaps, pafs = self.decode_targets(row["targets"])
        return Decoded(
            image=self.decode_image(row["image"]),
            ignore=self.decode_mask(row["mask"]).astype(bool),
            keypoints=self.decode_keypoints(row["keypoints"]),
            heatmaps=dequantise_heatmaps(heatmaps),
            pafs=dequantise_pafs(pafs),
        )

    def encode_targets(self, heatmaps: np.ndarray, pafs: np.ndarray) -> bytes:
        """Quantised targets, as `render` gives them -> the block of a row."""
        return _ZSTD.compress(heatmaps.tobytes() + pafs.tobytes(), asbytes=True)

    def encode_image(self, image: np.ndarray) -> bytes:
        """uint8 (S, S, 3) RGB -> the block of a row."""
        if self.image_codec == "raw":
            return np.ascontiguousarray(image).tobytes()
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])[1].tobytes()


_ZSTD = pa.Codec("zstd", compression_level=3)


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A decoded row. image: uint8 (S, S, 3) RGB; ignore: bool (h, w); keypoints: float32 (P, J, 3); heatmaps, pafs: float32."""

    image: np.ndarray
    ignore: np.ndarray
    keypoints: np.ndarray
    heatmaps: np.ndarray
    pafs: np.ndarray


def row_crc32(row: Row) -> int:
    """CRC32 of a row's blocks and ids, without its `crc32` column. The four blocks may be bytes or uint8 arrays."""
    crc = zlib.crc32(struct.pack("<qii", row["image_id"], row["variant"], row["licence"]))
    for column in ("image", "targets", "mask", "keypoints"):
        crc = zlib.crc32(row[column], crc)
    return crc


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One published shard: the rows of one variant of one range of images. `files` gives bytes and SHA-256 by file name."""

    name: str
    variant: int
    num_rows: int
    files: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of manifest.json, written last. Rows are numbered through the shards in their order: variant 0 first."""

    schema_version: int
    builder_version: str
    config: dict[str, Any]
    skeleton: dict[str, Any]
    seed: int
    num_variants: int
    num_images: int
    num_samples: int
    sources: dict[str, Any]
    counts: dict[str, int]
    licences: dict[str, str]
    skipped: list[dict[str, str]]
    digest: str
    samples: dict[str, Any]
    shards: list[Shard]

    @property
    def format(self) -> RecordFormat:
        fields = TargetConfig.__dataclass_fields__
        return RecordFormat(
            skeleton=Skeleton.from_dict(self.skeleton),
            targets=TargetConfig(**{name: self.config[name] for name in fields}),
            image_codec=self.config["image_codec"],
            jpeg_quality=self.config["jpeg_quality"],
        )

    def to_json(self) -> str:
        """With a checksum of everything else, so that a changed byte or an edited number does not pass for the set's own."""
        fields = asdict(self)
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1) + "\n"


def read_manifest(records: Path) -> Manifest:
    """The manifest of a record set. Raises UserError for a folder that is not a complete record set of this schema."""
    path = Path(records) / MANIFEST
    if not path.exists():
        state = "an unfinished build: run the same build command again" if (Path(records) / SHARDS).exists() else "no record set"
        raise UserError(f"{records}: {state} (there is no {MANIFEST})")
    fields = read_json(path, "manifest")
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; build the records anew")
    if fields.pop("checksum", None) != _checksum(fields):
        raise UserError(f"{path}: edited or damaged (its checksum does not match); restore it or build the records anew")
    try:
        manifest = Manifest(**{**fields, "shards": [Shard(**shard) for shard in fields["shards"]]})
        manifest.format  # noqa: B018 - a manifest whose settings are refused is refused here
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged manifest: {error}; build the records anew") from error
    return manifest


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def check_files(records: Path, manifest: Manifest, *, hashes: bool) -> list[str]:
    """What is missing, foreign or changed in a record set: one line each, nothing if all is well.

    Sizes are always compared; SHA-256 only if `hashes` (reads everything).
    """
    expected = {SAMPLES: manifest.samples}
    for shard in manifest.shards:
        expected |= {f"{SHARDS}/{shard.name}/{name}": facts for name, facts in shard.files.items()}
    faults = []
    for name, facts in expected.items():
        path = Path(records) / name
        if not path.is_file():
            faults.append(f"{name}: missing")
        elif path.stat().st_size != facts["bytes"]:
            faults.append(f"{name}: {path.stat().st_size} bytes, the manifest says {facts['bytes']}")
        elif hashes and file_facts(path) != facts:
            faults.append(f"{name}: its SHA-256 is not the manifest's")
    present = (path for path in (Path(records) / SHARDS).rglob("*") if path.is_file())
    foreign = sorted(str(path.relative_to(records)) for path in present if str(path.relative_to(records)) not in expected)
    return faults + [f"{name}: not in the manifest" for name in foreign]


def file_facts(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as a manifest holds them."""
    with open(path, "rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def content_digest(rows: Iterable[tuple[int, int, int, int]]) -> str:
    """SHA-256 over (image_id, variant, bytes, crc32) of all rows in order: equal sets of records have equal digests."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(struct.pack("<qiqq", *row))
    return digest.hexdigest()
