"""Random scenes: background, objects, people from the smallest to the largest, and the effects of a camera."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.synthetic.body import random_figure
from pipeline.synthetic.clothes import SKIN_COLORS, random_color
from pipeline.synthetic.config import SceneConfig
from pipeline.synthetic.drawing import SHIFT_BITS, PlacedFigure
from pipeline.synthetic.figure import Figure, ellipsoid

SHARE_WITHOUT_PEOPLE = 0.14


@dataclass(kw_only=True)
class Scene:
    """A drawn scene.

    image: uint8 (H, W, 3) RGB; owner: int32 (H, W), figure and part at each pixel (see `drawing.part_id`); light: x, y of the
    direction toward the light; crowd: numbers of the figures that are annotated as one region.
    """

    image: np.ndarray
    owner: np.ndarray
    light: np.ndarray
    figures: list[PlacedFigure] = field(default_factory=list)
    crowd: set[int] = field(default_factory=set)


def make_scene(rng: np.random.Generator, height: int, width: int, config: SceneConfig | None = None) -> Scene:
    """Draw background and objects, then people from the smallest to the largest, with objects in front of some."""
    config = config or SceneConfig()
    angle = rng.uniform(np.pi, 2 * np.pi)  # the light comes from above
    scene = Scene(
        image=background(rng, height, width),
        owner=np.zeros((height, width), np.int32),
        light=np.array([np.cos(angle), np.sin(angle)]),
    )
    for _ in range(rng.poisson(config.clutter)):
        add_object(scene, rng, rng.uniform((0, 0), (width, height)), height * rng.uniform(0.05, 0.5))
    people = rng.random() >= SHARE_WITHOUT_PEOPLE
    if people and rng.random() < 0.07:
        _add_crowd(scene, rng)
    heights = _heights(rng, height, config) if people else []
    places: list[float] = []
    for height_px in heights:
        upright = rng.random() >= config.variety
        x = _place(rng, width, height_px, places, upright=upright)
        places.append(x)
        _add_figure(scene, rng, height_px, x, upright=upright)
        if rng.random() < 0.13:
            size = height_px * rng.uniform(0.15, 0.4)
            add_object(scene, rng, scene.figures[-1].origin + rng.normal(0, 0.2, 2) * height_px, size)
    return scene


def _heights(rng: np.random.Generator, height: int, config: SceneConfig) -> list[float]:
    """Draw body heights in pixels: mostly medium and large, some small, some larger than the image. Roughly sorted, smallest first."""
    count = rng.choice([1, 2, 3, 4, 5], p=[0.38, 0.27, 0.17, 0.11, 0.07])
    close = 0.1 * config.variety
    kinds = rng.choice(4, size=count, p=[0.7 - close, 0.22, 0.08, close])
    spans = np.array([(0.45, 0.95), (0.2, 0.45), (0.07, 0.2), (1.0, 1.8)])[kinds]
    heights = list(rng.uniform(spans[:, 0], spans[:, 1]) * (1 - 0.06 * (count - 1)) * height)
    if rng.random() < 0.12:
        heights += list(rng.uniform(0.06, 0.14, rng.integers(2, 6)) * height)
    limited = np.maximum(heights[: config.max_people], max(30, config.min_person_height * height))
    return list(limited[np.argsort(limited * rng.lognormal(0, 0.15, len(limited)))])


def _place(rng: np.random.Generator, width: int, height_px: float, places: list[float], *, upright: bool) -> float:
    """Draw the x coordinate of the next person: anywhere, often near the previous one; if `upright`, where there is room."""
    if not upright and places and rng.random() < 0.35:
        return float(np.clip(places[-1] + rng.normal(0, 0.3) * height_px, 0, width))
    offers = rng.uniform(0.02, 0.98, 4) * width
    if not upright or not places:
        return float(offers[0])
    return float(max(offers, key=lambda x: np.abs(np.array(places) - x).min()))


def _add_figure(
    scene: Scene,
    rng: np.random.Generator,
    height_px: float,
    center_x: float,
    *,
    bottom: float | None = None,
    upright: bool = False,
) -> None:
    height, width = scene.owner.shape
    figure = random_figure(rng, upright=upright)
    low, high = figure.extent() * height_px
    full = high[1] - low[1]
    outside = 0.0 if upright else 0.05 * height
    if upright:
        half = min(high[0] - low[0], width) / 2
        center_x = np.clip(center_x, half, width - half)
    if bottom is not None:
        top = bottom - full
    elif upright or full < 0.97 * height:
        top = (height + 2 * outside - full) * rng.beta(1.6, 1.2) - outside
    else:
        top = rng.uniform(-0.05, 0.15) * height  # the head is inside the image, the legs are cut off
    placed = PlacedFigure(figure, (center_x - (low[0] + high[0]) / 2, top - low[1]), height_px)
    placed.draw(scene.image, scene.owner, len(scene.figures), scene.light)
    scene.figures.append(placed)


def _add_crowd(scene: Scene, rng: np.random.Generator) -> None:
    """Add a dense group of small figures, which is annotated as one region."""
    height, width = scene.owner.shape
    size, bottom = max(0.16 * height * rng.uniform(0.7, 1.1), 30), rng.uniform(0.4, 0.8) * height
    start, count = rng.uniform(0, 0.5) * width, rng.integers(10, 22)
    for k in range(count):
        scene.crowd.add(len(scene.figures))
        x = start + size * 0.22 * (k % (count // 2) + rng.uniform(-0.3, 0.3))
        _add_figure(scene, rng, size * rng.uniform(0.9, 1.1), x, bottom=bottom + (0.25 if k >= count // 2 else 0) * size)


def background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw a background, uint8 (H, W, 3) RGB."""

    def colored_area(color: np.ndarray, num_cells: Iterable[int], spread: float) -> np.ndarray:
        rows, columns = num_cells
        noise = rng.normal(size=(rows, columns, 1)) + 0.5 * rng.normal(size=(rows, columns, 3))
        cells = np.clip(color + spread * noise, 0, 255).astype(np.uint8)
        return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)

    image = colored_area(random_color(rng), rng.integers(2, 7, 2), rng.uniform(5, 45))
    if rng.random() < 0.6:
        horizon = int(rng.uniform(0.3, 0.85) * height)
        image[horizon:] = colored_area(random_color(rng), rng.integers(2, 7, 2), rng.uniform(5, 30))[horizon:]
    for cell_px in rng.choice([2, 4, 9, 20], size=rng.integers(0, 3), replace=False):
        rows, columns = height // cell_px + 1, width // cell_px + 1
        cells = np.frombuffer(rng.bytes(rows * columns), np.uint8).reshape(rows, columns)
        grain = cv2.merge([cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)] * 3)
        strength = rng.uniform(0.05, 0.3)
        image = cv2.addWeighted(image, 1, grain, strength, -127.5 * strength)
    return image


def add_object(scene: Scene, rng: np.random.Generator, center: np.ndarray, size_px: float) -> None:
    """Add a flat or a shaded object in front of everything drawn so far."""
    if rng.random() < 0.55:
        _add_flat_object(scene, rng, center, size_px)
    else:
        _add_shaded_object(scene, rng, center, size_px)


def _add_flat_object(scene: Scene, rng: np.random.Generator, center: np.ndarray, size_px: float) -> None:
    """Add a convex polygon, sometimes with a border."""
    count = rng.integers(3, 7)
    angles = np.sort(rng.uniform(0, 2 * np.pi, count)) if rng.random() < 0.5 else np.pi / 4 + np.arange(4) * np.pi / 2
    corners = np.stack([np.cos(angles), np.sin(angles)], -1) * size_px * rng.uniform(0.05, 1, 2)
    hull = cv2.convexHull(np.rint((corners + center) * 2**SHIFT_BITS).astype(np.int32))
    cv2.fillConvexPoly(scene.image, hull, random_color(rng).tolist(), cv2.LINE_AA, SHIFT_BITS)
    cv2.fillConvexPoly(scene.owner, hull, [0], cv2.LINE_8, SHIFT_BITS)
    if rng.random() < 0.4:
        color, thickness_px = random_color(rng).tolist(), int(rng.integers(1, 5))
        cv2.polylines(scene.image, [hull], True, color, thickness_px, cv2.LINE_AA, SHIFT_BITS)


def _add_shaded_object(scene: Scene, rng: np.random.Generator, center: np.ndarray, size_px: float) -> None:
    """Add a ball, a pole or a branch, sometimes skin-colored, so that it resembles a limb."""
    color = SKIN_COLORS[rng.integers(len(SKIN_COLORS))] if rng.random() < 0.25 else random_color(rng)
    place, heading, radius = np.zeros(3), rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.14)
    chain = [ellipsoid(place, radius)]
    for _ in range(rng.integers(0, 4)):
        place = place + rng.uniform(0.2, 0.8) * np.array([np.cos(heading), np.sin(heading), 0])
        heading, radius = heading + rng.normal(0, 0.7), radius * rng.uniform(0.6, 1.0)
        chain.append(ellipsoid(place, radius))
    thing = Figure(camera=np.eye(3))
    thing.add("bag", color, chain)
    PlacedFigure(thing, center, size_px).draw(scene.image, scene.owner, -1, scene.light)


def photograph(image: np.ndarray, rng: np.random.Generator, noise_rng: np.random.Generator | None = None) -> np.ndarray:
    """Return the image with blur, brightness, contrast, color cast and sensor noise of a camera.

    noise_rng: draws the noise, so that frames of one camera, each with an equal `rng`, have different noise.
    """
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
    levels = (np.arange(256) / 255)[:, None] ** rng.uniform(0.8, 1.25) * rng.uniform(0.75, 1.15) * rng.uniform(0.9, 1.1, 3)
    image = cv2.LUT(image, np.clip(levels * 255, 0, 255).astype(np.uint8)[None])
    noise = np.frombuffer((noise_rng or rng).bytes(image.size), np.uint8).reshape(image.shape)
    strength = rng.uniform(0, 0.12)
    return cv2.addWeighted(image, 1, noise, strength, -127.5 * strength)
