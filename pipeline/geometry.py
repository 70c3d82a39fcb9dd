"""Coordinate conventions of pixels and cells, and affine matrices.

The center of pixel i is at coordinate i, its edges at i - 0.5 and i + 0.5 (as in cv2.warpAffine). The center of cell i of a
field is at pixel (i + 0.5) * stride_px - 0.5. Points are (x, y). An affine matrix is float64 (2, 3) and maps column vectors
(x, y, 1).
"""

import numpy as np


def cells_to_pixels(cell: np.ndarray, stride_px: int) -> np.ndarray:
    """Convert (fractional) cell coordinates of any shape to input pixels."""
    return (np.asarray(cell) + 0.5) * stride_px - 0.5


def pixels_to_cells(pixel: np.ndarray, stride_px: int) -> np.ndarray:
    """Convert input pixels to fractional cell coordinates; the inverse of `cells_to_pixels`."""
    return (np.asarray(pixel) + 0.5) / stride_px - 0.5


def cell_centers(num_cells: int, stride_px: int) -> np.ndarray:
    """Return the centers of all cells along one side, in input pixels: float32 (num_cells,)."""
    return cells_to_pixels(np.arange(num_cells), stride_px).astype(np.float32)


def identity() -> np.ndarray:
    """Return the matrix that changes nothing."""
    return np.eye(2, 3)


def compose(*matrices: np.ndarray) -> np.ndarray:
    """Return the affine matrix that applies `matrices` from first to last."""
    total = np.eye(3)
    for matrix in matrices:
        total = np.vstack([matrix, (0, 0, 1)]) @ total
    return total[:2]


def invert(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse affine matrix. Raises numpy.linalg.LinAlgError for a singular one."""
    return np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]


def translation(dx: float, dy: float) -> np.ndarray:
    """Return the matrix that moves points by (dx, dy)."""
    return np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float64)


def resizing(scale_x: float, scale_y: float) -> np.ndarray:
    """Return the matrix of a resize that scales pixel edges, not centers, so that corners stay corners (as in cv2.resize)."""
    return np.array([[scale_x, 0, scale_x / 2 - 0.5], [0, scale_y, scale_y / 2 - 0.5]], dtype=np.float64)


def rotation(degrees: float) -> np.ndarray:
    """Return a rotation about the origin; a positive angle turns +x towards +y (clockwise on screen, y pointing down)."""
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[cos, -sin, 0], [sin, cos, 0]], dtype=np.float64)


def mirroring(width_px: int) -> np.ndarray:
    """Return the matrix that flips an image of that width left to right; it is its own inverse."""
    return np.array([[-1, 0, width_px - 1], [0, 1, 0]], dtype=np.float64)


def transform_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine matrix to points (..., 2), in float64."""
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def transform_keypoints(matrix: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Apply an affine matrix to keypoints, float32 (..., 3). Keeps v; unlabeled points (v = 0) stay at the origin."""
    moved = keypoints.astype(np.float32, copy=True)
    moved[..., :2] = np.where(keypoints[..., 2:] > 0, transform_points(matrix, keypoints[..., :2]), 0)
    return moved
