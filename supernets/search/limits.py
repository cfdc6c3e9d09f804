"""Limits besides latency that hold on every device: size, MACs and peak activation memory of a network.

Size and MACs add up over operators and become constraints; peak memory is a maximum and forbids choices
(`activation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from latency_tables.dense import DenseTable
from latency_tables.operators import Operator
from supernets.errors import InfeasibleBudget
from supernets.search.activation import peak_activation_bytes, peak_range, within_activation
from supernets.search.exact.bounds import bounds
from supernets.search.exact.several import check_pairs
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import restricted
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_from, lower
from supernets.spaces.space import Space

SIZE = "size_bytes"
MACS = "macs"
MEMORY = "memory_bytes"
BYTES_PER_PARAMETER = 4
ADDITIVE: dict[str, Callable[[Operator], float]] = {
    SIZE: lambda op: float(BYTES_PER_PARAMETER * op.parameters),
    MACS: lambda op: float(op.macs),
}
LIMITS = (*ADDITIVE, MEMORY)


@lru_cache(maxsize=64)
def cost_table(space: Space, name: str) -> DenseTable:
    """The cost of every network of the space: float32 weights in bytes, MACs, or (to be combined by max) peak
    bytes."""
    return (
        dense_from(space, peak_activation_bytes, max) if name == MEMORY else dense_from(space, ADDITIVE[name])
    )


@lru_cache(maxsize=64)
def reachable(space: Space, name: str) -> tuple[float, float]:
    """Least and greatest cost of any network of the space."""
    table = cost_table(space, name)
    return peak_range(table) if name == MEMORY else bounds(table)


def costs_of(space: Space, architecture: Architecture) -> dict[str, int]:
    """Every cost of one network, by its name in `LIMITS`; size: of its float32 weights."""
    operators = lower(space, architecture)
    sums = {name: int(sum(cost(op) for op in operators)) for name, cost in ADDITIVE.items()}
    return {**sums, MEMORY: max(peak_activation_bytes(op) for op in operators)}


def limited(
    space: Space, problem: Problem, limits: Mapping[str, float], file_overhead_bytes: float = 0.0
) -> Problem:
    """The problem with further limits by name, after its own constraints.

    file_overhead_bytes: what a file holds besides weights, counted with the size. Raises InfeasibleBudget
    naming the constraint and the range it can reach: alone, or for the problem's own constraints with the
    memory kept.
    """
    constraints = []
    for name, limit in limits.items():
        extra = file_overhead_bytes if name == SIZE else 0.0
        low, high = (value + extra for value in reachable(space, name))
        if limit < low:
            raise unreachable(name, limit, low, high)
        if name != MEMORY:
            count = len(space.resolutions)
            table = cost_table(space, name).affine([extra] * count, [1.0] * count)
            constraints.append(Constraint(name, table, float(limit)))
    found = replace(problem, constraints=(*problem.constraints, *constraints))
    if MEMORY not in limits:
        return found
    kept = within_activation(space, found, float(limits[MEMORY]))
    for constraint in kept.constraints:
        low, high = bounds(constraint.table)
        if constraint.limit < low:
            raise unreachable(
                constraint.name, constraint.limit, low, high, f" within {MEMORY} <= {limits[MEMORY]:.12g}"
            )
    return kept


def check_limits(
    space: Space,
    constraints: Sequence[Constraint],
    limits: Mapping[str, float],
    mask: DenseTable | None = None,
) -> None:
    """Refuses what no network of the space can keep: each limit alone, the others within the peak memory, and
    any two together.

    constraints: further ones; mask: choices that may not be taken. Raises InfeasibleBudget. Milliseconds:
    nothing is solved.
    """
    anything = dense_from(space, lambda op: 0.0)
    problem = limited(space, Problem(space.chain, anything, tuple(constraints)), limits)
    check_pairs((problem if mask is None else restricted(problem, mask)).constraints)


def unreachable(name: str, limit: float, low: float, high: float, others: str = "") -> InfeasibleBudget:
    """The error that names the constraint and what it can reach."""
    return InfeasibleBudget(
        f"no network keeps {name} <= {limit:.12g}{others}; from {low:.12g} to {high:.12g} can be reached: "
        "raise the limit",
        low,
        high,
        name,
    )
