"""Fine-tuning that leaves channels small which can then be cut out: how many a block uses is a part of the
loss.

Yang et al., "DeepHoyer: Learning Sparser Neural Network with Differentiable Scale-Invariant Sparsity
Measures" (ICLR 2020), equation 8: the square of the sum of groups' norms over the sum of their squares. It is
the number of groups where all are alike and 1 where one is left, and no scale of the weights changes it, so
it counts channels, where an L1 norm only makes all of them smaller. Differs: groups are the columns of the
layer that reads a block's middle channels, batch-norm folded, which is what pruning ranks them by
(`supernets.delivery.pruning`); and blocks are weighted, by the milliseconds of a channel say.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from supernets.errors import InvalidTraining
from supernets.layers.block import ElasticPrunable
from supernets.layers.units import ElasticConvUnit, folded_weight
from supernets.network import Supernet


def channels_used(network: Supernet, weights: Mapping[str, float]) -> Tensor:
    """Sum over blocks, by name, of weight x channels used: a scalar. Of one network: its weights are all in
    use. Raises InvalidTraining for a block that is not there or has no channels that can be cut out."""
    found, blocks = [], dict[str, object](network.blocks.items())
    for name, weight in weights.items():
        block = blocks.get(name)
        closing = block.closing if isinstance(block, ElasticPrunable) else None
        if closing is None:
            raise InvalidTraining(f"{network.space.name} has no block {name!r} that channels are cut out of")
        found.append(weight * hoyer_square(group_norms(closing)))
    return torch.stack(found).sum()


def group_norms(closing: ElasticConvUnit) -> Tensor:
    """How much of each input channel a unit reads, shape (channels,)."""
    return folded_weight(closing).float().flatten(2).square().sum((0, 2)).sqrt()


def hoyer_square(norms: Tensor) -> Tensor:
    """From 1, where one is not zero, to their number, where all are alike."""
    return norms.sum().square() / norms.square().sum().clamp_min(1e-12)
