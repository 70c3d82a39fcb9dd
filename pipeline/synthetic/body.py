"""Random figures: builds the body from a pose and clothes. Lengths are in body heights."""

from collections.abc import Mapping

import numpy as np

from pipeline.synthetic.clothes import Clothes, random_clothes
from pipeline.synthetic.figure import SIDES, Ellipsoid, Figure, ellipsoid, interpolate, turn
from pipeline.synthetic.pose import ArmAngles, LegAngles, Posture, Range, random_arm, random_legs

# Share of the leg that each garment covers.
_LEGWEAR = {"trousers": 1.0, "shorts": 0.7, "skirt": 0.0}


def random_figure(
    rng: np.random.Generator, *, yaw_degrees: float | None = None, upright: bool = False, posture: Posture | None = None
) -> Figure:
    """Draw a random body in a random pose.

    yaw_degrees: direction of view (0 front, 90 facing the right of the image, 180 back); None draws one.
    upright: the person stands or walks, and a random yaw shows the front or the back.
    posture: angles of arms and legs instead of random ones. It needs as many random numbers, so that equal generators give one
    person in several postures.
    """
    if yaw_degrees is None:
        views = [0.7, 0.0, 0.0, 0.3] if upright else [0.48, 0.13, 0.13, 0.26]
        yaw_degrees = rng.choice([0, 90, -90, 180], p=views) + rng.normal(0, 22 if upright else 26)
    lying = not upright and rng.random() < 0.04
    roll = rng.choice([-1, 1]) * rng.uniform(70, 110) if lying else rng.normal(0, 4)
    figure = Figure(camera=turn(2, roll) @ turn(0, -rng.normal(5, 6)) @ turn(1, yaw_degrees))
    child, girth = rng.random() < 0.15, rng.uniform(0.85, 1.3)
    clothes = random_clothes(rng)
    drawn = random_legs(rng, upright=upright)
    legs = posture.legs if posture else dict.fromkeys(SIDES, drawn)
    chest = turn(1, rng.normal(0, 10)) @ turn(2, rng.normal(0, 4)) @ turn(0, -rng.uniform(*legs["left"].torso_lean))
    _add_legs(figure, rng, legs, girth, clothes)
    neck = -(0.27 if child else 0.285) * chest[:, 1]
    _add_torso(figure, rng, chest, neck, girth, clothes)
    arms = random_arm(rng)
    for side in SIDES:
        arm = arms if rng.random() < 0.4 else random_arm(rng)
        _add_arm(figure, rng, side, neck, chest, posture.arms[side] if posture else arm, girth, clothes)
    head = chest @ turn(1, np.clip(rng.normal(0, 20), -60, 60)) @ turn(0, rng.normal(-3, 10)) @ turn(2, rng.normal(0, 7))
    _add_head(figure, rng, neck, chest, head, 0.078 if child else rng.uniform(0.058, 0.066), clothes)
    return figure


def _add_limb(
    figure: Figure,
    part: str,
    ends: tuple[np.ndarray, np.ndarray],
    radii: np.ndarray,
    colors: tuple[np.ndarray, np.ndarray],
    covered: float,
    bias: float,
) -> None:
    """Add a tapered limb: cloth in colors[0] over the fraction `covered` of its length, skin in colors[1] over the rest."""
    a, b = ellipsoid(ends[0], radii[0]), ellipsoid(ends[1], radii[1])
    if covered < 1:
        figure.add(part, colors[1], [interpolate(a, b, max(covered - 0.1, 0)), b], bias)
    if covered > 0:
        hem = interpolate(a, b, covered)
        figure.add(part, colors[0], [a, (hem[0], hem[1] * (1.0 if covered == 1 else 1.14))], bias + 0.001)


def _add_arm(
    figure: Figure,
    rng: np.random.Generator,
    side: str,
    neck: np.ndarray,
    chest: np.ndarray,
    angles: ArmAngles,
    girth: float,
    clothes: Clothes,
) -> None:
    sign = SIDES[side]
    forward, sideways, inward, bend = (rng.uniform(*limits) for limits in angles)
    shoulder = neck + chest @ np.array([sign * (0.088 + 0.018 * girth), 0.03, 0])
    upper = chest @ turn(0, forward) @ turn(2, -sign * sideways) @ turn(1, -sign * inward)
    fore = upper @ turn(0, bend)
    elbow = shoulder + 0.165 * upper[:, 1]
    wrist = elbow + 0.145 * fore[:, 1]
    palm = wrist + 0.045 * (fore @ turn(0, rng.uniform(-10, 40)))[:, 1]
    figure.joints |= {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist}
    radii, colors = np.array([0.036, 0.028, 0.019]) * (0.5 + 0.5 * girth), (clothes.shirt, clothes.skin)
    sleeve = clothes.sleeve
    _add_limb(figure, f"{side}_upper_arm", (shoulder, elbow), radii[:2], colors, min(2 * sleeve, 1), 0.03)
    _add_limb(figure, f"{side}_forearm", (elbow, wrist), radii[1:], colors, sleeve if sleeve > 0.9 else 0, 0.035)
    figure.add(f"{side}_hand", clothes.skin, [ellipsoid(wrist, 0.017), ellipsoid(palm, 0.024)], 0.034)


def _add_legs(figure: Figure, rng: np.random.Generator, angles: Mapping[str, LegAngles], girth: float, clothes: Clothes) -> None:
    leading = rng.choice(list(SIDES))
    half_stride = rng.uniform(*angles[leading].half_stride)
    thighs = [
        _add_leg(figure, rng, side, half_stride if side == leading else -half_stride, angles[side], girth, clothes)
        for side in SIDES
    ]
    waist = ellipsoid(np.array([0, -0.07, 0]), (0.088 * girth, 0.03, 0.06 * girth))
    pelvis = ellipsoid(np.array([0, -0.005, 0]), (0.075 + 0.03 * girth, 0.055, 0.068 * girth))
    figure.add("pelvis", clothes.trousers, [waist, pelvis], 0.002)
    if clothes.legwear == "skirt":
        figure.add("skirt", clothes.trousers, [pelvis, thighs[0]], 0.012)
        figure.add("skirt", clothes.trousers, [thighs[0], thighs[1]], 0.012)
        figure.add("skirt", clothes.trousers, [pelvis, thighs[1]], 0.013)


def _add_leg(
    figure: Figure, rng: np.random.Generator, side: str, ahead: float, angles: LegAngles, girth: float, clothes: Clothes
) -> Ellipsoid:
    """Add a leg that is `ahead` degrees forward of the pose; return the thigh at the height of a skirt's hem."""
    sign, covered = SIDES[side], _LEGWEAR[clothes.legwear]
    colors, radii = (clothes.trousers, clothes.skin), np.array([0.062, 0.042, 0.026]) * (0.45 + 0.55 * girth)
    limits: tuple[Range, Range, Range] = (angles.raised_forward, angles.spread, angles.knee)
    forward, spread, bend = (rng.uniform(*limit) for limit in limits)
    hip = np.array([sign * (0.05 + 0.017 * girth), 0.01, 0])
    upper = turn(0, forward + ahead) @ turn(2, -sign * spread) @ turn(1, sign * rng.uniform(0, 15))
    lower = upper @ turn(0, -bend - max(-ahead, 0) * 0.8)
    knee = hip + 0.245 * upper[:, 1]
    ankle = knee + 0.235 * lower[:, 1]
    sole = lower @ turn(0, rng.uniform(-8, 12))
    figure.joints |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
    _add_limb(figure, f"{side}_thigh", (hip, knee), radii[:2], colors, covered, 0.0)
    _add_limb(figure, f"{side}_shin", (knee, ankle), radii[1:], colors, covered if covered == 1 else 0, 0.002)
    heel, toe = ankle + sole @ np.array([0, 0.022, -0.018]), ankle + sole @ np.array([0, 0.034, 0.085])
    figure.add(f"{side}_foot", clothes.shoes, [ellipsoid(heel, 0.024), ellipsoid(toe, (0.024, 0.014, 0.02), sole)], 0.004)
    return ellipsoid(hip + 0.184 * upper[:, 1], 0.07)


def _add_torso(
    figure: Figure, rng: np.random.Generator, chest: np.ndarray, neck: np.ndarray, girth: float, clothes: Clothes
) -> None:
    def place(x: float, y: float, z: float) -> np.ndarray:
        return neck + chest @ np.array([x, y, z])

    length = float(np.linalg.norm(neck))
    levels = [
        ellipsoid(place(0, 0.022, 0), ((0.078 + 0.018 * girth), 0.03, 0.045), chest),
        ellipsoid(place(0, 0.085, 0.005), ((0.07 + 0.04 * girth), 0.05, 0.066 * girth), chest),
        ellipsoid(place(0, 0.19, 0), (0.096 * girth, 0.05, 0.06 * girth), chest),
        ellipsoid(place(0, length - rng.uniform(0.0, 0.05), 0), (0.072 + 0.032 * girth, 0.035, 0.068 * girth), chest),
    ]
    figure.add("torso", clothes.shirt, levels, 0.006)
    for band in np.linspace(0.1, 0.9, clothes.num_stripes):
        height = 1 + 2 * band
        level = min(int(height), 2)
        center, axes = interpolate(levels[level], levels[level + 1], height - level)
        figure.add("torso", clothes.second, [(center, axes * np.array([1.0, 0.12, 1.0]))], 0.0065, flat=True)
    if figure.depth(chest[:, 2]) > 0.1:
        _add_shirt_front(figure, neck, chest, girth, clothes)
    if clothes.bag:
        bag = [ellipsoid(place(0, y, -0.1), (0.085, 0.05, 0.05), chest) for y in (0.06, 0.17)]
        figure.add("bag", clothes.second * 0.8, bag, 0.0)
    throat = [ellipsoid(place(0, 0.01, 0), 0.031), ellipsoid(place(0, -0.06, 0.008), 0.029)]
    figure.add("neck", clothes.skin * 0.9, throat, 0.004)


def _add_shirt_front(figure: Figure, neck: np.ndarray, chest: np.ndarray, girth: float, clothes: Clothes) -> None:
    """Add neckline, logo or buttons, which tell the front of a body from its back."""

    def place(x: float, y: float, z: float) -> np.ndarray:
        return neck + chest @ np.array([x, y, z])

    collar, hem = place(0, 0.035, 0.055), place(0, float(np.linalg.norm(neck)) - 0.05, 0.066 * girth)
    if clothes.front == "logo":
        logo = ellipsoid(place(0, 0.1, 0.066 * girth), (0.045, 0.028, 0.005), chest)
        figure.add("torso", clothes.second, [logo], 0.007, flat=True)
    elif clothes.front != "plain":
        radius = {"buttons": 0.006, "jacket": 0.028}[clothes.front]
        figure.add("torso", clothes.second, [ellipsoid(collar, radius), ellipsoid(hem, radius)], 0.007, flat=True)
    neckline = ellipsoid(place(0, 0.01, 0.04), (0.032, 0.024, 0.01), chest)
    figure.add("torso", clothes.skin, [neckline], 0.008, flat=True)


def _add_head(
    figure: Figure,
    rng: np.random.Generator,
    neck: np.ndarray,
    chest: np.ndarray,
    head: np.ndarray,
    size: float,
    clothes: Clothes,
) -> None:
    center = neck - 0.042 * chest[:, 1] - 1.08 * size * head[:, 1] + 0.008 * chest[:, 2]
    skin, hair = clothes.skin, clothes.hair

    def blob(x: float, y: float, z: float, rx: float, ry: float, rz: float) -> Ellipsoid:
        """An ellipsoid in head axes; the unit is the head size."""
        return ellipsoid(center + size * head @ np.array([x, y, z]), size * np.array([rx, ry, rz]), head)

    figure.joints["nose"] = blob(0, 0.22, 1.08, 1, 1, 1)[0]
    figure.add("skull", hair, [blob(0, -0.1, -0.1, 0.9, 0.98, 0.98)], 0.010)
    figure.add("face", skin, [blob(0, 0.02, 0.3, 0.8, 0.84, 0.66), blob(0, 0.5, 0.34, 0.58, 0.62, 0.54)], 0.016)
    if clothes.long_hair:
        figure.add("hair", hair, [blob(0, 0, -0.3, 0.98, 0.9, 0.74), blob(0, 1.6, -0.5, 0.95, 0.5, 0.4)], 0.002)
    if clothes.hat:
        figure.add("hat", clothes.second, [blob(0, -0.62, 0, 0.97, 0.52, 1.0)], 0.05)
        figure.add("hat", clothes.second * 0.8, [blob(0, -0.5, 0.6, 0.85, 0.12, 0.85)], 0.051)
    facing, ears_covered = figure.depth(head[:, 2]), clothes.long_hair and rng.random() < 0.5
    for side, sign in SIDES.items():
        eye, ear = blob(sign * 0.37, -0.06, 0.84, 0.2, 0.13, 0.1), blob(sign * 0.92, 0.1, -0.08, 1, 1, 1)
        figure.joints |= {f"{side}_eye": eye[0], f"{side}_ear": ear[0]}
        if not ears_covered:
            figure.add(f"{side}_ear", skin * 0.9, [blob(sign * 0.92, y, -0.08, 0.13, 0.16, 0.2) for y in (0, 0.22)], 0.011)
        if figure.depth(head @ np.array([sign * 0.42, 0, 0.9])) > 0.1:
            figure.add(f"{side}_eye", (238, 238, 236), [eye], 0.03, flat=True)
            figure.add(f"{side}_eye", (30, 24, 22), [blob(sign * 0.37, -0.06, 0.88, 0.1, 0.12, 0.1)], 0.031, flat=True)
            figure.add(f"{side}_eye", hair * 0.7, [blob(sign * x, -0.36, 0.82, 0.07, 0.06, 0.06) for x in (0.2, 0.56)], 0.03)
    if facing > -0.1:
        figure.add("nose", skin * 0.88, [blob(0, -0.04, 0.92, 0.08, 0.08, 0.08), blob(0, 0.24, 1.02, 0.17, 0.12, 0.15)], 0.032)
    if facing > 0.15:
        figure.add("face", (150, 52, 52), [blob(x, 0.62, 0.82, 0.1, 0.07, 0.08) for x in (-0.2, 0.2)], 0.031, flat=True)
