"""Every operator of the compiled graphs is documented for Ascend. Nothing here runs on one.

The graphs are those that MindSpore's frontend hands to a device: after automatic differentiation and inlining, before the passes of a
device. They are compiled for the CPU. Where MindSpore's own Python code asks for the device, the answer is patched to Ascend.
"""

import dataclasses
import importlib
import re
from collections.abc import Callable
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import amp, ops
from mindspore.ops.primitive import constexpr
from step_runs import RESIDUAL, Run, Twins, batch
from trainer_data import TINY

from pipeline.skeletons import COCO18
from trainer.config import TrainConfig
from trainer.data.config import JitterConfig
from trainer.data.jitter import Jitter
from trainer.distributed.world import World
from trainer.loop.config import OptimConfig
from trainer.loop.optimizer import Optimizer
from trainer.loop.step import make_scaler, make_step
from trainer.networks.config import NetworkConfig
from trainer.networks.inference import LastStage
from trainer.networks.network import Network, initialize, running_averages

PASS = "validate"  # the last pass of the frontend
CALL = re.compile(r"^\s+%\d+\([^)]*\) = (?:\w+::)?(?:PrimFunc_)?(\w+)\(", re.MULTILINE)
PLUGIN = Path(ms.__file__).parent / "lib" / "plugin"
LIBRARIES = ("libmindspore_ops_ascend.so", "ascend/libmindspore_ascend_res_manager.so")

# Nodes of the graph itself, of mindspore.ops.operations.other_ops and mindspore/core: they order side effects and group values. They
# have no kernel on any device.
STRUCTURE = {"MakeTuple", "TupleGetItem", "Load", "UpdateState"}

# Operators whose class documents no platform, because users do not call them, or refers to a function that does not exist. The second
# column is the name under which the Ascend plugin of the MindSpore wheel (LIBRARIES) contains them: the class of the kernel that calls
# CANN's aclnn operator, generated from mindspore/ops/op_def/yaml, or the operator of CANN's older interface that it is adapted to.
IN_PLUGIN = {
    # Gradients that automatic differentiation inserts.
    "BatchNormGrad": "BatchNormGrad",
    "BiasAddGrad": "BiasAddGrad",
    "Conv2DBackpropFilter": "Conv2DBackpropFilter",
    "Conv2DBackpropInput": "Conv2DBackpropInput",  # documented as deprecated for users, who have Conv2DTranspose
    "EluGrad": "EluGrad",
    "MaxPoolGrad": "MaxPoolGrad",
    "ReluGrad": "ReluGradAscend",
    "StridedSliceGrad": "StridedSliceGrad",
    # Forms that the compiler chooses for a tensor and a Python number, and for methods of tensors.
    "Divs": "DivsAscend",
    "EqScalar": "EqScalarAscend",
    "LessScalar": "LessScalarAscend",
    "Muls": "MulsAscend",
    "RemainderTensorScalar": "RemainderTensorScalarAscend",
    "SplitWithSize": "aclnnSplitWithSize",
    "SumExt": "SumExtAscend",
    # Copies the value of a parameter before it changes.
    "TensorMove": "TensorMove",
    # MindSpore's own operator for Ascend, with kernels in lib/plugin/ascend/custom_ascendc_910b.
    "AllFinite": "AllFinite",
}


def graph_operators(folder: Path, call: Callable[[], object]) -> set[str]:
    """Return the names of the operators in all graphs that `call` compiles. A graph without kernels on this device counts as well."""
    ms.set_context(save_graphs=1, save_graphs_path=str(folder))
    try:
        call()
    except (RuntimeError, TypeError, NotImplementedError) as error:  # what MindSpore raises for a kernel that this device lacks
        if "nsupported" not in str(error) and "not support" not in str(error):
            raise
    finally:
        ms.set_context(save_graphs=0)
    graphs = list(folder.rglob(f"*{PASS}*.ir"))
    assert graphs, "no graph was compiled"
    return set(CALL.findall("".join(path.read_text() for path in graphs)))


def documentation(name: str) -> str:
    """Return what MindSpore documents about an operator: the docstring of its class, or of the function that this refers to."""
    operations = [importlib.import_module(f"mindspore.ops.operations{part}") for part in ("", "._grad_ops", "._inner_ops")]
    generated = importlib.import_module("mindspore.ops.auto_generate.gen_ops_prim")
    text = next((getattr(module, name).__doc__ or "" for module in (*operations, generated) if hasattr(module, name)), "")
    found = re.search(r"Refer to :func:`mindspore\.ops\.(\w+)`", text)
    return getattr(getattr(ops, found[1], None), "__doc__", None) or "" if found else text


def undocumented(names: set[str]) -> dict[str, str]:
    """Return the operators that are not known to exist for Ascend, with what is documented about them."""
    platforms = {
        name: re.search(r"Supported Platforms:\s*(.+)", documentation(name)) for name in names - STRUCTURE - IN_PLUGIN.keys()
    }
    return {
        name: found[1] if found else "no platforms" for name, found in platforms.items() if not found or "Ascend" not in found[1]
    }


def narrow(preset: str) -> NetworkConfig:
    """Return the network of a preset with four channels per layer and one stage of each kind and its refinement."""
    values = TrainConfig.PRESETS[preset]
    full = NetworkConfig(**{name: value for name, value in values.items() if name in NetworkConfig.__dataclass_fields__})
    return dataclasses.replace(
        full, backbone_channels=(4,) * len(full.backbone_channels), context_channels=(4,) * len(full.context_channels), neck_channels=(4,) * len(full.neck_channels), num_stages=2,
        num_paf_stages=min(1, full.num_paf_stages), stage_channels=4, stage1_channels=4, stage1_hidden_channels=4, hidden_channels=4,
    )  # fmt: skip


def make_network(config: NetworkConfig, precision: str = "O0") -> Network:
    network = Network(config, 3, 4)
    initialize(network, np.random.default_rng(0))
    network.set_precision(precision)
    return network


@pytest.fixture(autouse=True)
def only_last_pass(monkeypatch):
    monkeypatch.setenv("MS_DEV_DUMP_IR_PASSES", PASS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", ["O0", pytest.param("O2", marks=pytest.mark.long), pytest.param("O3", marks=pytest.mark.long)]
)
@pytest.mark.parametrize(
    "preset", ["openpose", "openpose-2019", "lightweight", "small", pytest.param("small-photos", marks=pytest.mark.long)]
)
def test_step_and_inference_of_every_preset(preset, precision, tmp_path):
    if precision == "O3" and not running_averages(make_network(narrow(preset))):
        pytest.skip("O3 differs from O2 only in batch normalization, which this network does not have")
    network, optim = make_network(narrow(preset), precision), OptimConfig()
    step = make_step(network, Optimizer(network, optim), make_scaler(optim))
    rates, stop = ms.Tensor([1e-2] * 3, ms.float32), ms.Tensor(0.0, ms.float32)
    in_step = graph_operators(tmp_path / "step", lambda: step([batch()], rates, stop).asnumpy())
    assert {"Conv2D", "Conv2DBackpropFilter", "Adam"} <= in_step and not undocumented(in_step)
    last = LastStage(make_network(narrow(preset), precision))
    in_inference = graph_operators(tmp_path / "inference", lambda: last.fields(np.zeros((1, 16, 24, 3), np.uint8)))
    assert "Conv2D" in in_inference and not undocumented(in_inference)
    if precision != "O0":
        assert "Cast" in in_inference


def test_the_preset_for_eight_devices_has_the_network_of_openpose():
    """So that its graphs differ only in the optimizer, which the next test compiles."""
    assert narrow("openpose-8p") == narrow("openpose") and set(TrainConfig.PRESETS) == {
        "openpose", "openpose-8p", "openpose-2019", "lightweight", "small", "small-photos",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("optimizer", "world"),
    [
        ("adam", Twins()),
        pytest.param("adamw", World(), marks=pytest.mark.long),
        pytest.param("momentum", Twins(), marks=pytest.mark.long),
    ],
)
def test_every_option_of_the_step(optimizer, world, tmp_path):
    """Dynamic loss scale, averages, weight decay, both kinds of clipping, batch normalization; accumulation for two processes."""
    num_parts = world.size
    run = Run(RESIDUAL, world, num_parts, optimizer=optimizer, clip_norm=1.0, clip_tensor_norm=1.0)
    found = graph_operators(tmp_path, lambda: run.take(parts=[batch()] * num_parts))
    assert {"momentum": "ApplyMomentum"}.get(optimizer, "Adam") in found and not undocumented(found | {"AllReduce"})


@pytest.mark.parametrize("config", [JitterConfig(mirror=True), JitterConfig(color_jitter=0.3)], ids=["mirror", "color"])
def test_jitter(config, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 256, (2, 16, 24, 3)).astype(np.uint8), "mask": np.zeros((2, 2, 3), np.uint8),
        "heatmaps": np.zeros((2, COCO18.num_heatmaps, 2, 3), np.uint8), "pafs": np.zeros((2, COCO18.num_pafs, 2, 3), np.int8),
        "augmentation": np.ones((2, 4), np.float32), "labeled": np.ones((2, COCO18.num_heatmaps + COCO18.num_pafs), np.uint8),
    }  # fmt: skip
    jitter = Jitter(config, COCO18)
    found = graph_operators(tmp_path, lambda: jitter(*jitter.inputs(arrays)))
    assert ("ReverseV2" if config.mirror else "BatchMatMul") in found and not undocumented(found)


@constexpr
def yes() -> bool:
    return True


@pytest.mark.slow
@pytest.mark.parametrize("saturates", [True, False], ids=["saturation mode", "infinity mode"])
def test_the_check_for_overflow_on_ascend(saturates, monkeypatch, tmp_path):
    """The branches that MindSpore and the step take only on Ascend: 910A and saturation mode, and the AllFinite of later devices."""
    monkeypatch.setattr(amp, "_enable_all_finite" if not saturates else "_ascend_910a_target", yes)
    monkeypatch.setattr(amp, "_ascend_target", yes if saturates else amp._ascend_target)
    monkeypatch.setattr("trainer.loop.step.saturates", lambda: saturates)
    found = graph_operators(tmp_path, Run(TINY, Twins(), optimizer="momentum").take)
    expected = {"NPUClearFloatStatusV2", "NPUGetFloatStatusV2"} if saturates else {"AllFinite"}
    assert expected <= found and not undocumented(found)


def test_an_operator_that_ascend_lacks_is_found(tmp_path):
    @ms.jit
    def planted(x: ms.Tensor) -> ms.Tensor:
        return ops.Lgamma()(x) + 1

    found = graph_operators(tmp_path, lambda: planted(ms.Tensor(np.ones(2, np.float32))).asnumpy())
    assert "Lgamma" in found and undocumented(found).keys() == {"Lgamma"}


def test_operators_without_documentation_are_in_the_plugin_for_ascend():
    content = b"\0".join((PLUGIN / library).read_bytes() for library in LIBRARIES)
    missing = [name for name in (*IN_PLUGIN.values(), "NoSuchOperator") if name.encode() not in content]
    assert missing == ["NoSuchOperator"]
    documented = [name for name in IN_PLUGIN if "``Ascend``" in documentation(name)]
    assert not documented, "remove them from the list"
