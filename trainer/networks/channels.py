"""What each channel of a network's layers means, so that `trainer.weights.transfer` can find it in another network.

A channel is a joint's heatmap, the background's heatmap, a component of a limb's PAF, or, inside the network, a number.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from mindspore import nn

from pipeline.skeleton import Skeleton
from trainer.networks.config import NetworkConfig
from trainer.networks.context import Context
from trainer.networks.cpu_convolution import Convolution
from trainer.networks.network import Network
from trainer.networks.openpose2019 import Block

BACKGROUND = "background"


@dataclass(frozen=True)
class Channel:
    """A channel; two channels are equal if they mean the same.

    joints: one for a heatmap, none for the background's, both ends of a limb, sorted, for a PAF. number: of a channel that is none of
    these, or of the component of a PAF. part: of the concatenated outputs of several layers.
    sign: -1 for a PAF that points from the second of `joints` to the first one.
    """

    kind: str = ""
    joints: tuple[str, ...] = ()
    number: int = 0
    part: int = 0
    sign: int = field(default=1, compare=False)

    def __str__(self) -> str:
        return "-".join(self.joints) or (BACKGROUND if self.kind else str(self.number))


Channels = tuple[Channel, ...]


@dataclass(frozen=True)
class Layer:
    """Channels of a layer. key: its name, with the number of a stage counted among those of its kind."""

    key: str
    outputs: Channels
    inputs: Channels = ()


def numbered(count: int, part: int = 0) -> Channels:
    """Return channels that mean nothing but their number."""
    return tuple(Channel(number=number, part=part) for number in range(count))


def field_channels(skeleton: Skeleton) -> dict[str, Channels]:
    """Return the channels of the heatmaps (J + 1,) and of the PAFs (2 L,)."""
    heatmaps = *(Channel("heatmap", (joint,)) for joint in skeleton.joints), Channel("heatmap")
    limbs = [(tuple(sorted(limb)), 1 if limb[0] < limb[1] else -1) for limb in skeleton.limbs]
    pafs = tuple(Channel("paf", joints, component, sign=sign) for joints, sign in limbs for component in (0, 1))
    return {"heatmaps": heatmaps, "pafs": pafs}


def layers(network: Network, config: NetworkConfig, skeleton: Skeleton) -> dict[str, Layer]:
    """Return the layers of a network that have parameters, by name: that of a parameter without its last part."""
    names = {id(cell): name for name, cell in network.cells_and_names()}
    fields = field_channels(skeleton)
    inputs = {names[id(cell)]: channels for cell, channels in _concatenated_inputs(network, config, fields)}
    outputs = {
        names[id(getattr(stage, kind)[-1])]: fields[kind]
        for stage in network.stages for kind in fields if hasattr(stage, kind)
    }  # fmt: skip
    for name, cell in network.cells_and_names():
        if isinstance(cell, Context):  # `Upsample` turns four parts into the four cells of each input cell
            parts = sum((numbered(cell.expand[0].out_channels // 4, part) for part in range(4)), ())
            outputs |= {f"{name}.expand.{number}": parts for number in (0, 1)}
    found: dict[str, Layer] = {}
    for name, parameter in network.parameters_dict().items():
        layer = name.rpartition(".")[0]
        if layer not in found:  # the weight of a convolution comes before its bias
            num_inputs = parameter.shape[1] if parameter.ndim > 1 else 0
            found[layer] = Layer(
                _key(layer, config), outputs.get(layer, numbered(len(parameter))), inputs.get(layer, numbered(num_inputs))
            )
    return found


def _concatenated_inputs(
    network: Network, config: NetworkConfig, fields: dict[str, Channels]
) -> Iterator[tuple[Convolution, Channels]]:
    """Yield the layers that see several concatenated inputs: the first ones of every stage, and those after a `Block`."""
    seen: Channels = numbered(config.neck_channels[-1])
    features = seen
    latest: dict[str, Channels] = {}
    for stage in network.stages:
        branches = [getattr(stage, kind) for kind in fields if hasattr(stage, kind)]
        for first in [stage.shared] if hasattr(stage, "shared") else branches:
            yield _first_convolution(first), seen
        for branch in branches:
            for before, after in zip(list(branch)[:-1], list(branch)[1:], strict=True):
                if isinstance(before, Block):
                    widths = [layer[0].out_channels for layer in before.layers]
                    yield _first_convolution(after), sum((numbered(width, part) for part, width in enumerate(widths)), ())
        latest |= {kind: fields[kind] for kind in fields if hasattr(stage, kind)}
        seen = features + latest.get("heatmaps", ()) + latest.get("pafs", ())


def _first_convolution(cell: nn.Cell) -> Convolution:
    return next(layer for _, layer in cell.cells_and_names() if isinstance(layer, Convolution))


def _key(layer: str, config: NetworkConfig) -> str:
    part, _, rest = layer.partition(".")
    number, _, rest = rest.partition(".")
    if part != "stages" or not config.num_paf_stages or int(number) < config.num_paf_stages:
        return layer
    return f"heatmap stages.{int(number) - config.num_paf_stages}.{rest}"
