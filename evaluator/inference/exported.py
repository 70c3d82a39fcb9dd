"""An exported network in ONNX Runtime. Needs no MindSpore."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from msgspec import Meta

from evaluator.decoding import DecodeConfig
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Count, convert, parse_json
from pipeline.storage.files import require_regular
from pipeline.wording import printable

FORMAT, FORMAT_VERSION = "openpose-mindspore network", 2
INPUT, OUTPUTS = "images", ("heatmaps", "pafs")
ADVICE = "export it again with `python -m evaluator export --format ONNX`"

Side = Annotated[int, Meta(ge=1, le=1 << 16)]


class _Input(TypedDict):
    shape: tuple[Side | None, Side | None, Side | None, int]


class _Checkpoint(TypedDict):
    step: Count
    epoch: Count


class _Metadata(TypedDict):
    """The metadata that is used here. Other entries are for other readers."""

    stride_px: Annotated[int, Meta(ge=1, le=64)]
    insize: Annotated[int, Meta(ge=1, le=1 << 16)]
    skeleton: dict[str, Any]
    decoding: dict[str, Any]
    input: _Input
    checkpoint: _Checkpoint
    calibration: NotRequired[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Step and epoch of the checkpoint from which a network was exported, and the calibration of its scores.

    tuning: empty; the settings of the decoder are in `ExportedNetwork.decoding`.
    """

    step: int
    epoch: int
    calibration: dict[str, Any]
    tuning: dict[str, Any] = field(default_factory=dict)


class ExportedNetwork:
    """A network from `python -m evaluator export --format ONNX`.

    skeleton, insize, stride_px, decoding, info: from the metadata in the file. notes: none, as a checkpoint may have.
    fixed_wh: width and height of the input, None for a side of any length.
    """

    def __init__(self, path: Path) -> None:
        """Raises UserError for a file that is missing, damaged, or not from `export`, and if ONNX Runtime is not installed."""
        self.path, self.notes = path, list[str]()
        self._session = _open(path)
        metadata = _read_metadata(path, self._session.get_modelmeta().custom_metadata_map)
        self.stride_px, self.insize = metadata["stride_px"], metadata["insize"]
        self.skeleton = Skeleton.from_dict(metadata["skeleton"], f"network {path}: skeleton")
        self.decoding: DecodeConfig = convert(metadata["decoding"], DecodeConfig, f"network {path}: decoding")
        self.info = Progress(**metadata["checkpoint"], calibration=metadata.get("calibration", {}))
        self._batch_size, height, width, _ = metadata["input"]["shape"]
        self.fixed_wh: tuple[int | None, int | None] = (width, height)
        self._check_graph()

    def _check_graph(self) -> None:
        """Raise UserError unless inputs and outputs are those of the metadata."""
        names = [entry.name for entry in (*self._session.get_inputs(), *self._session.get_outputs())]
        channels = [entry.shape[1:2] for entry in self._session.get_outputs()]
        expected = [[self.skeleton.num_heatmaps], [self.skeleton.num_pafs]]
        if names != [INPUT, *OUTPUTS] or channels != expected:
            raise UserError(
                f"network {self.path}: expected the input {INPUT} and the outputs {' and '.join(OUTPUTS)} with "
                f"{expected[0][0]} and {expected[1][0]} channels, got {printable(str(names))} and {channels}; {ADVICE}"
            )

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 heatmaps (B, J + 1, H / stride, W / stride) and PAFs (B, 2 L, H / stride, W / stride).

        images: uint8 RGB (B, H, W, 3), H and W multiples of the stride, and the fixed ones of the file if it has such.
        """
        is_rgb = images.ndim == 4 and images.dtype == np.uint8 and images.shape[3] == 3
        if not is_rgb or any(side % self.stride_px for side in images.shape[1:3]):
            raise ValueError(
                f"images must be uint8 (B, H, W, 3), H and W multiples of {self.stride_px}, got {images.dtype} {images.shape}"
            )
        size = self._batch_size or len(images)
        parts = [self._run(images[first : first + size], size) for first in range(0, len(images), size)]
        heatmaps, pafs = zip(*parts, strict=True)
        return np.concatenate(heatmaps), np.concatenate(pafs)

    def _run(self, images: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Run at most `size` images, filled up to that number."""
        filled = np.concatenate([images, np.repeat(images[:1], size - len(images), axis=0)]) if len(images) < size else images
        heatmaps, pafs = self._session.run(list(OUTPUTS), {INPUT: np.ascontiguousarray(filled)})
        return heatmaps[: len(images)], pafs[: len(images)]


def _open(path: Path) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError(f"network {path}: needs ONNX Runtime: pip install onnxruntime") from error
    try:
        require_regular(path)
    except OSError as error:
        raise UserError(f"network {path}: {error.strerror or error}") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors are raised, too
    # Threads that wait for work must not take the cores from those that read and decode images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # those of ONNX Runtime have no class in common
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"network {path}: not an ONNX file, or damaged ({printable(reason[0])}); {ADVICE}") from error


def _read_metadata(path: Path, texts: dict[str, str]) -> _Metadata:
    if texts.get("format") != FORMAT:
        raise UserError(
            f"network {path}: an ONNX file of another project, without the description that `export` writes into it; {ADVICE}"
        )
    if texts.get("version") != str(FORMAT_VERSION):
        raise UserError(
            f"network {path}: version {printable(str(texts.get('version')))} of the format, expected {FORMAT_VERSION}; {ADVICE}"
        )
    names: Sequence[str] = list(_Metadata.__annotations__)
    values = {name: parse_json(texts[name].encode(), f"network {path}: {name}") for name in names if name in texts}
    metadata: _Metadata = convert(values, _Metadata, f"network {path}: metadata")
    return metadata


def fixed_sides(network: object) -> tuple[int | None, int | None]:
    """Return the width and height that the input of a network must have; None for a side of any length."""
    return network.fixed_wh if isinstance(network, ExportedNetwork) else (None, None)
