"""Encoding and decoding rows restores the sample, and detects damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.records.codec import COLUMNS, DamagedRow, RecordFormat, Row, row_crc32
from pipeline.samples.augment import Crop
from pipeline.samples.targets import TargetConfig, render_heatmaps, render_pafs, render_targets
from pipeline.skeletons import COCO18


def format_of(insize: int, codec: str) -> RecordFormat:
    return RecordFormat(skeleton=COCO18, targets=TargetConfig(insize=insize), image_codec=codec)


def crop_of(seed: int, insize: int, num_people: int) -> Crop:
    rng = np.random.default_rng(seed)
    keypoints = np.concatenate(
        [rng.uniform(-20, insize + 20, (num_people, 18, 2)), rng.integers(0, 3, (num_people, 18, 1))], axis=-1
    ).astype(np.float32)
    keypoints[keypoints[..., 2] == 0] = 0
    smooth = np.add.outer(np.arange(insize), np.arange(insize))[..., None] % 200 + np.array([0, 20, 50])
    return Crop(image=smooth.astype(np.uint8), ignore=rng.random((insize // 8, insize // 8)) < 0.3, keypoints=keypoints)


def encode(row_format: RecordFormat, crop: Crop, variant: int = 0) -> Row:
    heatmaps, pafs = render_targets(crop.keypoints, skeleton=COCO18, config=row_format.targets)
    return row_format.encode(crop, heatmaps, pafs, image_id=7, variant=variant, license=4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 24).map(lambda n: 8 * n), st.integers(0, 12), st.sampled_from(["raw", "jpeg"]))
def test_decoding_restores_what_was_encoded(seed, insize, num_people, codec):
    row_format, crop = format_of(insize, codec), crop_of(seed, insize, num_people)
    row = encode(row_format, crop, variant=2)
    assert all(len(row[name]) > 0 for name, kind in COLUMNS.items() if kind == "bytes"), "MindRecord loses empty columns"
    back = row_format.decode(row)
    np.testing.assert_array_equal(back.keypoints, crop.keypoints)
    shape = dict(skeleton=COCO18, grid_hw=row_format.targets.grid_hw, config=row_format.targets)
    assert np.abs(back.heatmaps - render_heatmaps(crop.keypoints, **shape)).max() <= 0.5 / 255 + 1e-6
    assert np.abs(back.pafs - render_pafs(crop.keypoints, **shape)).max() <= 0.5 / 127 + 1e-6
    np.testing.assert_array_equal(back.ignore, crop.ignore)
    if codec == "raw":
        np.testing.assert_array_equal(back.image, crop.image)
    else:
        error = back.image.astype(float) - crop.image
        assert 10 * np.log10(255**2 / np.square(error).mean()) > 25  # dB; would fail with red and blue swapped


@pytest.mark.parametrize("column", list(COLUMNS))
def test_a_change_in_any_column_is_detected(column):
    row_format = format_of(64, "jpeg")
    row = encode(row_format, crop_of(0, 64, 2))
    value = row[column]
    row[column] = value[:-1] + bytes([value[-1] ^ 1]) if isinstance(value, bytes) else value + 1
    with pytest.raises(DamagedRow, match="CRC32"):
        row_format.decode(row)


@pytest.mark.parametrize(
    ("block", "decode"),
    [("image", "decode_image"), ("targets", "decode_targets"), ("mask", "decode_mask"), ("keypoints", "decode_keypoints")],
)
def test_truncated_columns_are_damaged_rows(block, decode):
    row_format = format_of(64, "raw")
    row = encode(row_format, crop_of(0, 64, 2))
    for part in (row[block][:-1], b"\1"):
        with pytest.raises(DamagedRow):
            getattr(row_format, decode)(part)


def test_crc_is_the_same_for_bytes_and_arrays():
    row = encode(format_of(64, "jpeg"), crop_of(0, 64, 2))
    arrays = {name: np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value for name, value in row.items()}
    assert row_crc32(arrays) == row["crc32"]
