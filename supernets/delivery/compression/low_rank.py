"""Pass `low-rank`: 1x1 convolutions and linear layers split in two through fewer channels.

Outputs of a layer lie near a subspace; the layer is projected on it, y ~ U U'(Wx) with U the principal
directions of the outputs on samples. Zhang et al., "Accelerating Very Deep Convolutional Networks for
Classification and Detection" (TPAMI 2016), whose product of energies is what the ranks of all layers maximise
here too, as a sum of logarithms for a given price of a multiply-add instead of greedily. Their non-linear
solver and the correction of errors of earlier layers are left out.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from latency_tables.dense import Array
from supernets.layers.block import Drawn, Graph

_LEAST_SHARE: Final = 0.01
"""Of the multiply-adds of all layers that can be split: a second layer costs time of its own."""
_MOST_KEPT: Final = 0.8
"""Of a layer's multiply-adds: what saves less is not split."""
_STEP: Final = 4  # channels; kernels compute several at a time
_HALVINGS: Final = 60
_AT_A_TIME: Final = 64

Splittable = nn.Conv2d | nn.Linear


@dataclass(frozen=True, eq=False)
class _Layer:
    """weight: (out, in). mean: (in,); covariance: (in, in) of its inputs. directions: of its outputs,
    (out, out), the widest first, with the share of the variance that the first r hold in kept[r - 1]."""

    name: str
    weight: Array
    mean: Array
    directions: Array
    kept: Array
    positions: int

    @property
    def macs(self) -> int:
        return self.weight.size * self.positions

    def ranks(self) -> npt.NDArray[np.int64]:
        """That save enough, (ranks,)."""
        out, given = self.weight.shape
        most = int(_MOST_KEPT * out * given / (out + given))
        return np.arange(_STEP, most + 1, _STEP)

    def rank(self, price: float) -> int | None:
        """The best at that price of a multiply-add; None: unsplit."""
        ranks = self.ranks()
        if not len(ranks):
            return None
        costs = -np.log(np.maximum(self.kept[ranks - 1], 1e-12)) + price * self.split_macs(ranks)
        best = int(np.argmin(costs))
        return int(ranks[best]) if costs[best] < price * self.macs else None

    def split_macs(self, rank: Any) -> Any:
        return rank * sum(self.weight.shape) * self.positions


@torch.no_grad()
def low_rank(
    network: nn.Module, samples: Tensor, share: float, *, control: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """(a copy with layers split so that about `share` of their multiply-adds are left, what was split).

    network: folded, in evaluation mode, on the CPU. samples: its inputs, (n, ...). control: the same ranks,
    from the weights alone.
    """
    found = _observed(network, samples)
    ranks = _ranks(found, share)
    split = copy.deepcopy(network)
    lines = []
    for layer in found:
        rank = ranks[layer.name]
        if rank is None:
            continue
        module = split.get_submodule(layer.name)
        _replace(split, layer.name, _halves(module, layer, rank, control=control))
        out, given = layer.weight.shape
        lines.append(
            {
                "layer": layer.name,
                "in": given,
                "out": out,
                "rank": rank,
                "variance_kept": float(layer.kept[rank - 1]),
            }
        )
    before = sum(layer.macs for layer in found)
    after = sum(
        layer.macs if (rank := ranks[layer.name]) is None else layer.split_macs(rank) for layer in found
    )
    said = {
        "layers": lines,
        "layers_left": len(found) - len(lines),
        "share_of_macs": after / before if before else 1.0,
        "macs_saved": int(before - after),
    }
    return split, said


def _ranks(layers: list[_Layer], share: float) -> Mapping[str, int | None]:
    """Rank of each layer at the price of a multiply-add that leaves the share; a price for which a little
    more is left, where none hits it."""
    whole = sum(layer.macs for layer in layers)

    def at(price: float) -> dict[str, int | None]:
        return {layer.name: layer.rank(price) for layer in layers}

    def left(ranks: Mapping[str, int | None]) -> float:
        macs = [
            layer.macs if (rank := ranks[layer.name]) is None else layer.split_macs(rank) for layer in layers
        ]
        return sum(macs) / max(whole, 1)

    low, high = -20 * math.log(10), 5 * math.log(10)  # of a price in nats a multiply-add
    if left(at(math.exp(high))) > share:
        return at(math.exp(high))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if left(at(math.exp(middle))) > share else (low, middle)
    return at(math.exp(low))


def _observed(network: nn.Module, samples: Tensor) -> list[_Layer]:
    """Layers that can be split with the moments of their inputs; small ones are left out."""
    wanted = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1)
    }
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            rows = _rows(module, given[0]).double()
            first, second, count = sums.get(name, (0.0, 0.0, 0))
            sums[name] = (first + rows.sum(0), second + rows.T @ rows, count + len(rows))

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in wanted.items()]
    try:
        for batch in torch.split(samples, _AT_A_TIME):
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    found = [_layer(name, wanted[name], *sums[name], len(samples)) for name in wanted if name in sums]
    whole = sum(layer.macs for layer in found)
    return [layer for layer in found if layer.macs >= _LEAST_SHARE * whole]


def _rows(module: nn.Module, x: Tensor) -> Tensor:
    """Inputs of a layer as (positions, channels)."""
    if isinstance(module, nn.Conv2d):
        stride = int(module.stride[0])
        return x[:, :, ::stride, ::stride].permute(0, 2, 3, 1).flatten(0, 2)
    return x.flatten(0, -2)


def _layer(name: str, module: nn.Module, first: Tensor, second: Tensor, count: int, samples: int) -> _Layer:
    weight = module.get_parameter("weight").double().flatten(1).numpy()
    mean = (first / count).numpy()
    covariance = (second / count).numpy() - np.outer(mean, mean)
    values, vectors = np.linalg.eigh(weight @ covariance @ weight.T)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    kept = np.cumsum(values) / max(float(values.sum()), 1e-30)
    return _Layer(name, weight, mean, np.ascontiguousarray(vectors), kept, count // samples)


class Split(nn.Module, Drawn):
    """A layer as two."""

    def __init__(self, first: Splittable, second: Splittable) -> None:
        super().__init__()
        self.first, self.second = first, second

    @property
    def weight(self) -> Tensor:
        """What units look at to tell how they are trained; nothing computes with it."""
        return self.second.weight

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.second(self.first(x)))

    def draw(self, graph: Graph, x: str) -> str:
        return graph.module(self.second, graph.module(self.first, x))


def _halves(module: nn.Module, layer: _Layer, rank: int, *, control: bool) -> Split:
    """The layer as two."""
    bias = module.bias
    offset = np.zeros(len(layer.weight)) if bias is None else bias.double().numpy()  # type: ignore[operator]
    if control:
        left, sizes, right = np.linalg.svd(layer.weight, full_matrices=False)
        second, first = left[:, :rank] * sizes[:rank], right[:rank]
    else:
        second = layer.directions[:, :rank]
        first = second.T @ layer.weight
        # What is cut off keeps its mean.
        offset = offset + layer.weight @ layer.mean - second @ (first @ layer.mean)
    given, out = layer.weight.shape[1], len(layer.weight)
    pair: list[Splittable]
    if isinstance(module, nn.Conv2d):
        pair = [
            nn.Conv2d(given, rank, 1, int(module.stride[0]), bias=False),
            nn.Conv2d(rank, out, 1, bias=True),
        ]
    else:
        pair = [nn.Linear(given, rank, bias=False), nn.Linear(rank, out, bias=True)]
    for part, weight in zip(pair, (first, second), strict=True):
        part.weight.copy_(torch.from_numpy(weight.copy()).reshape(part.weight.shape))
    pair[1].get_parameter("bias").copy_(torch.from_numpy(offset))
    return Split(*pair).eval()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, module)
