"""The ignore mask of a crop, compared with a slow implementation of its definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import geometry
from pipeline.samples import masks
from pipeline.samples.targets import TargetConfig, render_targets
from pipeline.skeletons import COCO18

INSIZE, STRIDE_PX = 96, 8
HEIGHT, WIDTH = 60, 80


def literal_cells(ignore: np.ndarray, matrix: np.ndarray, radius_px: float) -> np.ndarray:
    """Test every pixel of the crop against every ignored pixel around it."""
    around = np.arange(-20, INSIZE + 20)
    points = np.stack(np.meshgrid(around, around), axis=-1).reshape(-1, 2).astype(np.float64)
    source = np.rint(geometry.transform_points(geometry.invert(matrix), points)).astype(int)
    inside = ((source >= 0) & (source < (WIDTH, HEIGHT))).all(axis=1)
    hit = np.zeros(len(points), bool)
    hit[inside] = ignore[source[inside, 1], source[inside, 0]]
    ignored = points[hit]
    pixels = np.stack(np.meshgrid(np.arange(INSIZE), np.arange(INSIZE)), axis=-1).reshape(-1, 1, 2)
    near = np.zeros(INSIZE**2, bool)
    for part in np.array_split(ignored, max(1, len(ignored) // 200)):
        near |= (np.square(pixels - part).sum(axis=-1) <= radius_px**2).any(axis=1)
    side = INSIZE // STRIDE_PX
    return near.reshape(side, STRIDE_PX, side, STRIDE_PX).sum(axis=(1, 3)) >= STRIDE_PX**2 / 2


@settings(max_examples=25, deadline=None)
@given(
    box=st.tuples(st.integers(0, WIDTH - 2), st.integers(0, HEIGHT - 2), st.integers(1, 30), st.integers(1, 30)),
    degrees=st.floats(-180, 180),
    scale=st.floats(0.4, 1.5),
    shift=st.tuples(st.floats(-80, 120), st.floats(-80, 120)),
)
def test_cells_match_the_definition(box, degrees, scale, shift):
    x, y, width, height = box
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[y : y + height, x : x + width] = True
    matrix = geometry.compose(geometry.resizing(scale, scale), geometry.rotation(degrees))
    matrix = geometry.compose(matrix, geometry.translation(*shift))
    cells = masks.warp_to_cells(ignore, matrix, insize=INSIZE, stride_px=STRIDE_PX)
    # Nearest-neighbor rounding and the distance, accurate to 2%, may differ by a pixel.
    least = literal_cells(ignore, matrix, masks.DILATION_PX - 1.5)
    most = literal_cells(ignore, matrix, masks.DILATION_PX + 1.5)
    assert (least <= cells).all() and (cells <= most).all()


def test_an_empty_mask_ignores_nothing():
    cells = masks.warp_to_cells(np.zeros((HEIGHT, WIDTH), bool), geometry.identity(), insize=INSIZE, stride_px=STRIDE_PX)
    assert cells.shape == (12, 12) and not cells.any()
    assert not masks.warp_to_cells(None, geometry.identity(), insize=INSIZE, stride_px=STRIDE_PX).any()


def test_cells_that_show_a_target_are_never_ignored():
    config = TargetConfig(insize=INSIZE, stride_px=STRIDE_PX)
    keypoints = np.zeros((1, COCO18.num_joints, 3), np.float32)
    keypoints[0, COCO18.index("right_hip")] = (11.5, 11.5, 2)  # cell 1, 1
    keypoints[0, COCO18.index("right_knee")] = (11.5, 75.5, 2)  # cell 1, 9
    heatmaps, pafs = render_targets(keypoints, skeleton=COCO18, config=config)
    everything = np.ones(config.grid_hw, bool)
    kept = masks.keep_targets(everything, heatmaps, pafs)
    assert not kept[1:10, 1].any(), "the limb is visible from hip to knee"
    assert kept[:, 4:].all() and everything.all(), "other cells stay ignored, and the input is not modified"
