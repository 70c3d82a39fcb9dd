"""What a row of a record set is: its schema, encoding and decoding. Loads no mindspore.

A row is a dict of columns (`COLUMNS`). MindRecord has no uint8, int8 or bool arrays, so those columns are bytes:
  image      JPEG, or S * S * 3 raw bytes, RGB
  targets    zstd of uint8 heatmaps (J + 1, h, w), then int8 PAFs (2 L, h, w)
  mask       packed bits of the ignore mask (h, w), 1 = ignored
  keypoints  little-endian uint32 P and J, then float32 (P, J, 3); never empty, also without people
  crc32      of the four blocks above and the three ids: MindRecord itself has no checksum
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa

from pipeline.samples.augment import Crop
from pipeline.samples.targets import (
    TargetConfig,
    dequantize_heatmaps,
    dequantize_pafs,
    quantize_heatmaps,
    quantize_pafs,
    render_heatmaps,
    render_pafs,
    shown_cells,
)
from pipeline.skeleton import Skeleton

SCHEMA_VERSION = 2
COLUMNS = {
    "image": "bytes",
    "targets": "bytes",
    "mask": "bytes",
    "keypoints": "bytes",
    "image_id": "int64",
    "variant": "int32",
    "license": "int32",
    "crc32": "int64",
}

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

    def encode(self, crop: Crop, *, image_id: int, variant: int, license: int) -> Row:
        """A finished crop -> a row. Renders the targets of its keypoints.

        A cell that shows a joint or limb of a target is never ignored: else small people beside an unlabeled one, whose mask was
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
            "license": int(license),
        }
        return {**row, "crc32": row_crc32(row)}

    def render(self, keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 (P, J, 3), crop pixels -> heatmaps uint8 (J + 1, h, w) and PAFs int8 (2 L, h, w), quantized."""
        shape = dict(skeleton=self.skeleton, grid_hw=self.targets.grid_hw, config=self.targets)
        return quantize_heatmaps(render_heatmaps(keypoints, **shape)), quantize_pafs(render_pafs(keypoints, **shape))

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
        """-> heatmaps uint8 (J + 1, h, w) and PAFs int8 (2 L, h, w), still quantized. Raises DamagedRow."""
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
            raise DamagedRow(f"keypoints have {len(block)} bytes for {people} people of {joints} joints")
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
            heatmaps=dequantize_heatmaps(heatmaps),
            pafs=dequantize_pafs(pafs),
        )

    def encode_targets(self, heatmaps: np.ndarray, pafs: np.ndarray) -> bytes:
        """Quantized targets, as `render` gives them -> the block of a row."""
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
    crc = zlib.crc32(struct.pack("<qii", row["image_id"], row["variant"], row["license"]))
    for column in ("image", "targets", "mask", "keypoints"):
        crc = zlib.crc32(row[column], crc)
    return crc
