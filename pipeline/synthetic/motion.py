"""How people of a clip move: gait and routes.

World axes: X to the right of the camera and Z away from it, in meters, on flat ground. A pinhole camera at CAMERA_HEIGHT_M looks at
the horizon; lengths on the screen are `focal_px` / Z times those in the world.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.synthetic.figure import SIDES
from pipeline.synthetic.pose import ArmAngles, LegAngles, Posture, random_arm

CAMERA_HEIGHT_M = 1.45
HORIZON = 0.42  # height of the horizon in the image, from the top, as a fraction
FOCAL_HEIGHTS = 1.3  # focal length in image heights
NEAREST_M, FARTHEST_M = 3.6, 8.5
LEG_LENGTHS = 0.48  # of a leg, in body heights


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where a person is in each of N frames, float64 (N,).

    x_m, z_m: place on the ground; yaw_degrees: direction of view (0 toward the camera, 90 to the right of the image); phase: of the
    gait cycle, in radians; stride: 1 at full speed, 0 when standing.
    """

    x_m: np.ndarray
    z_m: np.ndarray
    yaw_degrees: np.ndarray
    phase: np.ndarray
    stride: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Walker:
    """A person of a clip. body: seeds figure and clothes; height_m: body height; swing_degrees: largest angle of the thighs."""

    body: int
    height_m: float
    swing_degrees: float
    arms: dict[str, ArmAngles]
    route: Route

    def posture(self, frame: int) -> Posture:
        """Return the angles of arms and legs in a frame.

        The thighs swing like a cosine; a knee bends while its foot is in the air; the arms swing against the legs. After the curves
        of hip and knee in Perry and Burnfield, "Gait Analysis", 2010.
        """
        stride = self.route.stride[frame]
        lean = 2 + 4 * stride
        legs, arms = {}, {}
        for side, shift in (("left", 0.0), ("right", np.pi)):
            phase = self.route.phase[frame] + shift
            thigh = 3 + stride * self.swing_degrees * np.cos(phase)
            knee = 6 + stride * (8 + 46 * max(0.0, np.sin(phase - 0.9 * np.pi)) ** 1.5)
            legs[side] = LegAngles((lean, lean), (thigh, thigh), (3, 3), (knee, knee), (0, 0))
            swing = -0.8 * stride * self.swing_degrees * np.cos(phase)
            forward, sideways, inward, elbow = (float(np.mean(angle)) for angle in self.arms[side])
            arms[side] = ArmAngles(
                *(((angle, angle)) for angle in (forward + swing, sideways, inward, elbow + max(0.0, swing) / 2))
            )
        return Posture(legs, arms)


def crossing(rng: np.random.Generator, num_frames: int, fps: float, width_m: float) -> list[Walker]:
    """Return two people who walk in opposite directions and are at the same place of the image once in the clip.

    width_m: width of the visible part of the ground at a distance of 1 m.
    """
    meeting = rng.uniform(0.35, 0.65) * (num_frames - 1) / fps
    place = rng.uniform(-0.15, 0.15) * width_m
    near = rng.uniform(NEAREST_M, 6.0)
    depths = [near, near + rng.uniform(0.5, 2.0)]
    walkers = []
    for depth, direction in zip(rng.permutation(depths), (1, -1), strict=True):
        speed, heading = rng.uniform(0.8, 1.7), np.radians(90 * direction + rng.normal(0, 8))
        velocity = speed * np.array([np.sin(heading), -np.cos(heading)])
        start = np.array([place * depth, depth]) - velocity * meeting
        walkers.append(_walker(rng, start, np.full(num_frames, heading), np.full(num_frames, speed), fps))
    return walkers


def wandering(rng: np.random.Generator, num_frames: int, fps: float, width_m: float) -> list[Walker]:
    """Return one person who stands, walks in a curve, or stops on the way, and is in the image in the middle of the clip."""
    kind = rng.choice(["standing", "walking", "stopping"], p=[0.25, 0.45, 0.3])
    depth = rng.uniform(NEAREST_M + 0.5, FARTHEST_M)
    seconds = np.arange(num_frames) / fps
    speed = np.full(num_frames, 0.0 if kind == "standing" else rng.uniform(0.5, 1.5))
    if kind == "stopping":
        stop, pause = rng.uniform(0.2, 0.6) * seconds[-1], rng.uniform(0.5, 1.5)
        speed *= np.clip(np.abs(seconds - stop - pause / 2) / 0.4 - pause / 0.8, 0, 1)
    heading = np.radians(rng.uniform(-180, 180) + rng.normal(0, 15) * (seconds - seconds[-1] / 2))
    walker = _walker(rng, np.zeros(2), heading, speed, fps)
    middle = num_frames // 2
    depth += max(0.0, NEAREST_M - 0.6 - float(walker.route.z_m.min() - walker.route.z_m[middle] + depth))
    offset = np.array([rng.uniform(-0.4, 0.4) * width_m * depth - walker.route.x_m[middle], depth - walker.route.z_m[middle]])
    return [_walker(rng, offset, heading, speed, fps)]


def _walker(rng: np.random.Generator, start: np.ndarray, heading: np.ndarray, speed: np.ndarray, fps: float) -> Walker:
    """heading in radians (0 toward the camera), speed in m/s: float64 (N,)."""
    height_m, swing = rng.uniform(1.5, 1.92), rng.uniform(20, 28)
    step = speed / fps
    moved = np.concatenate([[0.0], np.cumsum(step)[:-1]])
    x = start[0] + np.concatenate([[0.0], np.cumsum(step * np.sin(heading))[:-1]])
    z = start[1] - np.concatenate([[0.0], np.cumsum(step * np.cos(heading))[:-1]])
    stride_m = 4 * LEG_LENGTHS * height_m * np.sin(np.radians(swing))  # two steps; the feet do not slide
    route = Route(
        x_m=x,
        z_m=z,
        yaw_degrees=np.degrees(heading),
        phase=rng.uniform(0, 2 * np.pi) + 2 * np.pi * moved / stride_m,
        stride=speed / max(float(speed.max()), 1e-9),
    )
    hanging = random_arm(rng) if rng.random() < 0.3 else ArmAngles((-8, 8), (5, 12), (0, 20), (8, 24))
    arms = {side: hanging if rng.random() < 0.8 else random_arm(rng) for side in SIDES}
    return Walker(body=int(rng.integers(2**31)), height_m=height_m, swing_degrees=swing, arms=arms, route=route)
