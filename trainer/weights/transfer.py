"""Weights of a network -> weights of another one, with another skeleton, number of stages, or width.

Channels of joints and limbs follow their names; all others follow their numbers, up to the narrower width. A layer that is taken
computes what it computed before: weights of inputs that the old network did not have start at 0. The rest keeps its initial values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # imports mindspore
    from trainer.networks.channels import Channels, Layer

Tensors = dict[str, np.ndarray]
Taken = Literal["taken", "in part", "initialized"]
MAX_NAMES = 8


@dataclass(frozen=True, kw_only=True)
class LayerTransfer:
    """What a layer took. new: outputs that the old network did not have. num_inputs: inputs taken, and all inputs."""

    layer: str
    taken: Taken
    fields: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    num_outputs: tuple[int, int] = (0, 0)
    num_inputs: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class _Axis:
    """positions: intp (C,), the old channel of each new channel, -1 if there is none. signs: float32 (C,)."""

    positions: np.ndarray
    signs: np.ndarray

    @property
    def known(self) -> np.ndarray:
        return np.flatnonzero(self.positions >= 0)

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.known), len(self.positions)


def transfer(
    old: Mapping[str, np.ndarray],
    old_layers: Mapping[str, "Layer"],
    initial: Mapping[str, np.ndarray],
    layers: Mapping[str, "Layer"],
) -> tuple[Tensors, list[LayerTransfer]]:
    """Return the weights of a network that starts from `initial` and takes what fits from `old`, and what each layer took.

    old, initial: parameters by name. A layer fits if both networks have one of its name with the same kernel.
    """
    names = {layer.key: name for name, layer in old_layers.items()}
    tensors: Tensors = {}
    report = []
    for name, layer in layers.items():
        parameters = [parameter for parameter in initial if parameter.rpartition(".")[0] == name]
        found = names.get(layer.key, "")
        sources = [f"{found}.{parameter.rpartition('.')[2]}" for parameter in parameters]
        if not all(s in old and _fits(old[s], initial[p]) for s, p in zip(sources, parameters, strict=True)):
            tensors |= {parameter: initial[parameter] for parameter in parameters}
            report.append(LayerTransfer(layer=name, taken="initialized"))
            continue
        outputs, inputs = _axis(old_layers[found].outputs, layer.outputs), _axis(old_layers[found].inputs, layer.inputs)
        for source, parameter in zip(sources, parameters, strict=True):
            tensors[parameter] = _take(old[source], initial[parameter], outputs, inputs)
        report.append(_describe(name, layer.outputs, outputs, inputs))
    return tensors, report


def _fits(old: np.ndarray, new: np.ndarray) -> bool:
    return old.ndim == new.ndim and old.shape[2:] == new.shape[2:]


def _axis(old: "Channels", new: "Channels") -> _Axis:
    positions = {channel: position for position, channel in enumerate(old)}
    found = [positions.get(channel, -1) for channel in new]
    signs = [old[p].sign * channel.sign if p >= 0 else 1 for p, channel in zip(found, new, strict=True)]
    return _Axis(np.array(found, np.intp), np.array(signs, np.float32))


def _take(old: np.ndarray, initial: np.ndarray, outputs: _Axis, inputs: _Axis) -> np.ndarray:
    result, rows = initial.copy(), outputs.known
    old_rows, signs = old[outputs.positions[rows]], outputs.signs[rows].reshape(-1, *[1] * (old.ndim - 1))
    if old.ndim == 1:
        result[rows] = old_rows * signs
        return result
    columns = inputs.known
    result[rows] = 0
    weights = old_rows[:, inputs.positions[columns]] * signs * inputs.signs[columns].reshape(-1, *[1] * (old.ndim - 2))
    result[np.ix_(rows, columns)] = weights
    return result


def _describe(name: str, channels: "Channels", outputs: _Axis, inputs: _Axis) -> LayerTransfer:
    is_whole = all(known == count for known, count in (outputs.counts, inputs.counts))
    is_head = bool(channels[0].kind)
    by_position = dict(zip(map(str, channels), outputs.positions.tolist(), strict=True)) if is_head else {}
    return LayerTransfer(
        layer=name,
        taken="taken" if is_whole else "in part" if len(outputs.known) else "initialized",
        fields=tuple(field for field, position in by_position.items() if position >= 0),
        new=tuple(field for field, position in by_position.items() if position < 0),
        num_outputs=outputs.counts,
        num_inputs=inputs.counts,
    )


def summary(report: Sequence[LayerTransfer]) -> list[str]:
    """Return one line for every run of layers that took the same, and one for every layer that was taken in part."""
    lines = []
    for _, group in groupby(report, key=lambda entry: (entry.taken, entry.layer if entry.taken == "in part" else "")):
        several = list(group)
        first, last = several[0], several[-1]
        names = first.layer if len(several) == 1 else f"{first.layer} to {last.layer} ({len(several)} layers)"
        lines.append(f"  {first.taken:<12}{names}{_details(first) if first.taken == 'in part' else ''}")
    return lines


def _details(entry: LayerTransfer) -> str:
    parts = []
    for kind, (known, count) in (("outputs", entry.num_outputs), ("inputs", entry.num_inputs)):
        if known < count:
            parts.append(f"{known} of {count} {kind}")
    if entry.fields:
        parts.append(f"taken {_listed(entry.fields)}")
    if entry.new:
        parts.append(f"new {_listed(entry.new)}")
    return ": " + "; ".join(parts)


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {rest} more" if rest > 0 else "")
