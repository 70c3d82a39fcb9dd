"""Draw skeletons, ignore masks, heatmaps and PAFs over an image. Images are uint8 RGB."""

from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import UserError
from pipeline.geometry import cells_to_pixels
from pipeline.skeleton import Skeleton

_SUBPIXEL_BITS = 4  # cv2 takes coordinates in 1/16 pixel with shift=4


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Encode a picture by the suffix of the path and write it. Raises UserError if it cannot be encoded."""
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise UserError(f"picture {path}: cannot be encoded; use another file name extension, such as .jpg")
    path.write_bytes(data.tobytes())


def thickness_of(image: np.ndarray) -> int:
    """Return the thickness of limbs in pixels that suits the size of an image."""
    return max(1, round(min(image.shape[:2]) / 110))


def draw_people(image: np.ndarray, keypoints: np.ndarray, skeleton: Skeleton, *, thickness_px: int | None = None) -> np.ndarray:
    """Return a copy of `image` with skeletons. keypoints: float (P, J, 3) in pixels; joints whose third value is 0 are skipped."""
    canvas = image.copy()
    if thickness_px is None:
        thickness_px = thickness_of(image)
    for person in keypoints:
        for (start, end), color in zip(skeleton.limb_joints, skeleton.limb_colors, strict=True):
            if person[start, 2] > 0 and person[end, 2] > 0:
                a, b = _fixed_point(person[start]), _fixed_point(person[end])
                cv2.line(canvas, a, b, color, thickness_px, cv2.LINE_AA, _SUBPIXEL_BITS)
        for joint, color in zip(person, skeleton.joint_colors, strict=True):
            if joint[2] > 0:
                radius = round((thickness_px + 1) * 2**_SUBPIXEL_BITS)
                cv2.circle(canvas, _fixed_point(joint), radius, (0, 0, 0), -1, cv2.LINE_AA, _SUBPIXEL_BITS)
                cv2.circle(canvas, _fixed_point(joint), radius * 3 // 4, color, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def draw_ignore(image: np.ndarray, ignore: np.ndarray, stride_px: int) -> np.ndarray:
    """Return a copy of `image` with the ignored cells, bool (h, w), hatched in red."""
    mask = np.kron(ignore, np.ones((stride_px, stride_px), bool))
    rows, columns = np.indices(mask.shape)
    stripes = (rows + columns) % 8 < 4
    canvas = image.copy()
    canvas[mask] = canvas[mask] // 2
    canvas[mask & stripes] = (200, 40, 40)
    return canvas


def draw_heatmaps(image: np.ndarray, heatmaps: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the image in gray with the heatmaps, float (J + 1, h, w), each in its joint's color. Skips the background."""
    colors = np.array(skeleton.joint_colors, np.float32)
    strength = np.clip(heatmaps[:-1], 0, 1)
    strongest = strength.argmax(axis=0)
    return _overlay(image, colors[strongest], strength.max(axis=0))


def draw_pafs(image: np.ndarray, pafs: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the image in gray with the PAFs, float (2 L, h, w): hue = direction of the strongest limb, brightness = its length."""
    vectors = pafs.reshape(skeleton.num_limbs, 2, *pafs.shape[1:])
    length = np.hypot(vectors[:, 0], vectors[:, 1])
    strongest = length.argmax(axis=0)[None, None]
    x, y = np.take_along_axis(vectors, strongest, axis=0)[0]
    hue = (np.degrees(np.arctan2(y, x)) % 360 / 2).astype(np.uint8)
    full = np.full_like(hue, 255)
    colors = cv2.cvtColor(np.stack([hue, full, full], axis=-1), cv2.COLOR_HSV2RGB)
    canvas = _overlay(image, colors.astype(np.float32), np.clip(np.hypot(x, y), 0, 1))
    stride_px = image.shape[0] // pafs.shape[1]
    if stride_px <= 4:  # no room for arrows
        return canvas
    for row, column in zip(*np.nonzero(np.hypot(x, y) > 0.3), strict=True):
        center = cells_to_pixels(np.array([column, row]), stride_px)
        tip = center + stride_px * np.array([x[row, column], y[row, column]])
        cv2.arrowedLine(canvas, _fixed_point(center), _fixed_point(tip), (255, 255, 255), 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    return canvas


def label(image: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of `image` with a line of text below it, shrunk to fit the width."""
    strip = np.full((22, image.shape[1], 3), 24, np.uint8)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    size = 0.45 * min(1.0, (image.shape[1] - 8) / max(width, 1))
    cv2.putText(strip, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, size, (235, 235, 235), 1, cv2.LINE_AA)
    return np.vstack([image, strip])


def sheet(pictures: list[np.ndarray], num_columns: int) -> np.ndarray:
    """Arrange pictures of any size in a grid, row by row, on a dark background."""
    height, width = (max(picture.shape[side] for picture in pictures) + 4 for side in (0, 1))
    num_rows = -(-len(pictures) // num_columns)
    canvas = np.full((num_rows * height, num_columns * width, 3), 24, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // num_columns * height, i % num_columns * width
        canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def _overlay(image: np.ndarray, colors: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Blend colors, float (h, w, 3), into the image in gray with opacity `strength`, (h, w) in [0, 1]."""
    size = image.shape[1], image.shape[0]
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) * np.float32(0.5)
    colors = cv2.resize(colors, size, interpolation=cv2.INTER_NEAREST)
    alpha = cv2.resize(strength.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)[..., None]
    return np.rint(gray * (1 - alpha) + colors * alpha).astype(np.uint8)


def _fixed_point(point: np.ndarray) -> tuple[int, int]:
    x, y = (round(min(max(float(value), -8192.0), 8192.0) * 2**_SUBPIXEL_BITS) for value in point[:2])
    return x, y
