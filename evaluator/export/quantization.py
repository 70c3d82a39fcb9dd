"""Smaller numbers in an exported ONNX network: float16, or int8 with ranges measured on images. Uses the tools of ONNX Runtime."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluator.export.config import ExportConfig
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.config import InferConfig
from evaluator.inference.exported import INPUT
from pipeline.errors import UserError
from pipeline.images import UnreadableImage
from pipeline.photos import read_photo
from pipeline.storage.files import require_folder
from pipeline.wording import counted

if TYPE_CHECKING:
    from trainer.run.load import LoadedNetwork

PER_CHANNEL_OPSET = 13  # the first one with a scale per channel
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def quantize(path: Path, network: "LoadedNetwork", config: ExportConfig) -> None:
    """Convert the network in `path` in place. Raises UserError for a folder without readable calibration images."""
    if config.quantize == "float16":
        _to_float16(path)
    elif config.quantize == "int8":
        _to_int8(path, network, config)


def _to_float16(path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(path))
    onnx.save(convert_float_to_float16(model, keep_io_types=True), str(path))


def _to_int8(path: Path, network: "LoadedNetwork", config: ExportConfig) -> None:
    import onnx
    import onnx.version_converter
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    inputs = list(_calibration_inputs(network, config))
    if not inputs:
        raise UserError(f"--calibration-images {config.calibration_images}: none of its images can be read; give another folder")

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._inputs = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self._inputs, None)
            return None if images is None else {INPUT: images}

    whole = path.with_name("whole.onnx")
    onnx.save(onnx.version_converter.convert_version(onnx.load(str(path)), PER_CHANNEL_OPSET), str(whole))
    options: dict[str, Any] = {"per_channel": True, "quant_format": QuantFormat.QDQ}
    quantize_static(
        str(whole), str(path), Reader(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"], **options,
    )  # fmt: skip
    print(f"measured the ranges of int8 numbers on {counted(len(inputs), 'image')}", flush=True)


def _calibration_inputs(network: "LoadedNetwork", config: ExportConfig) -> Iterator[np.ndarray]:
    """Yield images as the network sees them, uint8 (B, H, W, 3)."""
    folder = config.calibration_images
    assert folder is not None, "ExportConfig requires it"
    require_folder(folder, "--calibration-images")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    augmented = AugmentedNetwork(network, InferConfig())
    augmented.fixed_wh = (config.width, config.height)
    for file in files[:: max(1, len(files) // config.num_calibration_images)][: config.num_calibration_images]:
        try:
            photo = read_photo(file)
        except UnreadableImage:
            continue
        [view] = augmented.prepare(photo.pixels, photo.size_wh)
        yield np.repeat(view[None], config.batch_size or 1, axis=0)
