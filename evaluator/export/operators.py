"""Layers that MindSpore's ONNX exporter does not support, rewritten with operators that it supports."""

from collections.abc import Iterator
from contextlib import contextmanager

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
