"""Random poses: ranges of joint angles in degrees, with the probability of each kind of pose."""

from typing import NamedTuple

import numpy as np

Range = tuple[float, float]


class ArmAngles(NamedTuple):
    """Ranges of the angles of an arm, in degrees."""

    raised_forward: Range
    raised_sideways: Range
    turned_inward: Range
    """Rotation about the upper arm."""
    elbow: Range


class LegAngles(NamedTuple):
    """Ranges of the angles of both legs, in degrees."""

    torso_lean: Range
    raised_forward: Range
    spread: Range
    knee: Range
    half_stride: Range


class Posture(NamedTuple):
    """Angles of the legs and arms of each side, "left" and "right"."""

    legs: dict[str, LegAngles]
    arms: dict[str, ArmAngles]


# Relative frequency of each kind of pose.
_ARMS = (
    (0.34, ArmAngles((-15, 20), (4, 18), (-10, 40), (3, 35))),  # hanging
    (0.16, ArmAngles((-20, 35), (6, 30), (10, 70), (55, 110))),  # bent in front of the body
    (0.09, ArmAngles((-30, -5), (32, 50), (60, 85), (70, 95))),  # hand on the hip
    (0.11, ArmAngles((-10, 30), (50, 100), (-40, 30), (0, 60))),  # stretched out sideways
    (0.11, ArmAngles((40, 100), (0, 25), (0, 40), (0, 70))),  # reaching forward
    (0.13, ArmAngles((125, 172), (5, 40), (-20, 30), (0, 75))),  # raised
    (0.06, ArmAngles((20, 60), (10, 40), (10, 40), (110, 138))),  # hand at the head
)
_UPRIGHT_LEGS = (
    (0.43, LegAngles((-4, 10), (-4, 6), (1, 9), (0, 10), (0, 6))),  # standing
    (0.21, LegAngles((0, 14), (0, 8), (0, 5), (4, 25), (14, 32))),  # walking
    (0.11, LegAngles((-6, 15), (0, 20), (12, 28), (0, 30), (0, 10))),  # legs apart
)
_LEGS = (
    *_UPRIGHT_LEGS,
    (0.13, LegAngles((-12, 20), (76, 100), (2, 18), (65, 105), (0, 8))),  # sitting
    (0.05, LegAngles((15, 45), (60, 115), (5, 25), (70, 125), (0, 15))),  # crouching
    (0.04, LegAngles((40, 80), (-5, 10), (1, 12), (0, 15), (0, 6))),  # bending down
)


def random_arm(rng: np.random.Generator) -> ArmAngles:
    """Draw the kind of pose of an arm."""
    return _ARMS[_draw(rng, [weight for weight, _ in _ARMS])][1]


def random_legs(rng: np.random.Generator, *, upright: bool) -> LegAngles:
    """Draw the kind of pose of the legs; if `upright`, the person stands or walks."""
    table = _UPRIGHT_LEGS if upright else _LEGS
    return table[_draw(rng, [weight for weight, _ in table])][1]


def _draw(rng: np.random.Generator, weights: list[float]) -> int:
    return int(rng.choice(len(weights), p=np.array(weights) / np.sum(weights)))
