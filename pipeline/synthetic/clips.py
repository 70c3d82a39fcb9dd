"""Clips: walking people who cross and hide each other behind and between objects, frame by frame.

Frame i of a clip is a pure function of (seed, clip, i) and of the length of the clip.
"""

from collections.abc import Iterator

import cv2
import numpy as np

from pipeline.synthetic.body import random_figure
from pipeline.synthetic.clothes import random_color
from pipeline.synthetic.config import SynthesizeConfig
from pipeline.synthetic.drawing import PlacedFigure
from pipeline.synthetic.motion import CAMERA_HEIGHT_M, FARTHEST_M, FOCAL_HEIGHTS, HORIZON, NEAREST_M, Walker, crossing, wandering
from pipeline.synthetic.scene import Scene, add_object, background, photograph

MIN_DISTANCE_M = 0.7  # between two people, who cannot walk through each other
MAX_TRIES = 60
_CLIP = 2  # sets the random numbers of clips apart from those of images


class Clip:
    """A clip: its people, its objects, and its camera."""

    def __init__(self, config: SynthesizeConfig, number: int) -> None:
        self.config, self._key = config, [config.seed, number, _CLIP]
        rng = np.random.default_rng(self._key)
        self.focal_px, self.horizon_px = FOCAL_HEIGHTS * config.height, HORIZON * config.height
        self.walkers = self._walkers(rng)
        angle = rng.uniform(np.pi, 2 * np.pi)  # the light comes from above
        self._light = np.array([np.cos(angle), np.sin(angle)])
        self._pillars = [self._pillar(rng) for _ in range(rng.integers(0, 3))]
        self._background = self._empty_scene(rng)
        self._camera = int(rng.integers(2**31))

    def _walkers(self, rng: np.random.Generator) -> list[Walker]:
        config, clips = self.config, self.config.clips
        width_m = config.width / self.focal_px
        count = int(rng.integers(min(2, clips.max_walkers), clips.max_walkers + 1))
        walkers: list[Walker] = []
        for _ in range(MAX_TRIES):
            if len(walkers) == count:
                break
            crosses = len(walkers) + 2 <= count and (not walkers or rng.random() < 0.5)
            new = crossing if crosses else wandering
            added = new(rng, clips.num_frames, clips.fps, width_m)
            if _are_apart(walkers + added):
                walkers += added
        return walkers

    def _pillar(self, rng: np.random.Generator) -> tuple[float, np.ndarray, np.ndarray]:
        """Return distance in meters, x range in pixels and color of a pillar or a wall that hides whoever is behind it."""
        z_m = rng.uniform(NEAREST_M - 0.6, FARTHEST_M - 1)
        center, width = rng.uniform(0.15, 0.85) * self.config.width, rng.uniform(0.25, 0.9) * self.focal_px / z_m
        return z_m, np.array([center - width / 2, center + width / 2]), random_color(rng)

    def _empty_scene(self, rng: np.random.Generator) -> np.ndarray:
        config = self.config
        scene = self._scene(background(rng, config.height, config.width))
        for _ in range(rng.poisson(config.scene.clutter)):
            add_object(scene, rng, rng.uniform((0, 0), (config.width, config.height)), config.height * rng.uniform(0.05, 0.3))
        return scene.image

    def _scene(self, image: np.ndarray) -> Scene:
        return Scene(image=image, owner=np.zeros(image.shape[:2], np.int32), light=self._light)

    def frames(self) -> Iterator[Scene]:
        """Yield the scenes. `figures` of each are all people of the clip, also those outside the image."""
        for frame in range(self.config.clips.num_frames):
            scene = self._scene(self._background.copy())
            scene.figures = [self._placed(walker, frame) for walker in self.walkers]
            things = [(float(walker.route.z_m[frame]), number) for number, walker in enumerate(self.walkers)]
            things += [(z_m, -1 - i) for i, (z_m, _, _) in enumerate(self._pillars)]
            for _, number in sorted(things, reverse=True):  # the farthest first
                if number < 0:
                    self._draw_pillar(scene, -1 - number)
                elif self._is_near(scene.figures[number]):
                    scene.figures[number].draw(scene.image, scene.owner, number, scene.light)
            noise = np.random.default_rng([*self._key, frame])
            scene.image = photograph(scene.image, np.random.default_rng(self._camera), noise)
            yield scene

    def _placed(self, walker: Walker, frame: int) -> PlacedFigure:
        route = walker.route
        x_m, z_m = route.x_m[frame], route.z_m[frame]
        posture = walker.posture(frame)
        figure = random_figure(
            np.random.default_rng(walker.body), yaw_degrees=route.yaw_degrees[frame], upright=True, posture=posture
        )
        scale = self.focal_px / z_m  # pixels per meter
        height_px = walker.height_m * scale
        ankles = np.array([figure.joints["left_ankle"], figure.joints["right_ankle"]])
        lowest = float((ankles @ figure.camera[1]).max()) + 0.05  # of the soles below the pelvis, in body heights
        ground_px = self.horizon_px + CAMERA_HEIGHT_M * scale
        return PlacedFigure(figure, (self.config.width / 2 + x_m * scale, ground_px - lowest * height_px), height_px)

    def _is_near(self, placed: PlacedFigure) -> bool:
        """Whether the figure can be in the image."""
        return bool(-placed.height_px < placed.origin[0] < self.config.width + placed.height_px)

    def _draw_pillar(self, scene: Scene, number: int) -> None:
        z_m, (left, right), color = self._pillars[number]
        bottom = self.horizon_px + CAMERA_HEIGHT_M * self.focal_px / z_m
        thirds = np.linspace(left, right, 4)
        for brightness, a, b in zip((0.75, 1.0, 0.85), thirds[:-1], thirds[1:], strict=True):
            corners = (round(a), 0), (round(b), round(bottom))
            cv2.rectangle(scene.image, *corners, np.clip(color * brightness, 0, 255).tolist(), -1)
            cv2.rectangle(scene.owner, *corners, [0], -1)


def _are_apart(walkers: list[Walker]) -> bool:
    """Return whether no two people ever stand in the same place."""
    routes = [walker.route for walker in walkers]
    return all(
        np.hypot(one.x_m - other.x_m, one.z_m - other.z_m).min() >= MIN_DISTANCE_M
        for place, one in enumerate(routes)
        for other in routes[place + 1 :]
    )
