"""Photos are read upright, and huge ones reduced."""

import io
import struct

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline import photos
from pipeline.images import UnreadableImage, read_image
from pipeline.photos import read_photo

PIXELS = np.kron(np.random.default_rng(0).integers(0, 256, (3, 5, 3)), np.ones((16, 16, 1))).astype(np.uint8)


def saved(path, orientation, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(
    ("suffix", "options"),
    [("jpg", {"quality": 100, "subsampling": 0}), ("png", {}), ("webp", {"lossless": True}), ("tiff", {})],
)
def test_photos_are_upright_as_another_library_turns_them(tmp_path, suffix, options, orientation):
    path = saved(tmp_path / f"photo.{suffix}", orientation, **options)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    photo = read_photo(path)
    assert np.abs(photo.pixels - expected.astype(int)).max() <= 1 and photo.size_wh == expected.shape[1::-1]
    assert photo.pixels.flags.c_contiguous
    stored = read_image(path).shape[:2]
    assert stored == PIXELS.shape[:2] or suffix == "tiff", "annotations refer to the stored pixels"


def test_big_endian_data_after_other_segments_is_found(tmp_path):
    """As cameras write it: APP0 first, big-endian, the tag behind others."""
    entries = [struct.pack(">HHII", 0x010F, 2, 4, 0x43414D00), struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)]
    tiff = b"MM\0*" + struct.pack(">IH", 8, len(entries)) + b"".join(entries) + bytes(4)
    data = cv2.imencode(".jpg", PIXELS)[1].tobytes()
    segment = b"\xff\xe1" + struct.pack(">H", 2 + 6 + len(tiff)) + b"Exif\0\0" + tiff
    assert data[2:4] == b"\xff\xe0", "APP0"
    at = 4 + int.from_bytes(data[4:6], "big")
    (tmp_path / "photo.jpg").write_bytes(data[:at] + segment + data[at:])
    assert read_photo(tmp_path / "photo.jpg").size_wh == PIXELS.shape[:2]


@given(st.integers(0, 300), st.binary(min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_damaged_exif_data_is_ignored(at, garbage):
    file = io.BytesIO()
    saved(file, 6, format="JPEG")
    data = bytearray(file.getvalue())
    data[2 + at : 2 + at + len(garbage)] = garbage
    assert isinstance(photos._orientation(photos._jpeg_exif(bytes(data))), int)
    assert isinstance(photos._orientation(bytes(data[at:])), int)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_huge_jpeg_is_reduced_and_states_its_size(tmp_path, monkeypatch, orientation):
    path = saved(tmp_path / "huge.jpg", orientation, quality=95)
    whole = read_photo(path)
    for limit, factor in ((80 * 48, 1), (80 * 48 - 1, 2), (80 * 48 // 4 - 1, 4), (80 * 48 // 16 - 1, 8), (1, 8)):
        monkeypatch.setattr(photos, "MAX_WHOLE_PIXELS", limit)
        photo = read_photo(path)
        assert photo.size_wh == whole.size_wh
        assert photo.pixels.shape[:2] == tuple(side // factor for side in whole.pixels.shape[:2])
        small = cv2.resize(whole.pixels, photo.pixels.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - photo.pixels).mean() < 6


@pytest.mark.parametrize(
    ("data", "name"), [(b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"), (b"\0\0\0\x1cftypavif", "AVIF"), (b"GIF89a\1\0\1\0", "GIF")]
)
def test_a_format_that_is_not_read_is_named_with_the_cure(tmp_path, data, name):
    (tmp_path / "photo.jpg").write_bytes(data + bytes(100))
    with pytest.raises(UnreadableImage, match=f"{name} is not read; convert it to JPEG, .* magick IMAGE IMAGE.jpg"):
        read_photo(tmp_path / "photo.jpg")
