"""Token embedding with sinusoidal positions, elastic in width.

Positions are those of the largest width, then cut (HAT, Wang et al., ACL 2020): a narrower network keeps all
sines before it loses cosines. They are counted over real tokens only, from 2 on, so that the side on which a
batch is padded does not matter; the published code (fairseq) has it so.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_tables.generation import PADDING
from supernets.layers.block import SelfInitialised
from supernets.layers.slicing import leading


class Embedding(nn.Module, SelfInitialised):
    """weight: (tokens, width), also an output matrix where that is shared."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tokens, width))

    def forward(self, tokens: Tensor, width: int) -> Tensor:
        """(...) whole numbers to (..., width), scaled by the root of that width."""
        return math.sqrt(width) * F.embedding(tokens, leading(self.weight, self.weight.shape[0], width))

    def logits(self, x: Tensor) -> Tensor:
        """(..., width) to (..., tokens)."""
        return F.linear(x, leading(self.weight, self.weight.shape[0], x.shape[-1]))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Normal of width ** -0.5, nothing for padding."""
        self.weight.normal_(0, self.weight.shape[1] ** -0.5, generator=generator)
        self.weight[PADDING].zero_()


class Positions(nn.Module):
    """The sinusoids of a width, even; longer than what was asked for so far as soon as it is needed."""

    table: Tensor

    def __init__(self, width: int, length: int = 256) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("table", _sinusoids(length, width), persistent=False)

    def forward(self, positions: Tensor, width: int) -> Tensor:
        """(...) positions as `positions_of` counts them to (..., width)."""
        return F.embedding(positions, leading(self.table, self.table.shape[0], width))

    def reach(self, length: int) -> None:
        """Have rows for so many tokens."""
        if length + PADDING + 1 > self.table.shape[0]:
            self.table = _sinusoids(2 * (length + PADDING + 1), self.width).to(self.table)


def positions_of(tokens: Tensor) -> Tensor:
    """2, 3, 4, ... over the real tokens of each row, 1 for padding; shape of `tokens`, (B, T)."""
    real = tokens.ne(PADDING).long()
    return real.cumsum(dim=1) * real + PADDING


def _sinusoids(length: int, width: int) -> Tensor:
    """(length, width): sines, then cosines; nothing at the position of padding. In float32 as the published
    code computes it."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10_000) / (half - 1)))
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    table = torch.cat((angle.sin(), angle.cos()), dim=1)
    table[PADDING] = 0
    return table
