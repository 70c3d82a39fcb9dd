"""Find people with an exported network, without MindSpore: python onnx_example.py openpose.onnx photo.jpg"""

import json
import sys

import cv2
import numpy as np
import onnxruntime

from evaluator.decoding import DecodeConfig, decode
from pipeline.skeleton import Skeleton

if len(sys.argv) != 3:
    sys.exit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
skeleton, decoding = Skeleton.from_dict(json.loads(about["skeleton"])), DecodeConfig(**json.loads(about["decoding"]))
insize, stride_px, gray = (int(about[name]) for name in ("insize", "stride_px", "padding_gray"))

image = cv2.imread(sys.argv[2], cv2.IMREAD_COLOR_RGB)
if image is None:
    sys.exit(f"{sys.argv[2]}: no such file, or not an image")
scale = insize / min(image.shape[:2])  # resize the shorter side to the size of the training crops
height, width = (round(side * scale) for side in image.shape[:2])
resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
padded = cv2.copyMakeBorder(resized, 0, -height % stride_px, 0, -width % stride_px, cv2.BORDER_CONSTANT, value=(gray,) * 3)

heatmaps, pafs = session.run(["heatmaps", "pafs"], {"images": padded[None]})
people = decode(heatmaps[0], pafs[0], skeleton, decoding)
pixels = (people.keypoints[..., :2] + 0.5) * stride_px * np.divide(image.shape[1::-1], (width, height)) - 0.5
for score, joints, found in zip(people.scores, pixels, people.keypoints[..., 2] > 0, strict=True):
    named = zip(skeleton.joints, joints, found, strict=True)
    print(f"{score:.3f}", {name: joint.round(1).tolist() for name, joint, seen in named if seen})
print(f"people: {len(people.scores)}")
