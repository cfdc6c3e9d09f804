"""How many samples may go through a network together: as many as their activations fit into a budget."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Final

from latency_tables.operators import Operator
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space

ACTIVATION_BYTES: Final = 7 * 2**27  # of float32 activations held at once, beside weights and samples
_COPIES: Final = 2.5
"""Of the values that an operator needs at its peak: each layer of a module makes a tensor of its own where a
deployed operator is fused, and a convolution copies them into the order of channels that suits it."""


def samples_at_once(operators: Iterable[Operator]) -> int:
    """Samples, at least one, for a walk over many networks of such operators, which keeps the output of every
    operator on the path to the current network and what the largest one needs inside."""
    ops = tuple(operators)
    values = _COPIES * max(op.peak_values for op in ops) + sum(prod(op.output_shape) for op in ops)
    return max(1, int(ACTIVATION_BYTES / (4 * values)))


def samples_of_space(space: Space, condition: int) -> int:
    """Samples that go through any network of a space together. condition: the resolution of pictures."""
    return samples_at_once(lower(space, space.largest(condition)))
