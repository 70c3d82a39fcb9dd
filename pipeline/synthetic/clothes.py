"""Random skin, hair and clothes. Colors are RGB, float64 (3,), 0 to 255."""

from dataclasses import dataclass

import cv2
import numpy as np

SKIN_COLORS = ((244, 208, 180), (232, 186, 150), (214, 162, 122), (184, 128, 88), (140, 92, 62), (96, 62, 44))
_HAIR_COLORS = (
    *((28, 22, 20), (58, 38, 26), (98, 62, 34), (150, 104, 54)),
    *((206, 168, 100), (150, 148, 146), (128, 52, 28)),
)


@dataclass(frozen=True, kw_only=True)
class Clothes:
    """Colors, and which garments a figure wears."""

    skin: np.ndarray
    shirt: np.ndarray
    second: np.ndarray
    """Color of logo, stripes, hat and bag."""
    trousers: np.ndarray
    shoes: np.ndarray
    hair: np.ndarray
    sleeve: float
    """Length of the sleeves as a fraction of the arm."""
    legwear: str
    """"trousers", "shorts" or "skirt"."""
    front: str
    """What is on the front of the shirt: "plain", "logo", "buttons" or "jacket"."""
    num_stripes: int
    long_hair: bool
    hat: bool
    bag: bool


def random_clothes(rng: np.random.Generator) -> Clothes:
    """Draw skin, hair and clothes."""
    # The order of the arguments is the order of the random draws.
    return Clothes(
        skin=np.array(SKIN_COLORS[rng.integers(len(SKIN_COLORS))]) * rng.uniform(0.92, 1.05),
        shirt=random_color(rng),
        second=random_color(rng),
        trousers=random_color(rng),
        shoes=random_color(rng) * 0.7,
        hair=np.array(_HAIR_COLORS[rng.integers(len(_HAIR_COLORS))], np.float64),
        sleeve=float(rng.choice([0.0, 0.55, 1.0], p=[0.12, 0.43, 0.45])),
        legwear=str(rng.choice(["trousers", "shorts", "skirt"], p=[0.62, 0.22, 0.16])),
        front=str(rng.choice(["plain", "logo", "buttons", "jacket"], p=[0.2, 0.3, 0.25, 0.25])),
        num_stripes=int(rng.choice([0, 2, 4], p=[0.7, 0.12, 0.18])),
        long_hair=rng.random() < 0.35,
        hat=rng.random() < 0.12,
        bag=rng.random() < 0.1,
    )


def random_color(rng: np.random.Generator) -> np.ndarray:
    """Draw a color: muted, dark, light or bright."""
    hsv = np.array([[[rng.integers(180), rng.integers(20, 220), rng.integers(35, 245)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)
