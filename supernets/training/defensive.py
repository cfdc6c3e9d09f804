"""Fine-tuning that keeps errors small: the layers of a network are drawn towards orthogonal ones.

What rounding and an adversary add to an input grows from layer to layer by at most the product of the layers'
Lipschitz constants. Lin et al., "Defensive Quantization: When Efficiency Meets Robustness" (ICLR 2019), keep
that product near 1 by adding beta / 2 |W'W - I|^2 of every layer to the loss. Differs: W is the weight as it
is delivered, batch-norm folded, since a batch-norm undoes whatever is asked of the weight alone; and the
smaller of W'W and WW' is taken, for both have the same singular values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.layers.units import ElasticConvUnit, folded_weight
from supernets.network import Supernet


def not_orthogonal(network: Supernet) -> Tensor:
    """Half the sum over layers of |W'W - I|^2, a scalar. Of one network: its weights are all in use."""
    found = [_distance(folded_weight(unit), unit.conv.depthwise) for unit in _units(network)]
    linear = [part for part in network.modules() if isinstance(part, nn.Linear)]
    found += [_distance(part.weight, depthwise=False) for part in linear]
    return 0.5 * torch.stack(found).sum()


def _units(network: Supernet) -> list[ElasticConvUnit]:
    return [part for part in network.modules() if isinstance(part, ElasticConvUnit)]


def _distance(weight: Tensor, depthwise: bool) -> Tensor:
    rows = weight.float().flatten(1)
    if depthwise:  # each channel is a layer of its own
        return (rows.square().sum(1) - 1).square().sum()
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    return (gram - torch.eye(len(gram), device=gram.device)).square().sum()
