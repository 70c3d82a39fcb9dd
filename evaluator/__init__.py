"""Evaluation stage: run a network on images, decode its fields into people, and score, draw and report them.

    from evaluator import Predictor

Sub-packages: `decoding` (fields to people), `inference` (images to fields), `metrics` (scores), `jobs` (resumable evaluations), `tuning` (of the decoder),
`predict` (the Python interface, photos, videos), `tracking` (people over frames), `live` (web page of a camera), `export`,
`publish` (a folder with a model card), `report` and `ceiling` (limits of the decoder). Imports `pipeline` and `trainer`;
importing it does nothing: `Predictor` and what it returns are imported when they are used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evaluator.predict.prediction import Box, Joint, Person, Prediction
    from evaluator.predict.predictor import Predictor

_MODULES = {"Predictor": "predictor", **dict.fromkeys(("Prediction", "Person", "Joint", "Box"), "prediction")}
__all__ = ["Box", "Joint", "Person", "Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.predict.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
