"""The frames of one video, in order: identities, smooth keypoints, drawings, and the annotated video."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from evaluator.predict.config import PredictConfig
from evaluator.predict.encoding import Sound, VideoWriter
from evaluator.predict.prediction import Prediction
from evaluator.predict.predictor import Predictor
from evaluator.predict.styles import draw_styled
from evaluator.predict.video import Video
from evaluator.tracking.smoothing import Smoother
from evaluator.tracking.tracker import Tracker


class FrameSequence(AbstractContextManager):
    """Finishes the frames of one video. Use it as a context manager, and from one thread at a time."""

    def __init__(
        self, video: Video, source: Path, path: Path, config: PredictConfig, predictor: Predictor, ffmpeg: str | None
    ) -> None:
        """path: of the annotated video. ffmpeg: see `VideoWriter`."""
        options = config.video
        fps = video.fps / options.step
        self._config = config
        self._tracker = Tracker(predictor.skeleton, fps, config.tracking, predictor.to_scores) if options.track else None
        self._smoother = Smoother(fps) if options.smooth else None
        first, end = options.range
        sound = Sound(
            source=source,
            start_s=first / video.fps,
            end_s=None if end is None else end / video.fps,
            speed=options.speed,
        )
        self._writer = VideoWriter(path, fps * options.speed, ffmpeg, sound)

    def __exit__(self, *error: object) -> None:
        self._writer.__exit__(*error)  # type: ignore[arg-type] # what Python passes

    def finish(self, prediction: Prediction, pixels: np.ndarray) -> Prediction:
        """Add the next frame to the annotated video. Returns its people with identities and, if asked for, smooth keypoints."""
        if self._tracker is not None:
            identities = self._tracker.update(prediction.found, image=pixels)
            keypoints = self._tracker.keypoints
            if self._smoother is not None:
                keypoints = self._smoother.update(keypoints, identities)
            prediction = prediction.tracked(identities, keypoints)
        self._writer.write(draw_styled(pixels, prediction, self._config.select, self._config.drawing))
        return prediction
