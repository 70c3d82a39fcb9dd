"""Drawn scenes: clutter, figures from the smallest to the largest, objects in front of some, and the photograph of it."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from pipeline.synthetic.figure import SKINS, Figure, Placed, color_of_cloth, ellipsoid, random_figure

SHARE_WITHOUT_PEOPLE = 0.14


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """How hard the scenes are."""

    max_people: int = 10
    """People in an image at most, crowds apart."""
    least_height: float = 0.06
    """Height of the smallest people, as a share of the image's height."""
    clutter: float = 14.0
    """Mean number of objects in the background."""
    variety: float = 1.0
    """Share of people in any pose, seen from anywhere, who may be cut by the border; the others stand or walk, show their front
    or their back, are whole in the picture, and apart from each other where there is room."""

    def __post_init__(self) -> None:
        if self.max_people < 1:
            raise ValueError(f"max_people must be at least 1, got {self.max_people}")
        if not 0 < self.least_height <= 0.9:
            raise ValueError(f"least_height must be in (0, 0.9], got {self.least_height}")
        if not 0 <= self.clutter <= 100:
            raise ValueError(f"clutter must be from 0 to 100, got {self.clutter}")
        if not 0 <= self.variety <= 1:
            raise ValueError(f"variety must be from 0 to 1, got {self.variety}")


@dataclass(kw_only=True)
class Scene:
    """image: uint8 (H, W, 3) RGB; owner: int32 (H, W), which figure and part is seen (see `figures.part_id`)."""

    image: np.ndarray
    owner: np.ndarray
    light: np.ndarray
    figures: list[Placed] = field(default_factory=list)
    crowd: set[int] = field(default_factory=set)


def make_scene(rng: np.random.Generator, height: int, width: int, config: SceneConfig | None = None) -> Scene:
    """Clutter, then people from the smallest to the largest, with objects in front of some."""
    config = config or SceneConfig()
    angle = rng.uniform(np.pi, 2 * np.pi)  # the light comes from above
    scene = Scene(
        image=_background(rng, height, width),
        owner=np.zeros((height, width), np.int32),
        light=np.array([np.cos(angle), np.sin(angle)]),
    )
    for _ in range(rng.poisson(config.clutter)):
        _add_object(scene, rng, rng.uniform((0, 0), (width, height)), height * rng.uniform(0.05, 0.5))
    people = rng.random() >= SHARE_WITHOUT_PEOPLE
    if people and rng.random() < 0.07:
        _add_crowd(scene, rng)
    heights = _heights(rng, height, config) if people else []
    places: list[float] = []
    for height_px in heights:
        calm = rng.random() >= config.variety
        x = _place(rng, width, height_px, places, calm=calm)
        places.append(x)
        _add_figure(scene, rng, height_px, x, calm=calm)
        if rng.random() < 0.13:
            size = height_px * rng.uniform(0.15, 0.4)
            _add_object(scene, rng, scene.figures[-1].origin + rng.normal(0, 0.2, 2) * height_px, size)
    return scene


def _heights(rng: np.random.Generator, height: int, config: SceneConfig) -> list[float]:
    """Body heights in pixels, smallest first up to some disorder: mostly medium and large, some small, some cut by the border."""
    count = rng.choice([1, 2, 3, 4, 5], p=[0.38, 0.27, 0.17, 0.11, 0.07])
    close = 0.1 * config.variety
    kinds = rng.choice(4, size=count, p=[0.7 - close, 0.22, 0.08, close])
    spans = np.array([(0.45, 0.95), (0.2, 0.45), (0.07, 0.2), (1.0, 1.8)])[kinds]
    heights = list(rng.uniform(spans[:, 0], spans[:, 1]) * (1 - 0.06 * (count - 1)) * height)
    if rng.random() < 0.12:
        heights += list(rng.uniform(0.06, 0.14, rng.integers(2, 6)) * height)
    heights = np.maximum(heights[: config.max_people], max(30, config.least_height * height))
    return list(heights[np.argsort(heights * rng.lognormal(0, 0.15, len(heights)))])


def _place(rng: np.random.Generator, width: int, height_px: float, places: list[float], *, calm: bool) -> float:
    """Where across the image the next person stands: anywhere, often near the one before; a calm one where there is room."""
    if not calm and places and rng.random() < 0.35:
        return float(np.clip(places[-1] + rng.normal(0, 0.3) * height_px, 0, width))
    offers = rng.uniform(0.02, 0.98, 4) * width
    if not calm or not places:
        return float(offers[0])
    return float(max(offers, key=lambda x: np.abs(np.array(places) - x).min()))


def _add_figure(
    scene: Scene, rng: np.random.Generator, height_px: float, center_x: float, *, bottom: float | None = None, calm: bool = False
) -> None:
    height, width = scene.owner.shape
    figure = random_figure(rng, calm=calm)
    low, high = figure.extent() * height_px
    full = high[1] - low[1]
    outside = 0.0 if calm else 0.05 * height
    if calm:
        half = min(high[0] - low[0], width) / 2
        center_x = np.clip(center_x, half, width - half)
    if bottom is not None:
        top = bottom - full
    elif calm or full < 0.97 * height:
        top = (height + 2 * outside - full) * rng.beta(1.6, 1.2) - outside
    else:
        top = rng.uniform(-0.05, 0.15) * height  # the head stays in the picture, the legs are cut off
    placed = Placed(figure, (center_x - (low[0] + high[0]) / 2, top - low[1]), height_px)
    placed.draw(scene.image, scene.owner, len(scene.figures), scene.light)
    scene.figures.append(placed)


def _add_crowd(scene: Scene, rng: np.random.Generator) -> None:
    """A dense group of small figures, annotated as one region."""
    height, width = scene.owner.shape
    size, bottom = max(0.16 * height * rng.uniform(0.7, 1.1), 30), rng.uniform(0.4, 0.8) * height
    start, count = rng.uniform(0, 0.5) * width, rng.integers(10, 22)
    for k in range(count):
        scene.crowd.add(len(scene.figures))
        x = start + size * 0.22 * (k % (count // 2) + rng.uniform(-0.3, 0.3))
        _add_figure(scene, rng, size * rng.uniform(0.9, 1.1), x, bottom=bottom + (0.25 if k >= count // 2 else 0) * size)


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    def field_of(color, rows: int, columns: int, spread: float) -> np.ndarray:
        cells = np.clip(
            color + spread * (rng.normal(size=(rows, columns, 1)) + 0.5 * rng.normal(size=(rows, columns, 3))), 0, 255
        ).astype(np.uint8)
        return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)

    image = field_of(color_of_cloth(rng), *rng.integers(2, 7, 2), rng.uniform(5, 45))
    if rng.random() < 0.6:
        horizon = int(rng.uniform(0.3, 0.85) * height)
        image[horizon:] = field_of(color_of_cloth(rng), *rng.integers(2, 7, 2), rng.uniform(5, 30))[horizon:]
    for cell_px in rng.choice([2, 4, 9, 20], size=rng.integers(0, 3), replace=False):
        rows, columns = height // cell_px + 1, width // cell_px + 1
        grain = np.frombuffer(rng.bytes(rows * columns), np.uint8).reshape(rows, columns)
        grain = cv2.merge([cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)] * 3)
        strength = rng.uniform(0.05, 0.3)
        image = cv2.addWeighted(image, 1, grain, strength, -127.5 * strength)
    return image


def _add_object(scene: Scene, rng: np.random.Generator, center: np.ndarray, size_px: float) -> None:
    """A flat shape or a shaded one (ball, pole, limb-like branch), in front of all that is there."""
    if rng.random() < 0.55:
        count = rng.integers(3, 7)
        angles = np.sort(rng.uniform(0, 2 * np.pi, count)) if rng.random() < 0.5 else np.pi / 4 + np.arange(4) * np.pi / 2
        corners = np.stack([np.cos(angles), np.sin(angles)], -1) * size_px * rng.uniform(0.05, 1, 2)
        points = np.rint((corners + center) * 16).astype(np.int32)
        hull, color = cv2.convexHull(points), tuple(map(float, color_of_cloth(rng)))
        cv2.fillConvexPoly(scene.image, hull, color, cv2.LINE_AA, 4)
        cv2.fillConvexPoly(scene.owner, hull, 0, cv2.LINE_8, 4)
        if rng.random() < 0.4:
            cv2.polylines(
                scene.image, [hull], True, tuple(map(float, color_of_cloth(rng))), int(rng.integers(1, 5)), cv2.LINE_AA, 4
            )
        return
    thing = Figure(camera=np.eye(3))
    color = SKINS[rng.integers(len(SKINS))] if rng.random() < 0.25 else color_of_cloth(rng)
    place, heading, radius = np.zeros(3), rng.uniform(0, 2 * np.pi), rng.uniform(0.02, 0.14)
    chain = [ellipsoid(place, radius)]
    for _ in range(rng.integers(0, 4)):
        place = place + rng.uniform(0.2, 0.8) * np.array([np.cos(heading), np.sin(heading), 0])
        heading, radius = heading + rng.normal(0, 0.7), radius * rng.uniform(0.6, 1.0)
        chain.append(ellipsoid(place, radius))
    thing.add("bag", color, chain)
    Placed(thing, center, size_px).draw(scene.image, scene.owner, -1, scene.light)


def photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, brightness, contrast, color cast and sensor noise."""
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
    levels = (np.arange(256) / 255)[:, None] ** rng.uniform(0.8, 1.25) * rng.uniform(0.75, 1.15) * rng.uniform(0.9, 1.1, 3)
    image = cv2.LUT(image, np.clip(levels * 255, 0, 255).astype(np.uint8)[None])
    noise = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    strength = rng.uniform(0, 0.12)
    return cv2.addWeighted(image, 1, noise, strength, -127.5 * strength)
