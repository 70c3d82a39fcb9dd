"""Images are decoded exactly or refused with a reason: nothing that a decoder fills in reaches a record or a prediction."""

import io
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline import images
from pipeline.errors import UserError
from pipeline.images import FLAGS, UnreadableImage, read_image
from pipeline.tolerance import Tolerance

COCO = Path(__file__).parents[3] / "shared" / "coco-sample" / "train2017"


def encoded(kind: str = "RGB", name: str = "JPEG", **options) -> bytes:
    """A picture with structure at every scale, 150 x 110."""
    rng = np.random.default_rng(0)
    coarse = cv2.resize(rng.integers(0, 256, (11, 15, 3), np.uint8), (150, 110), interpolation=cv2.INTER_CUBIC)
    pixels = np.clip(coarse + rng.normal(0, 12, coarse.shape), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(kind).save(stream, name, **options)
    return stream.getvalue()


def written(folder: Path, data: bytes) -> Path:
    path = folder / "image"
    path.write_bytes(data)
    return path


def opencv(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK"])
def test_jpegs_of_all_kinds_have_the_pixels_that_opencv_decodes(tmp_path, kind, subsampling, progressive):
    data = encoded(kind, quality=88, subsampling=subsampling, progressive=progressive)
    assert np.array_equal(read_image(written(tmp_path, data)), opencv(data))


def test_other_formats_and_rotated_images_have_the_pixels_that_opencv_decodes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (encoded(exif=exif), encoded(name="PNG"), encoded(name="WEBP"), encoded(name="BMP")):
        image = read_image(written(tmp_path, data), (150, 110))
        assert image.shape == (110, 150, 3) and np.array_equal(image, opencv(data))


@pytest.mark.skipif(not COCO.exists(), reason="needs the real images beside the project")
def test_real_images_have_the_pixels_that_opencv_decodes():
    for path in sorted(COCO.iterdir()):
        assert np.array_equal(read_image(path), opencv(path.read_bytes())), path


def half(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


def scrambled(data: bytes) -> bytes:
    """All bits 1 (with the stuffing bytes): never a code of a Huffman table."""
    start = len(data) // 2
    return data[:start] + b"\xff\x00" * 150 + data[start + 300 :]


@pytest.mark.parametrize("damage", [half, scrambled])
@pytest.mark.parametrize(
    "data",
    [
        encoded(),
        encoded(progressive=True),
        encoded("L"),
        encoded("CMYK", subsampling=2),
        encoded("CMYK"),
    ],
    ids=["baseline", "progressive", "gray", "subsampled CMYK", "CMYK"],
)
def test_a_damaged_jpeg_that_opencv_decodes_is_refused_with_the_reason(tmp_path, data, damage):
    damaged = damage(data)
    assert opencv(damaged) is not None, "OpenCV fills what is missing"
    with pytest.raises(UnreadableImage, match=r"JPEG|marker"):
        read_image(written(tmp_path, damaged))


def test_a_size_beyond_the_limit_is_refused_before_it_takes_memory(tmp_path):
    data = bytearray(encoded())
    start = data.find(b"\xff\xc0")
    data[start + 5 : start + 9] = b"\xff\xdc\xff\xdc"
    with pytest.raises(UnreadableImage, match="65500 x 65500 pixels, at most 1,073,741,824 pixels"):
        read_image(written(tmp_path, bytes(data)))
    with pytest.raises(UnreadableImage, match="65500 x 65500 pixels, annotated as 150 x 110"):
        read_image(tmp_path / "image", (150, 110))


def test_the_size_of_a_png_is_checked_before_it_is_decoded(tmp_path, monkeypatch):
    data = bytearray(encoded(name="PNG"))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UnreadableImage, match="30000 x 30000 pixels, annotated as 150 x 110"):
        read_image(written(tmp_path, bytes(data)), (150, 110))
    data[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(UnreadableImage, match="60000 x 60000 pixels, at most 1,073,741,824 pixels"):
        read_image(written(tmp_path, bytes(data)))


LIMITED = """
import sys
from pathlib import Path
from pipeline.images import read_image
from pipeline.records.manifest import SHARDS, read_manifest
from pipeline.records.reader import ShardReader

try:
    read_image(Path(sys.argv[1]))
except Exception as error:
    print(error)
try:
    records = Path(sys.argv[2])
    row = ShardReader(records / SHARDS / "v000-s00000").read(0)
    read_manifest(records).format.decode(row)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_limit_of_opencv_in_the_environment_is_named(tmp_path, records):
    """OpenCV reads it when it is loaded, hence the process."""
    path = written(tmp_path, encoded(name="PNG"))
    environment = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "100"}
    command = [sys.executable, "-c", LIMITED, str(path), str(records)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [
        "not an image that can be decoded (OPENCV_IO_MAX_IMAGE_PIXELS=100)",
        "UserError OpenCV refuses a crop of 128 x 128 pixels (OPENCV_IO_MAX_IMAGE_PIXELS=100); unset these variables",
    ]


def test_a_file_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path, b"")
    os.truncate(path, images.MAX_BYTES + 1)
    with pytest.raises(UnreadableImage, match="1,073,741,825 bytes, at most 1,073,741,824"):
        read_image(path)


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is limited to 107 bytes
    os.mkfifo("fifo")
    os.symlink("/dev/zero", "device")
    os.mkdir("folder")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name in ("fifo", "device", "socket"):
            with pytest.raises(UnreadableImage, match="is a pipe, socket or device, not a file"):
                read_image(tmp_path / name)
    with pytest.raises(UnreadableImage, match="is a folder, not a file"):
        read_image(tmp_path / "folder")
    with pytest.raises(UnreadableImage, match="null"):
        read_image(tmp_path / "a\0b")


@pytest.mark.parametrize(
    ("share", "unreadable", "images", "allowed"),
    [
        (0.01, 0, 5, True),
        (0.01, 1, 100, True),
        (0.01, 1, 99, False),
        (0, 1, 1000, False),
        (1, 4, 5, True),
        (1, 5, 5, False),
        (0.5, 0, 0, True),
    ],
)
def test_the_tolerance_is_a_share_of_the_images_and_never_all_of_them(share, unreadable, images, allowed):
    assert Tolerance(max_unreadable=share).allows(unreadable, images) == allowed


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_no_share_allows_that_all_images_are_unreadable(share):
    with pytest.raises(
        UserError, match=r"^folder: 3 of 3 images are unreadable, at least one must be readable; first: a.jpg: gone"
    ) as error:
        Tolerance(max_unreadable=share).require([("a.jpg", "gone")] * 3, 3, "folder")
    assert "--max-unreadable" not in str(error.value)


@pytest.mark.parametrize(("unreadable", "images"), [(1, 29), (28, 29), (1, 3), (2, 7), (1, 12), (9, 10), (2, 118_000)])
def test_the_share_in_the_message_is_enough(unreadable, images):
    with pytest.raises(
        UserError, match=r"^folder: .* unreadable, .*; first: a.jpg: gone; restore the images, or accept"
    ) as error:
        Tolerance(max_unreadable=0).require([("a.jpg", "gone")] * unreadable, images, "folder")
    share = float(str(error.value).rsplit(" ", 1)[1])
    assert Tolerance(max_unreadable=share).allows(unreadable, images) and share < unreadable / images + 0.02
