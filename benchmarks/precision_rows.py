"""Networks in several mixes of precisions; the rows of all their mixes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, product

from latency_tables.operators import Operator
from supernets.delivery.precision import FLOAT32, INT8
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import lower
from supernets.spaces.mixes import in_precisions
from supernets.spaces.space import Space


def patterns(mixed: Space, architecture: Architecture) -> list[Architecture]:
    """The network in float32, with every second block in int8, with the other ones, in int8: together they
    have every row that any mix of precisions has."""
    return [
        in_precisions(mixed, architecture, cycle(pair).__next__)
        for pair in product((FLOAT32, INT8), repeat=2)
    ]


def rows_of(mixed: Space, architectures: Iterable[Architecture]) -> list[Operator]:
    """Every row that any mix of precisions of these networks has."""
    return sorted({op for a in architectures for one in patterns(mixed, a) for op in lower(mixed, one)})
