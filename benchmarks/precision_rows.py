"""Networks in several mixes of precisions; the rows of all their mixes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import cycle, product

from latency_tables.operators import Operator
from supernets.delivery.int8_export import DEQUANTIZE, QUANTIZE
from supernets.delivery.precision import FLOAT32, INT8, PrecisionPlan
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space


def in_precisions(mixed: Space, architecture: Architecture, next_one: Callable[[], str]) -> Architecture:
    """The network with `next_one()` as the precision of each block, in order."""
    stages = tuple(
        replace(stage, blocks=tuple(c if c.zero else c.at(next_one()) for c in stage.blocks))
        for stage in mixed.in_float(architecture).stages
    )
    return replace(architecture, stages=stages)


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


def plan_of(operators: Sequence[Operator]) -> PrecisionPlan:
    """Of a network as it was lowered: conversions follow from the other operators."""
    return PrecisionPlan(tuple(op.precision for op in operators if op.family not in (QUANTIZE, DEQUANTIZE)))
