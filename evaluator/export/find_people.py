"""Find people with an exported network, without MindSpore: python find_people.py model.onnx photo.jpg [photo.jpg ...]

Prints the keypoints of every person and writes a drawing of each image, such as photo-people.jpg, to the current folder. Needs
onnxruntime, NumPy and OpenCV.
"""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from evaluator.decoding import DecodeConfig, People, decode
from evaluator.decoding.scores import score_map
from pipeline.draw import draw_people, write_picture
from pipeline.skeleton import Skeleton

MIN_SCORE = 0.5  # people with lower scores are printed, not drawn


class Model:
    """A network in an ONNX file, with everything that its metadata says about how to use it."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        about = self.session.get_modelmeta().custom_metadata_map
        self.skeleton = Skeleton(**{name: _tuples(value) for name, value in json.loads(about["skeleton"]).items()})
        self.decoding = DecodeConfig(**json.loads(about["decoding"]))
        self.to_scores = score_map(self.skeleton, json.loads(about.get("calibration", "{}")).get("knots", ()))
        self.insize, self.stride_px, self.gray = (int(about[name]) for name in ("insize", "stride_px", "padding_gray"))

    def find(self, image: np.ndarray) -> People:
        """Return the people in an image, uint8 RGB (H, W, 3), with keypoints in its pixels."""
        scale = self.insize / min(image.shape[:2])  # resize the shorter side to the size of the training crops
        height, width = (round(side * scale) for side in image.shape[:2])
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
        bottom, right = -height % self.stride_px, -width % self.stride_px
        padded = cv2.copyMakeBorder(resized, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=(self.gray,) * 3)
        heatmaps, pafs = self.session.run(["heatmaps", "pafs"], {"images": padded[None]})
        people = decode(heatmaps[0], pafs[0], self.skeleton, self.decoding)
        to_pixels = self.stride_px * np.divide(image.shape[1::-1], (width, height))
        people.keypoints[..., :2] = (people.keypoints[..., :2] + 0.5) * to_pixels - 0.5
        return people


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def main(words: list[str]) -> None:
    """Print and draw the people in images. words: the ONNX file, then the images."""
    if len(words) < 2:
        sys.exit(__doc__)
    model = Model(words[0])
    for word in words[1:]:
        image = cv2.imread(word, cv2.IMREAD_COLOR)
        if image is None:
            sys.exit(f"{word}: no such file, or not an image")
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        people = model.find(image)
        scores = model.to_scores(people.scores)
        shown = people.keypoints[scores >= MIN_SCORE]  # best score first
        for score, person in zip(scores, shown, strict=False):
            named = zip(model.skeleton.joints, person, strict=True)
            print(f"{score:.3f}", {name: [round(float(value), 1) for value in (x, y)] for name, (x, y, seen) in named if seen})
        out = Path(f"{Path(word).stem}-people.jpg")
        write_picture(out, draw_people(image, shown, model.skeleton))
        print(f"people: {len(shown)} with a score of at least {MIN_SCORE:g}; {out}")


if __name__ == "__main__":
    main(sys.argv[1:])
