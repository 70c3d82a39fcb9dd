"""Layers that MindSpore's ONNX exporter does not know, said in operators that it does."""

from collections.abc import Iterator
from contextlib import contextmanager

from mindspore import nn, ops


class SpeltOutELU(nn.Cell):
    """x where it is positive, exp(x) - 1 elsewhere (Clevert et al., ICLR 2016), the only alpha that nn.ELU takes."""

    def construct(self, x):
        # Each part is 0 where the other one counts, so that no large exponential is ever computed.
        return ops.relu(x) + (ops.exp(-ops.relu(-x)) - 1)


SPELT_OUT = {nn.ELU: SpeltOutELU}


@contextmanager
def exportable(network: nn.Cell) -> Iterator[None]:
    """Inside, every layer of SPELT_OUT in the network is replaced; afterwards it is as it was."""
    places = [
        (parent, name, child)
        for _, parent in list(network.cells_and_names())
        for name, child in parent.name_cells().items()
        if type(child) in SPELT_OUT
    ]
    for parent, name, child in places:
        _put(parent, name, SPELT_OUT[type(child)]())
    try:
        yield
    finally:
        for parent, name, child in places:
            _put(parent, name, child)


def _put(parent: nn.Cell, name: str, child: nn.Cell) -> None:
    if isinstance(parent, (nn.SequentialCell, nn.CellList)):
        parent[list(parent.name_cells()).index(name)] = child
    else:
        setattr(parent, name, child)
