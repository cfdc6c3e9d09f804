"""Pass `mixed-bits`: weights of each layer on levels at equal distances, as many bits for each layer as it
needs.

What a layer loses with b bits is what its weights move, each by the curvature of the loss (as in Dong et
al., "HAWQ-V2", NeurIPS 2020, but from squared gradients); the bits of all layers are the best at one price of
a bit. Yang et al., "BSQ" (ICLR 2021), find bits per layer by training bit planes; here nothing is trained.
Bits are simulated: what the file gains is told, and no runtime computes with them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.dense import Array
from supernets.delivery.compression.codebooks import curvatures_of, equal_levels, nearest

BITS: Final = range(2, 9)
_FEWEST: Final = 64  # weights of a layer
_HALVINGS: Final = 60


def mixed_bits(
    network: nn.Module, mean: float, losses: Iterable[Callable[[nn.Module], Tensor]], *, control: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """(a copy whose weights have `mean` bits or fewer on average, the bits of each layer).

    network: folded, in evaluation mode, on the CPU. losses: of it on small batches. control: the same bits
    for every layer. Biases and layers of few weights stay as they are.
    """
    rounded = copy.deepcopy(network)
    found = {
        name: module.get_parameter("weight")
        for name, module in rounded.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.numel() >= _FEWEST
    }
    values = {name: one.detach().double().flatten().numpy() for name, one in found.items()}
    if control:
        bits = dict.fromkeys(found, int(mean))
    else:
        curvatures = curvatures_of(rounded, list(found.values()), losses)
        lost = {
            name: np.array([float((weight * (values[name] - _at(values[name], b)) ** 2).sum()) for b in BITS])
            for (name, weight) in zip(found, curvatures, strict=True)
        }
        bits = _bits(lost, {name: one.numel() for name, one in found.items()}, mean)
    with torch.no_grad():
        for name, parameter in found.items():
            parameter.copy_(torch.from_numpy(_at(values[name], bits[name])).reshape(parameter.shape))
    weights = sum(one.numel() for one in found.values())
    held = sum(bits[name] * one.numel() for name, one in found.items())
    return rounded, {
        "layers": [
            {"layer": name, "bits": bits[name], "weights": one.numel()} for name, one in found.items()
        ],
        "mean_bits": held / max(weights, 1),
        "simulated_bytes": held // 8,
        "weights_left": sum(one.numel() for one in network.parameters()) - weights,
    }


def _at(values: Array, bits: int) -> Array:
    return nearest(values, equal_levels(values, 2**bits))


def _bits(lost: Mapping[str, Array], sizes: Mapping[str, int], mean: float) -> dict[str, int]:
    """The bits that lose least at the price of a bit for which the mean is kept."""
    options, whole = np.array(BITS), sum(sizes.values())

    def at(price: float) -> dict[str, int]:
        return {
            name: int(options[np.argmin(losses + price * options * sizes[name])])
            for name, losses in lost.items()
        }

    low, high = -60.0, 60.0  # logarithms of a price
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        chosen = at(math.exp(middle))
        dear = sum(chosen[name] * sizes[name] for name in sizes) > mean * whole
        low, high = (middle, high) if dear else (low, middle)
    return at(math.exp(high))
