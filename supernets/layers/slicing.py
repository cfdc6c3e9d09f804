"""Linear layers, layer-norms and embeddings of which the first rows and columns can be used.

Sizes of inputs are those of the tensor that comes in, so a module built at exactly the sizes of one network
is that network's plain layer. Source: HAT (Wang et al., ACL 2020): slices are always the first ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.layers.block import SelfInitialised


def leading(weight: Tensor, *sizes: int) -> Tensor:
    """The first of each dimension; the tensor itself where that is all: then a graph has no slice."""
    for dimension, size in enumerate(sizes):
        if size != weight.shape[dimension]:
            weight = weight.narrow(dimension, 0, size)
    return weight


class SlicedLinear(nn.Module, SelfInitialised):
    """Linear layer. weight: (out, in), bias: (out,)."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, x: Tensor, out_features: int | None = None) -> Tensor:
        """(..., in) to (..., out), all outputs where no number is given."""
        out = self.weight.shape[0] if out_features is None else out_features
        return F.linear(x, leading(self.weight, out, x.shape[-1]), leading(self.bias, out))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Uniform by fan-in and fan-out (Glorot), biases 0."""
        bound = math.sqrt(6 / sum(self.weight.shape))
        self.weight.uniform_(-bound, bound, generator=generator)
        self.bias.zero_()


class SlicedLayerNorm(nn.Module):
    """Layer-norm over as many features as come in, eps 1e-5."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        width = x.shape[-1]
        return F.layer_norm(x, (width,), leading(self.weight, width), leading(self.bias, width))
