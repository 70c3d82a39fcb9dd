"""The ignore mask of a crop against a literal reading of its definition."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import geometry
from pipeline.samples import masks

INSIZE, STRIDE_PX = 96, 8
HEIGHT, WIDTH = 60, 80


def literal_cells(ignore: np.ndarray, matrix: np.ndarray, radius_px: float) -> np.ndarray:
    """Every pixel of the crop asks every pixel around it, in the image, whether it is ignored."""
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
def test_cells_of_a_crop_are_those_of_the_definition(box, degrees, scale, shift):
    x, y, width, height = box
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[y : y + height, x : x + width] = True
    matrix = geometry.compose(geometry.resizing(scale, scale), geometry.rotation(degrees))
    matrix = geometry.compose(matrix, geometry.translation(*shift))
    cells = masks.warp_to_cells(ignore, matrix, insize=INSIZE, stride_px=STRIDE_PX)
    # Nearest pixels may round the other way, and the distance is good to 2 %: a pixel either way.
    least = literal_cells(ignore, matrix, masks.DILATION_PX - 1.5)
    most = literal_cells(ignore, matrix, masks.DILATION_PX + 1.5)
    assert (least <= cells).all() and (cells <= most).all()


def test_an_empty_mask_ignores_nothing():
    cells = masks.warp_to_cells(np.zeros((HEIGHT, WIDTH), bool), geometry.identity(), insize=INSIZE, stride_px=STRIDE_PX)
    assert cells.shape == (12, 12) and not cells.any()
