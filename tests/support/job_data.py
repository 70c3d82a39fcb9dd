"""Images of many sizes, their annotations and a network without weights, for the tests of evaluation jobs."""

import json
import time

import cv2
import numpy as np
from evaluator_data import person, write_annotations

from pipeline.skeletons import COCO18

SIZES = [(120, 90), (90, 120), (100, 100), (160, 90), (97, 141), (300, 60)]


def write_images(folder, count=14, seed=0):
    """Write noise images and annotations into a folder. Returns the annotation file and the image folder."""
    rng = np.random.default_rng(seed)
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    images, people = {}, []
    for image_id in range(1, count + 1):
        width, height = SIZES[rng.integers(len(SIZES))]
        images[image_id] = f"{image_id}.png", width, height
        cv2.imwrite(str(pictures / f"{image_id}.png"), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        people += [(image_id, person(0.5 * width, 10, 0.2))] * (image_id % 3 > 0)
    return write_annotations(folder / "annotations.json", images, people), pictures


def shuffle(annotations, target):
    """Write a copy of the file with images and annotations in another order. Returns its path."""
    document, rng = json.loads(annotations.read_text()), np.random.default_rng(1)
    for name in ("images", "annotations"):
        rng.shuffle(document[name])
    target.write_text(json.dumps(document))
    return target


class NoiseNetwork:
    """Computes fields from the colors of each cell, so that noise images yield people."""

    skeleton, insize, stride_px = COCO18, 64, 8

    def __init__(self, delay_s=0.0):
        self.delay_s = delay_s
        self.shapes = []

    def fields(self, images):
        time.sleep(self.delay_s)
        self.shapes.append(images.shape)
        count, height, width, _ = images.shape
        cells = images.reshape(count, height // 8, 8, width // 8, 8, 3).astype(np.float32).mean(axis=(2, 4)) / 255
        cells = np.moveaxis(cells, 3, 1)
        heatmaps, pafs = (
            np.concatenate([np.roll(cells, i, axis=1)[:, :1] * (1 + i % 5) - 0.5 * (i % 5) for i in range(channels)], axis=1)
            for channels in (COCO18.num_heatmaps, COCO18.num_pafs)
        )
        return heatmaps * ((cells[:, 2:] * 997) % 1 < 0.15), pafs
