"""A checkpoint, and an evaluation of it with enough predicted people for a calibration."""

import json

import numpy as np
from evaluator_data import person, write_annotations
from trainer_data import make_info, small_tensors

from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import score_map
from evaluator.inference.config import InferConfig
from evaluator.inference.scoring import settings_of
from evaluator.jobs.config import RunConfig
from evaluator.jobs.run import identify
from pipeline.datasets.coco import CocoFile
from pipeline.skeletons import COCO18
from pipeline.storage.files import file_facts, write_json
from trainer.run.checkpoint import save_checkpoint

CALIBRATION = {
    "knots": [[0.0, 0.01], [4.0, 0.2], [9.0, 0.9]], "annotations": "a" * 64, "checkpoint": "b" * 64, "num_images": 30,
    "settings": settings_of(InferConfig(), 368, DecodeConfig()), "num_people": 90, "num_right": 40, "ece_before": 0.2, "ece_after": 0.02,
}  # fmt: skip


def write_calibratable(folder, count=60):
    """Write run/, annotations.json and ap/, the evaluation of the run's checkpoint; people with high raw scores are right."""
    checkpoint = folder / "run" / "step-00000007.safetensors"
    checkpoint.parent.mkdir(parents=True)
    save_checkpoint(checkpoint, make_info(), small_tensors())
    images = {number: (f"{number}.jpg", 900, 300) for number in range(1, count + 1)}
    annotations = write_annotations(folder / "annotations.json", images, [(number, person(200, 40)) for number in images])
    rng, results = np.random.default_rng(0), []
    for number in images:
        for x in (200, 600):
            raw = float(np.float32(rng.gamma(9.0, 1.5) if x == 200 else rng.gamma(2.0, 2.0)))
            score = float(score_map(COCO18)(np.array([raw]))[0])
            points = person(x, 40).ravel().tolist()
            results.append({"image_id": number, "category_id": 7, "keypoints": points, "score": score, "raw_score": raw})
    (folder / "ap").mkdir()
    write_json(folder / "ap" / "results.json", results)
    config = RunConfig(checkpoint=checkpoint, images=folder, annotations=annotations, out=folder / "ap")
    origin = {"checkpoint": file_facts(checkpoint)["sha256"], "step": 7, "epoch": 1, "insize": 64, "calibration": {}}
    identity = identify(config, CocoFile(annotations, COCO18), COCO18, origin)
    write_json(folder / "ap" / "evaluation.json", json.loads(json.dumps(identity)))
    return folder
