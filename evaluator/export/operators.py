"""What MindSpore's ONNX exporter does not support, rewritten with operators that it supports."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mindspore import Tensor, nn, ops


class PrimitiveELU(nn.Cell):
    """ELU with alpha = 1, the only alpha that nn.ELU accepts: x if x > 0, else exp(x) - 1 (Clevert et al., ICLR 2016)."""

    def construct(self, x: Tensor) -> Tensor:
        # Each term is 0 where the other one applies, so that exp never overflows.
        return ops.relu(x) + (ops.exp(-ops.relu(-x)) - 1)


REPLACEMENTS: dict[type[nn.Cell], type[nn.Cell]] = {nn.ELU: PrimitiveELU}


@contextmanager
def exportable(network: nn.Cell) -> Iterator[None]:
    """Replace all layers that have a replacement while the context is open; restore them at the end."""
    replaced = [
        (parent, name, child)
        for _, parent in list(network.cells_and_names())
        for name, child in parent.name_cells().items()
        if type(child) in REPLACEMENTS
    ]
    for parent, name, child in replaced:
        _set_child(parent, name, REPLACEMENTS[type(child)]())
    try:
        yield
    finally:
        for parent, name, child in replaced:
            _set_child(parent, name, child)


def _set_child(parent: nn.Cell, name: str, child: nn.Cell) -> None:
    if isinstance(parent, (nn.SequentialCell, nn.CellList)):
        parent[list(parent.name_cells()).index(name)] = child
    else:
        setattr(parent, name, child)


def crop_dynamically(graph: Any) -> None:
    """Let the crops of an ONNX graph take any size.

    In `trainer.networks.context`, a map is cropped to the size of the map that it is added to. MindSpore writes the end of the
    crop as a constant; it becomes the shape of the other map.
    """
    import onnx

    nodes = list(graph.node)
    consumers = {name: node for node in nodes for name in node.input}
    crops = [node for node in nodes if node.op_type == "Slice"]
    if crops:
        graph.initializer.append(onnx.helper.make_tensor("crop_starts", onnx.TensorProto.INT64, (4,), (0, 0, 0, 0)))
    for crop in crops:
        (other,) = (name for name in consumers[crop.output[0]].input if name != crop.output[0])
        size = onnx.helper.make_node("Shape", [other], [f"{crop.output[0]}_size"])
        crop.input[:] = [crop.input[0], "crop_starts", size.output[0]]
        nodes.insert(nodes.index(crop), size)
    used = {name for node in nodes for name in node.input}
    constants = [constant for constant in graph.initializer if constant.name in used]
    for name, entries in (("node", nodes), ("initializer", constants)):
        graph.ClearField(name)
        getattr(graph, name).extend(entries)
