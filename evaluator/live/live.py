"""The command `live`: find people in the newest frame of a source, again and again, and show them on a web page."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from evaluator.decoding.scores import ScoreMap
from evaluator.inference.engines import load_and_report
from evaluator.inference.scoring import calibration_of
from evaluator.inference.tuned import decoding_of
from evaluator.live.capture import Capture, Frame
from evaluator.live.config import LiveConfig
from evaluator.live.inputs import parse_source
from evaluator.live.server import LiveServer
from evaluator.live.view import View
from evaluator.predict.prediction import Prediction
from evaluator.predict.predictor import EVERYBODY, Predictor
from evaluator.tracking.smoothing import Smoother
from evaluator.tracking.tracker import Tracker
from pipeline.errors import Terminated, UserError, stop_error
from pipeline.runtime.interrupts import STOPPING
from pipeline.skeleton import Skeleton
from pipeline.wording import counted, printable


def run(config: LiveConfig) -> int:
    """Run the command. Raises UserError for a source, address or network that cannot be used, and if the source fails later."""
    source = parse_source(config.source)
    if config.loop and not source.is_file:
        raise UserError(f"--loop: only a video file ends and can begin again, and {source.name} is none; remove the option")
    with LiveServer(config.host, config.port, token=config.token) as server, Capture(source, loop=config.loop) as capture:
        network, _ = load_and_report(config.checkpoint, config.device, config.inference)
        predictor = Predictor.of(
            network,
            inference=config.inference,
            decoding=config.decoding.over(decoding_of(network)),
            calibration=calibration_of(network),
            select=EVERYBODY,
        )
        _warn(config, server)
        serve(config, predictor, network.skeleton, capture, server, predictor.to_scores)
    return 0


def serve(
    config: LiveConfig,
    find_people: Callable[[np.ndarray], Prediction],
    skeleton: Skeleton,
    capture: Capture,
    server: LiveServer,
    to_scores: ScoreMap | None = None,
) -> None:
    """Show the source until it ends.

    find_people: returns all people of an image, uint8 RGB (H, W, 3). to_scores: see `Tracker`.
    """
    view, follow = View(config.min_score), _Follower(skeleton, capture.fps, config, to_scores)
    server.start(view, lambda: _facts(capture, view))
    print(f"{printable(capture.source.name)}: open {server.page_address()} in a browser; Ctrl-C stops", flush=True)
    try:
        while frame := capture.take():
            prediction = find_people(frame.pixels)
            view.show(frame, follow(frame, prediction))
    except (KeyboardInterrupt, Terminated) as stop:
        number = stop.number if isinstance(stop, Terminated) else STOPPING[0]
        raise stop_error(number, _summary(capture, view)) from None
    print(f"{printable(capture.source.name)}: ended; {_summary(capture, view)}")


class _Follower:
    """Gives people identities, and smooth keypoints if asked to. Frames that were dropped count as time that passes."""

    def __init__(self, skeleton: Skeleton, fps: float, config: LiveConfig, to_scores: ScoreMap | None) -> None:
        self._tracker = Tracker(skeleton, fps, config.tracking, to_scores) if config.track else None
        self._smoother = Smoother(fps) if config.smooth else None
        self._fps, self._last_s = fps, 0.0

    def __call__(self, frame: Frame, prediction: Prediction) -> Prediction:
        if self._tracker is None:
            return prediction
        num_frames = max(1, round((frame.captured_s - self._last_s) * self._fps)) if self._last_s else 1
        self._last_s = frame.captured_s
        identities = self._tracker.update(prediction.found, num_frames, frame.pixels)
        keypoints = self._tracker.keypoints
        if self._smoother is not None:
            keypoints = self._smoother.update(keypoints, identities, num_frames)
        return prediction.tracked(identities, keypoints)


def _facts(capture: Capture, view: View) -> dict[str, Any]:
    return {
        "source": printable(capture.source.name),
        "state": capture.state,
        "source_fps": round(capture.rate.per_s(), 2),
        "num_captured": capture.num_captured,
        "num_dropped": capture.num_dropped,
        **view.facts(),
    }


def _summary(capture: Capture, view: View) -> str:
    return f"{counted(view.num_shown, 'frame')} analyzed, {capture.num_dropped:,} dropped"


def _warn(config: LiveConfig, server: LiveServer) -> None:
    if server.is_local:
        return
    who = "who has the printed address" if config.token else "(--no-token)"
    print(
        f"warning: --host {config.host}: the page is not encrypted, and everybody on the network {who} can see the pictures",
        file=sys.stderr,
        flush=True,
    )
