"""The command `export`: a checkpoint's network as MINDIR, ONNX or AIR, with all that a decoder must know about it.

What is exported takes images as they are decoded, uint8 RGB: normalization is part of the graph, so that no user of the file
can get it wrong, and a quarter of a float image's bytes travel to the device.
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from evaluator.decoding.decode import DecodeConfig
from evaluator.jobs.config import Decoding
from pipeline.errors import UserError
from pipeline.files import publish, temporary_path
from pipeline.samples.augment import PADDING_GRAY

FORMAT_VERSION = 2
INPUT, OUTPUTS = "images", ("heatmaps", "pafs")
TOLERANCE = 1e-4  # fields are at most about 1; of their largest value where a network gives others
CHECKED_CELLS = ((1, 5, 7), (2, 4, 3))  # batch, rows and columns of the inputs that a dynamic file is compared on


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write the network of a checkpoint to a file that other engines run: uint8 RGB images (B, H, W, 3), normalized inside, to
    the last stage's heatmaps (B, J + 1, H / 8, W / 8) and PAFs (B, 2 L, H / 8, W / 8). The file is run and compared with the
    checkpoint before it appears.

    Skeleton, stride, size, normalization and the decoder's settings, as given here, are in the metadata of an ONNX file, and in
    a .json beside a MINDIR or AIR.

    Example: python -m evaluator export --checkpoint runs/first --format ONNX --out openpose.onnx
    """

    checkpoint: Path
    """Checkpoint file, or a run folder, whose newest checkpoint is taken."""
    format: Literal["MINDIR", "ONNX", "AIR"]
    """MINDIR for MindSpore, ONNX for other engines, AIR for Ascend's converter (from an Ascend device only)."""
    out: Path
    """File to write; must not exist."""
    raw_weights: bool = False
    """Take the weights themselves where the checkpoint also has their averages (--ema-decay of training)."""
    height: int | None = None
    """Height of every input in pixels, a multiple of the stride. Default: any."""
    width: int | None = None
    """Width of every input in pixels, a multiple of the stride. Default: any."""
    batch_size: int | None = None
    """Images in every input. Default: any number."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    decoding: Decoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        for name in ("height", "width", "batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.format == "AIR" and None in self.shape:
            raise ValueError("AIR holds one size of input: give --height, --width and --batch-size")

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of the input, None for a side of any size."""
        return self.batch_size, self.height, self.width, 3


def run(config: ExportConfig) -> int:
    """Raises UserError for what cannot be exported, and where the exported network differs from the checkpoint's."""
    files = [config.out] if config.format == "ONNX" else [config.out.with_name(config.out.name + ".json"), config.out]
    for file in files:
        if file.exists():
            raise UserError(f"output file {file}: there already; give another --out")
    if config.format == "ONNX":
        _require_onnx()
    from trainer.device import choose_device
    from trainer.run.checkpoint import load_network  # loads mindspore

    device = choose_device(config.device_target)
    if config.format == "AIR" and device != "Ascend":
        raise UserError("--format AIR: MindSpore writes it on an Ascend device only, this is a CPU; use MINDIR or ONNX here")
    network = load_network(config.checkpoint, average=not config.raw_weights)
    for name in ("height", "width"):
        if (getattr(config, name) or 0) % network.stride_px:
            raise UserError(
                f"--{name} must be a multiple of the network's stride {network.stride_px}, got {getattr(config, name)}"
            )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write = {"ONNX": _write_onnx, "MINDIR": _write_mindir, "AIR": _write_air}[config.format]
    # Beside the output, so that the files can be renamed into place; the output itself comes last, when its metadata are there.
    folder = temporary_path(config.out)
    folder.mkdir()
    try:
        for temporary, file in zip(write(network, config, folder), files, strict=True):
            temporary.chmod(0o644)  # MindSpore makes its files private to the user
            publish(temporary, file)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    size = " x ".join("any" if side is None else str(side) for side in config.shape)
    print(f"{', '.join(map(str, files))}: {INPUT} {size} uint8 -> {', '.join(OUTPUTS)}; skeleton {network.skeleton.name}")
    return 0


def describe(network: Any, config: ExportConfig) -> dict[str, Any]:
    """What a user of the exported file must know; `network` is a `trainer.run.checkpoint.LoadedNetwork`."""
    return {
        "format": "openpose-mindspore network",
        "version": FORMAT_VERSION,
        "skeleton": network.skeleton.to_dict(),
        "stride_px": network.stride_px,
        "insize": network.insize,
        "padding_gray": PADDING_GRAY,
        "normalization": {**network.info.normalization, "applied": "inside the network"},
        "input": {"name": INPUT, "dtype": "uint8", "layout": "batch, height, width, RGB", "shape": list(config.shape)},
        "sides_multiple_of_px": network.stride_px,
        "outputs": list(OUTPUTS),
        "targets": network.info.targets,
        "decoding": dataclasses.asdict(config.decoding),
        "checkpoint": {"step": network.info.step, "epoch": network.info.epoch, "records_digest": network.info.records_digest},
    }


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(f"--format ONNX needs {error.name}: pip install '.[export]'") from error


def _cell(network: Any) -> Any:
    """The network's last stage, as the evaluator runs it."""
    from trainer.networks.inference import LastStage

    return LastStage(network.network)


def _write_onnx(network: Any, config: ExportConfig, folder: Path) -> list[Path]:
    """MindSpore exports one size only: its graph is then told that the sides may vary, which all its operators can.

    That they can is not taken on trust: the file is run at other sizes. Raises UserError where the network has an operator
    that MindSpore cannot write.
    """
    import mindspore as ms
    import onnx
    import onnxruntime

    from evaluator.export.operators import exportable

    path = folder / "network.onnx"
    side = 4 * network.stride_px
    shape = [number or default for number, default in zip(config.shape, (1, side, side, 3), strict=True)]
    try:
        with exportable(network.network):
            ms.onnx.export(_cell(network), ms.Tensor(np.zeros(shape, np.uint8)), file_name=str(path))
    except RuntimeError as error:
        raise UserError(f"--format ONNX: MindSpore cannot write this network: {str(error).strip().splitlines()[0]}") from error
    model = onnx.load(str(path))
    _rename(model.graph)
    _free_sides(model.graph, config)
    onnx.helper.set_model_props(model, {key: _as_text(value) for key, value in describe(network, config).items()})
    model.producer_name, model.graph.name = "openpose-mindspore", "openpose"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    _compare(lambda images: session.run(list(OUTPUTS), {INPUT: images}), network, config)
    return [path]


def _rename(graph: Any) -> None:
    """Give inputs and outputs their names. MindSpore's own renaming forgets that a stage's output may feed another stage."""
    if len(graph.input) != 1 or len(graph.output) != len(OUTPUTS):
        raise UserError(f"--format ONNX: the network has {len(graph.input)} inputs and {len(graph.output)} outputs, not 1 and 2")
    names = {graph.input[0].name: INPUT, **{value.name: name for value, name in zip(graph.output, OUTPUTS, strict=True)}}
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for node in graph.node:
        for places in (node.input, node.output):
            places[:] = [names.get(name, name) for name in places]


def _free_sides(graph: Any, config: ExportConfig) -> None:
    """Sides that were not asked for become symbols. The inner shapes, which follow from them, are left to the engine."""
    free = [number is None for number in config.shape]
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        names = ("batch", "height", "width", "") if value.name == INPUT else ("batch", "", "rows", "columns")
        freed = free if value.name == INPUT else [free[0], False, free[1], free[2]]
        for side, name, is_free in zip(value.type.tensor_type.shape.dim, names, freed, strict=True):
            if is_free:
                side.dim_param = name


def _write_mindir(network: Any, config: ExportConfig, folder: Path) -> list[Path]:
    import mindspore as ms

    path = folder / "network.mindir"
    ms.export(_cell(network), ms.Tensor(shape=list(config.shape), dtype=ms.uint8), file_name=str(path), file_format="MINDIR")
    cell = ms.nn.GraphCell(ms.load(str(path)))
    _compare(lambda images: [fields.asnumpy() for fields in cell(ms.Tensor(images))], network, config)
    return [_write_description(network, config, folder), path]


def _write_air(network: Any, config: ExportConfig, folder: Path) -> list[Path]:
    """Nothing but Ascend's own converter reads the file, so that there is nothing to compare it with."""
    import mindspore as ms

    path = folder / "network.air"
    ms.export(_cell(network), ms.Tensor(np.zeros(config.shape, np.uint8)), file_name=str(path), file_format="AIR")
    return [_write_description(network, config, folder), path]


def _write_description(network: Any, config: ExportConfig, folder: Path) -> Path:
    path = folder / "network.json"
    path.write_text(json.dumps(describe(network, config), indent=1) + "\n")
    return path


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _compare(engine: Any, network: Any, config: ExportConfig) -> None:
    """Raises UserError unless `engine` (images -> heatmaps, PAFs) agrees with the checkpoint, on inputs of several sizes."""
    rng = np.random.default_rng(0)
    for batch, rows, columns in CHECKED_CELLS:
        cells = (batch, rows * network.stride_px, columns * network.stride_px, 3)
        shape = [number or any_size for number, any_size in zip(config.shape, cells, strict=True)]
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        for name, found, expected in zip(OUTPUTS, engine(images), network.fields(images), strict=True):
            difference = np.abs(found - expected).max() if found.shape == expected.shape else np.inf
            if not difference <= TOLERANCE * max(1, np.abs(expected).max()):
                raise UserError(
                    f"--format {config.format}: {name} of the exported network differ by {difference:.2g} from the checkpoint's "
                    f"on an input of {tuple(shape)}, more than {TOLERANCE:g}; nothing was written"
                )
