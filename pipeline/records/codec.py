"""The row format of a record set: schema, encoding, decoding. Does not import mindspore.

A row is a dict of columns (`COLUMNS`). MindRecord has no uint8, int8 or bool arrays, so those columns are bytes:
  image      JPEG, or S * S * 3 raw bytes, RGB
  targets    zstd of uint8 heatmaps (J + 1, h, w), then int8 PAFs (2 L, h, w)
  mask       packed bits of the ignore mask (h, w), 1 = ignored
  keypoints  little-endian uint32 P and J, then float32 (P, J, 3); never empty, even without people
  crc32      of the four blocks above and the three ids, because MindRecord has no checksums
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.images import opencv_limits
from pipeline.runtime.timing import Timed, untimed
from pipeline.samples.augment import Crop
from pipeline.samples.targets import TargetConfig, dequantize_heatmaps, dequantize_pafs
from pipeline.skeleton import Skeleton

SCHEMA_VERSION = 2
SOURCE_SHIFT = 40  # of a record set of several sources: image_id = number of the source << SOURCE_SHIFT | id in its file
MAX_SOURCE_IMAGE_ID = (1 << SOURCE_SHIFT) - 1
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


def source_image_id(source: int, image_id: int) -> int:
    """Return the image id in a record set of several sources."""
    return source << SOURCE_SHIFT | image_id


class DamagedRow(ValueError):
    """A row that cannot be decoded or does not match its checksum."""


@dataclass(frozen=True, kw_only=True)
class RecordFormat:
    """The settings needed to encode and decode rows; part of the manifest."""

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
        """Page size of the MindRecord files: a power of two that fits every row, several times for raw images.

        Rows do not span pages and a file consists of whole pages, so larger pages would waste space in small files.
        """
        targets = (self.skeleton.num_heatmaps + self.skeleton.num_pafs) * self.targets.grid_hw[0] * self.targets.grid_hw[1]
        largest_row = 3 * self.targets.insize**2 + targets + (1 << 16)
        return 1 << (largest_row * (4 if self.image_codec == "raw" else 1) - 1).bit_length()

    def encode(
        self,
        crop: Crop,
        heatmaps: np.ndarray,
        pafs: np.ndarray,
        *,
        image_id: int,
        variant: int,
        license: int,
        timed: Timed = untimed,
    ) -> Row:
        """Encode a crop and its quantized targets, as `render_targets` returns them."""
        with timed("encode the crop"):
            image = self.encode_image(crop.image)
        with timed("compress the targets"):
            targets = self.encode_targets(heatmaps, pafs)
        row = {
            "image": image,
            "targets": targets,
            "mask": np.packbits(crop.ignore).tobytes(),
            "keypoints": struct.pack("<II", *crop.keypoints.shape[:2]) + crop.keypoints.astype("<f4").tobytes(),
            "image_id": int(image_id),
            "variant": int(variant),
            "license": int(license),
        }
        return {**row, "crc32": row_crc32(row)}

    def decode_image(self, block: bytes | np.ndarray) -> np.ndarray:
        """Return uint8 (S, S, 3) RGB. Raises DamagedRow, or UserError if the environment keeps OpenCV from decoding."""
        side = self.targets.insize
        values = np.frombuffer(block, np.uint8)
        image = None
        if self.image_codec == "jpeg":
            try:
                image = cv2.imdecode(values, cv2.IMREAD_COLOR_RGB)
            except cv2.error as error:
                if limits := opencv_limits():
                    raise UserError(f"OpenCV refuses a crop of {side} x {side} pixels{limits}; unset these variables") from error
        elif values.size == side * side * 3:
            image = values.reshape(side, side, 3)
        if image is None or image.shape != (side, side, 3):
            raise DamagedRow(f"image is not a {self.image_codec} image of {side} x {side} pixels")
        return image

    def decode_targets(self, block: bytes | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return quantized heatmaps, uint8 (J + 1, h, w), and PAFs, int8 (2 L, h, w). Raises DamagedRow."""
        cells = self.targets.grid_hw[0] * self.targets.grid_hw[1]
        split, total = self.skeleton.num_heatmaps * cells, (self.skeleton.num_heatmaps + self.skeleton.num_pafs) * cells
        try:
            levels = np.frombuffer(_ZSTD.decompress(np.ascontiguousarray(block), total, asbytes=True), np.uint8)
        except (pa.ArrowException, OSError) as error:
            raise DamagedRow(f"targets cannot be decompressed: {error}") from error
        return (
            levels[:split].reshape(-1, *self.targets.grid_hw),
            levels[split:].view(np.int8).reshape(-1, *self.targets.grid_hw),
        )

    def decode_mask(self, block: bytes | np.ndarray) -> np.ndarray:
        """Return uint8 (h, w), 1 = ignored. Raises DamagedRow."""
        height, width = self.targets.grid_hw
        bits = np.frombuffer(block, np.uint8)
        if bits.size != -(-height * width // 8):
            raise DamagedRow(f"mask has {bits.size} bytes, expected {-(-height * width // 8)}")
        return np.unpackbits(bits, count=height * width).reshape(height, width)

    def decode_keypoints(self, block: bytes | np.ndarray) -> np.ndarray:
        """Return float32 (P, J, 3), in pixels of the crop. Raises DamagedRow."""
        block = bytes(block)
        people, joints = struct.unpack_from("<II", block) if len(block) >= 8 else (0, -1)
        if joints != self.skeleton.num_joints or len(block) != 8 + 12 * people * joints:
            raise DamagedRow(f"keypoints have {len(block)} bytes for {people} people of {joints} joints")
        return np.frombuffer(block, "<f4", offset=8).reshape(people, joints, 3)

    def decode(self, row: Row) -> "Decoded":
        """Check a row against its CRC and decode all of it. Raises DamagedRow."""
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
        """Compress quantized targets."""
        return _ZSTD.compress(heatmaps.tobytes() + pafs.tobytes(), asbytes=True)

    def encode_image(self, image: np.ndarray) -> bytes:
        """Encode uint8 (S, S, 3) RGB with `image_codec`."""
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
    """Return the CRC32 of a row's blocks and ids, ignoring its `crc32` column. Blocks may be bytes or uint8 arrays."""
    crc = zlib.crc32(struct.pack("<qii", row["image_id"], row["variant"], row["license"]))
    for column in ("image", "targets", "mask", "keypoints"):
        crc = zlib.crc32(row[column], crc)
    return crc
