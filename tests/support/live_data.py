"""A video, a predictor without a network and a client, for the tests of `live`."""

import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from evaluator_data import STANDING

from evaluator.decoding import DecodeConfig, People
from evaluator.decoding.scores import score_map
from evaluator.inference.exported import FORMAT, FORMAT_VERSION
from evaluator.live.capture import Capture
from evaluator.live.config import LiveConfig
from evaluator.live.inputs import parse_source
from evaluator.live.live import serve
from evaluator.live.server import LiveServer
from evaluator.predict.prediction import to_prediction
from pipeline.skeletons import COCO18

SIZE = (320, 240)
NOSES = (80, 30), (230, 30)  # of the two people
RAW_SCORES, SCORES = (10.0, 2.5), (0.9, 0.6)
TO_SCORES = score_map(COCO18, tuple(zip(RAW_SCORES[::-1], SCORES[::-1], strict=True)))  # as of a calibrated network
GRAY = 60


def write_video(path, num_frames=40, fps=40.0):
    """Write a video of gray frames. Returns its path."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, SIZE)
    for _ in range(num_frames):
        video.write(np.full((SIZE[1], SIZE[0], 3), GRAY, np.uint8))
    video.release()
    return path


def keypoints_at(x, y, scale=0.8):
    """Return the keypoints of a standing person: float32 (18, 3)."""
    offsets = dict(STANDING, neck=(0, 30))
    return np.array([(x + scale * offsets[j][0], y + scale * offsets[j][1], 1) for j in COCO18.joints], np.float32)


def write_network(path):
    """Write an exported network of a single convolution, without MindSpore. Returns its path."""
    import onnx

    counts = [COCO18.num_heatmaps, COCO18.num_pafs]
    weights = np.random.default_rng(0).normal(0, 0.01, (sum(counts), 3, 8, 8)).astype(np.float32)
    constants = [onnx.numpy_helper.from_array(weights, "weights"), onnx.numpy_helper.from_array(np.array(counts), "counts")]
    nodes = [
        onnx.helper.make_node("Cast", ["images"], ["floats"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Conv", ["planes", "weights"], ["fields"], strides=[8, 8]),
        onnx.helper.make_node("Split", ["fields", "counts"], ["heatmaps", "pafs"], axis=1),
    ]
    inputs = [onnx.helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["n", "h", "w", 3])]
    outputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", count, "y", "x"])
        for name, count in zip(("heatmaps", "pafs"), counts, strict=True)
    ]
    graph = onnx.helper.make_graph(nodes, "network", inputs, outputs, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION)}
    values = {"stride_px": 8, "insize": 64, "skeleton": COCO18.to_dict(), "decoding": asdict(DecodeConfig())}
    values |= {"input": {"shape": [None, None, None, 3]}, "checkpoint": {"step": 7, "epoch": 0}}
    onnx.helper.set_model_props(model, metadata | {name: json.dumps(value) for name, value in values.items()})
    onnx.save(model, path)
    return path


class TwoPeople:
    """Finds the same two people in every image, each time after `delay_s`, as soon as `may_answer` is set."""

    def __init__(self, delay_s=0.0):
        self.delay_s = delay_s
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, image):
        assert image.dtype == np.uint8 and image.shape == (SIZE[1], SIZE[0], 3) and abs(int(image[0, 0, 0]) - GRAY) < 4
        time.sleep(self.delay_s)
        assert self.may_answer.wait(30)
        people = People(keypoints=np.stack([keypoints_at(*nose) for nose in NOSES]), scores=np.array(RAW_SCORES, np.float32))
        return to_prediction(people, SIZE, COCO18, TO_SCORES)


class Client:
    """Asks a server as the page does. headers: what every request has."""

    def __init__(self, server):
        self.address, _, token = server.page_address().partition("#token=")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(self, path, body=None, **headers):
        """Return status, headers and body of an answer. Headers replace those of the client; None leaves one out."""
        merged = {name: value for name, value in (self.headers | headers).items() if value is not None}
        request = urllib.request.Request(self.address + path, data=body, headers=merged)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def status(self):
        """Return the figures."""
        return json.loads(self.ask("status")[2])

    def frame(self, after=0):
        """Return the headers and the pixels, uint8 BGR, of the next picture."""
        status, headers, jpeg = self.ask(f"frame?after={after}")
        assert status == 200, status
        return headers, cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)

    def set_min_score(self, value, **headers):
        """Ask to draw people with at least this score; returns the status."""
        body = value if isinstance(value, bytes) else json.dumps({"min_score": value}).encode()
        return self.ask("threshold", body, **{"Content-Type": "application/json", **headers})[0]

    def wait_for(self, condition, timeout_s=15.0):
        """Return the figures as soon as they meet a condition."""
        deadline_s = time.monotonic() + timeout_s
        while not condition(facts := self.status()):
            assert time.monotonic() < deadline_s, facts
            time.sleep(0.02)
        return facts


@contextmanager
def serving(source, find_people, **options):
    """Run the command without a network, in a thread. Yields a client."""
    config = LiveConfig(source=str(source), checkpoint=Path("none"), port=0, **options)
    with LiveServer(config.host, config.port, token=config.token) as server:
        with Capture(parse_source(config.source), loop=config.loop) as capture:
            thread = threading.Thread(target=serve, args=(config, find_people, COCO18, capture, server, TO_SCORES))
            thread.start()
            while server.view is None:
                time.sleep(0.01)
            yield Client(server)
        thread.join(10)
        assert not thread.is_alive()
