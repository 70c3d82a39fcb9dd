"""Drawings of predictions: background, key, numbers, names, blurred faces. Images are uint8 RGB."""

import colorsys

import cv2
import numpy as np

from evaluator.decoding.scores import SelectConfig
from evaluator.predict.config import DrawConfig
from evaluator.predict.prediction import Prediction
from pipeline.draw import draw_people, thickness_of
from pipeline.skeleton import Skeleton

FACE = ("nose", "eye", "ear", "head")
MIN_WIDTH_PX = 200  # of an image with a key
BLANK = {"black": 0, "white": 255}
_MOSAIC = 6  # cells along the side of a blurred face


def draw_styled(image: np.ndarray, prediction: Prediction, select: SelectConfig, style: DrawConfig) -> np.ndarray:
    """Return a copy of an image with the selected people. All faces are blurred. The image may be smaller than the predicted one."""
    shown_wh = image.shape[1], image.shape[0]
    canvas = image.copy() if style.background == "image" else np.full_like(image, BLANK[style.background])
    if style.blur_faces and style.background == "image":
        for person in prediction.keypoints_at(shown_wh):
            _blur_face(canvas, person, prediction.skeleton)
    shown = prediction.selected(select)
    keypoints = shown.keypoints_at(shown_wh)
    thickness = style.thickness_px or thickness_of(image)
    canvas = draw_people(canvas, keypoints, prediction.skeleton, thickness_px=thickness)
    size = max(0.4, thickness / 6)
    for person, points in zip(shown.people, keypoints, strict=True):
        if style.joint_names:
            for name, (x, y, confidence) in zip(prediction.skeleton.joints, points, strict=True):
                if confidence > 0:
                    _write(canvas, name, (x + thickness, y - thickness), size * 0.7, (255, 255, 255))
        if style.draw_ids and person.identity is not None and person.identity > 0:
            found = points[points[:, 2] > 0, :2]
            top = found[found[:, 1].argmin()]
            _write(canvas, str(person.identity), (top[0], top[1] - 3 * thickness), 1.6 * size, identity_color(person.identity))
    if len(keypoints) and canvas.shape[1] >= MIN_WIDTH_PX:
        _draw_key(canvas, prediction.skeleton, thickness)
    return canvas


def identity_color(identity: int) -> tuple[int, int, int]:
    """Return the RGB color of an identity; successive ones differ by the golden ratio."""
    red, green, blue = colorsys.hsv_to_rgb(identity * 0.618034 % 1, 0.55, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _write(canvas: np.ndarray, text: str, place: tuple[float, float], size: float, color: tuple[int, int, int]) -> None:
    """Write text with a dark outline, so that it is legible on any background."""
    width, height = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0]
    x = round(min(max(float(place[0]) - width / 2, 2), canvas.shape[1] - width - 2))
    y = round(min(max(float(place[1]), height + 2), canvas.shape[0] - 2))
    bold = max(1, round(1.6 * size))
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), bold + 3, cv2.LINE_AA)
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, bold, cv2.LINE_AA)


def _draw_key(canvas: np.ndarray, skeleton: Skeleton, thickness: int) -> None:
    """Say at the lower left which colors are the left and the right side of a person."""
    size, y = max(0.4, thickness / 7), canvas.shape[0] - 3 * thickness
    x = 3 * thickness
    for side in ("left", "right"):
        colors = [
            color for joint, color in zip(skeleton.joints, skeleton.joint_colors, strict=True) if skeleton.side(joint) == side
        ]
        for color in colors[:4]:
            cv2.circle(canvas, (x, y - thickness), 2 * thickness, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, (x, y - thickness), round(1.6 * thickness), color, -1, cv2.LINE_AA)
            x += 4 * thickness
        width = cv2.getTextSize(side, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0]
        if colors:
            _write(canvas, side, (x + width / 2, y), size, (255, 255, 255))
            x += width + 5 * thickness


def _blur_face(canvas: np.ndarray, person: np.ndarray, skeleton: Skeleton) -> None:
    """Replace the face of a person by a mosaic, in place. person: float32 (J, 3) in pixels."""
    is_face = np.array([any(part in joint for part in FACE) for joint in skeleton.joints])
    face = person[is_face & (person[:, 2] > 0), :2]
    if not len(face):
        return
    center = face.mean(axis=0)
    found = person[person[:, 2] > 0, :2]
    spread = float(np.linalg.norm(face - center, axis=1).max())
    radius = max(1.7 * spread, 0.07 * float(np.ptp(found, axis=0).max()), 4)
    low = np.maximum(np.floor(center - 1.2 * radius), 0).astype(int)
    high = np.minimum(np.ceil(center + 1.2 * radius), (canvas.shape[1], canvas.shape[0])).astype(int)
    if (high - low).min() < 1:
        return
    part = canvas[low[1] : high[1], low[0] : high[0]]
    cells = cv2.resize(part, (_MOSAIC, _MOSAIC), interpolation=cv2.INTER_AREA)
    part[:] = cv2.resize(cells, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_NEAREST)
