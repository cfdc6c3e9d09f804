"""GroupNorm after convolutions with standardised weights, instead of batch-norm.

It knows nothing of other samples, so a network may be trained one sample at a time without standing
statistics. Source: TinyTL's published code (Cai et al., NeurIPS 2020; weight standardisation: Qiao et al.,
2019): groups of 8 channels, weights (w - mean) / (deviation + 1e-5) of each filter. Only for weights that
were trained so: from batch-norm its scale and shift can be copied, its statistics cannot.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS_A_GROUP: Final = 8
_LEAST_DEVIATION: Final = 1e-5


def groups_of(channels: int) -> int:
    """How many groups; smaller ones than 8 channels where 8 does not divide them."""
    return channels // math.gcd(channels, CHANNELS_A_GROUP)


def standardised(weight: Tensor) -> Tensor:
    """Mean 0 and deviation 1 in each filter. weight: (out, in, K, K)."""
    if weight[0].numel() == 1:  # of one number nothing would be left
        return weight
    deviation, mean = torch.std_mean(weight, dim=(1, 2, 3), keepdim=True)
    return (weight - mean) / (deviation + _LEAST_DEVIATION)


class ElasticGroupNorm(nn.Module):
    """GroupNorm over the first channels of its vectors, as many as the input has."""

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        c = x.shape[1]
        return F.group_norm(x, groups_of(c), self.weight[:c], self.bias[:c], self.eps)

    def state(self, prefix: str, channels: int) -> dict[str, Tensor]:
        """State of the plain group-norm over the first channels, keys with `prefix`."""
        return {f"{prefix}weight": self.weight[:channels], f"{prefix}bias": self.bias[:channels]}
