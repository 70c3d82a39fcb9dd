"""The command `export`: write a network as MINDIR, ONNX or AIR, with metadata that describes how to decode its fields.

The exported network takes decoded images, uint8 RGB. Normalization is part of the graph, so that it cannot be done wrong, and
only a quarter of the bytes of a float image are transferred to the device.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluator.export.comparison import Comparison
from evaluator.export.config import ExportConfig
from evaluator.export.quantization import quantize
from evaluator.inference.exported import FORMAT, FORMAT_VERSION, INPUT, OUTPUTS
from evaluator.inference.tuned import decoding_of
from pipeline.errors import UserError
from pipeline.images import PADDING_GRAY
from pipeline.storage.files import atomic_file, publish, space_errors, temporary_path
from pipeline.storage.folders import require_writable
from pipeline.wording import printable
from trainer.device import choose_device

if TYPE_CHECKING:
    from mindspore import nn

    from trainer.run.load import LoadedNetwork

AIR_DEVICE = "Ascend"


def run(config: ExportConfig) -> int:
    """Run the command. Raises UserError if the export fails or the exported network differs from the checkpoint."""
    files = output_files(config)
    for file in files:
        if file.exists():
            raise UserError(f"output file {file}: already exists; choose another --out")
        require_writable(file, f"output file {file}")
    if config.format == "ONNX":
        require_onnx()
    from trainer.run.load import load_network

    if config.format == "AIR":
        print("warning: AIR is deprecated by MindSpore; use --format MINDIR", file=sys.stderr)
    device = choose_device(config.device)
    if config.format == "AIR" and device != AIR_DEVICE:
        raise UserError("--format AIR: MindSpore writes AIR on Ascend devices only, this is a CPU; use MINDIR or ONNX")
    network = load_network(config.checkpoint, average=not config.raw_weights, precision=config.precision)
    for note in network.notes:
        print(printable(note), flush=True)
    for name in ("height", "width"):
        if (getattr(config, name) or 0) % network.stride_px:
            raise UserError(
                f"--{name} must be a multiple of the network's stride {network.stride_px}, got {getattr(config, name)}"
            )
    write(Comparison(network=network, config=config, device=device))
    size = " x ".join("any" if side is None else str(side) for side in config.shape)
    written = " and ".join(map(str, files))
    print(f"wrote {written}: {INPUT} {size} uint8 -> {', '.join(OUTPUTS)}; skeleton {network.skeleton.name}")
    return 0


def output_files(config: ExportConfig) -> list[Path]:
    """Return the files that an export writes. The network itself comes last."""
    return [config.out] if config.format == "ONNX" else [config.out.with_name(config.out.name + ".json"), config.out]


def write(comparison: Comparison) -> None:
    """Export to a temporary folder beside the output, then rename the files.

    Raises UserError if the export fails or the exported network differs from the checkpoint.
    """
    config, files = comparison.config, output_files(comparison.config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write = {"ONNX": _write_onnx, "MINDIR": _write_mindir, "AIR": _write_air}[config.format]
    folder = temporary_path(config.out)
    folder.mkdir()
    try:
        with space_errors(config.out):
            for temporary, file in zip(write(comparison, folder), files, strict=True):
                temporary.chmod(0o644)  # MindSpore creates files that only their owner can read
                publish(temporary, file)
    except MemoryError as error:
        raise UserError(
            f"--format {config.format}: not enough memory to run the network; give a smaller --batch-size, --height or --width"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(network: "LoadedNetwork", config: ExportConfig) -> dict[str, Any]:
    """Return the metadata: everything that is needed to use the exported network."""
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "skeleton": network.skeleton.to_dict(),
        "stride_px": network.stride_px,
        "insize": network.insize,
        "padding_gray": PADDING_GRAY,
        "normalization": {**network.info.normalization, "applied": "inside the network"},
        "input": {"name": INPUT, "dtype": "uint8", "layout": "batch, height, width, RGB", "shape": list(config.shape)},
        "sides_multiple_of_px": network.stride_px,
        "outputs": list(OUTPUTS),
        "precision": config.precision,
        "quantization": config.quantize,
        "targets": network.info.targets,
        "decoding": dataclasses.asdict(config.decoding.over(decoding_of(network))),
        "calibration": network.info.calibration,
        "checkpoint": {"step": network.info.step, "epoch": network.info.epoch, "records_digest": network.info.records_digest},
    }


def require_onnx() -> None:
    """Raise UserError unless the packages that export and check ONNX files are installed."""
    try:
        import onnx  # noqa: F401 - only tests that it is installed
        import onnxruntime  # noqa: F401 - only tests that it is installed
    except ImportError as error:
        raise UserError(f"--format ONNX needs {error.name}: pip install '.[export]'") from error


def add_metadata(source: Path, out: Path, values: Mapping[str, Any]) -> None:
    """Write a copy of an exported network (.onnx) with these entries of its metadata replaced."""
    require_onnx()
    import onnx

    model = onnx.load(str(source))
    texts = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**texts, **{name: _as_text(value) for name, value in values.items()}})
    with atomic_file(out) as temporary:
        onnx.save(model, str(temporary))


def _cell(network: "LoadedNetwork") -> "nn.Cell":
    """Return the network as the evaluator runs it: the fields of the last stage."""
    from trainer.networks.inference import LastStage

    return LastStage(network.network)


def _write_onnx(comparison: Comparison, folder: Path) -> list[Path]:
    """Export to ONNX. Raises UserError for operators that MindSpore cannot export.

    MindSpore exports a fixed input size. All operators of the graph accept other sizes too, so its dimensions are made
    dynamic afterwards, and the file is checked on inputs of several sizes.
    """
    import mindspore as ms
    import onnx
    import onnxruntime

    from evaluator.export.operators import crop_dynamically, exportable

    network, config = comparison.network, comparison.config
    path = folder / "network.onnx"
    side = 4 * network.stride_px
    images = ms.Tensor(np.zeros(config.filled_shape((1, side, side)), np.uint8))
    try:
        with exportable(network.network):
            ms.onnx.export(_cell(network), images, file_name=str(path))
    except RuntimeError as error:
        raise UserError(f"--format ONNX: MindSpore cannot export this network: {str(error).strip().splitlines()[0]}") from error
    if not path.exists():  # MindSpore only logs why it could not write the file
        raise UserError(f"{config.out}: cannot be written, probably for lack of space; free space, then run the command again")
    model = onnx.load(str(path))
    _rename(model.graph)
    _make_dynamic(model.graph, config)
    crop_dynamically(model.graph)
    onnx.helper.set_model_props(model, {key: _as_text(value) for key, value in describe(network, config).items()})
    model.producer_name, model.graph.name = "openpose-mindspore", "openpose"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    quantize(path, network, config)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    comparison.require_same(lambda images: session.run(list(OUTPUTS), {INPUT: images}))
    return [path]


def _rename(graph: Any) -> None:
    """Name inputs and outputs. MindSpore's own renaming fails if the output of a stage also feeds another stage."""
    if len(graph.input) != 1 or len(graph.output) != len(OUTPUTS):
        raise UserError(
            f"--format ONNX: expected a network with 1 input and {len(OUTPUTS)} outputs, got {len(graph.input)} and "
            f"{len(graph.output)}"
        )
    names = {graph.input[0].name: INPUT, **{value.name: name for value, name in zip(graph.output, OUTPUTS, strict=True)}}
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for node in graph.node:
        for edges in (node.input, node.output):
            edges[:] = [names.get(name, name) for name in edges]


def _make_dynamic(graph: Any, config: ExportConfig) -> None:
    """Replace dimensions without a fixed size by symbols. The engine infers the shapes inside the graph."""
    free = [size is None for size in config.shape]
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        names = ("batch", "height", "width", "") if value.name == INPUT else ("batch", "", "rows", "columns")
        dynamic = free if value.name == INPUT else [free[0], False, free[1], free[2]]
        for dimension, name, is_dynamic in zip(value.type.tensor_type.shape.dim, names, dynamic, strict=True):
            if is_dynamic:
                dimension.dim_param = name


def _write_mindir(comparison: Comparison, folder: Path) -> list[Path]:
    import mindspore as ms

    network, config = comparison.network, comparison.config
    path = folder / "network.mindir"
    ms.export(_cell(network), ms.Tensor(shape=list(config.shape), dtype=ms.uint8), file_name=str(path), file_format="MINDIR")
    cell = ms.nn.GraphCell(ms.load(str(path)))
    comparison.require_same(lambda images: [fields.asnumpy() for fields in cell(ms.Tensor(images))], comparison.device)
    return [_write_description(network, config, folder), path]


def _write_air(comparison: Comparison, folder: Path) -> list[Path]:
    """Export to AIR. The file is not compared, because only Ascend's converter reads it."""
    import mindspore as ms

    network, config = comparison.network, comparison.config
    path = folder / "network.air"
    images = ms.Tensor(np.zeros(config.filled_shape((1, 1, 1)), np.uint8))
    ms.export(_cell(network), images, file_name=str(path), file_format="AIR")
    return [_write_description(network, config, folder), path]


def _write_description(network: "LoadedNetwork", config: ExportConfig, folder: Path) -> Path:
    path = folder / "network.json"
    path.write_text(json.dumps(describe(network, config), indent=1) + "\n")
    return path


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
