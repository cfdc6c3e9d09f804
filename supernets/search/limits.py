"""Limits besides latency that hold on every device: size, MACs, peak activation memory of a network, and what
fine-tuning it one sample at a time keeps.

Size, MACs and what fine-tuning keeps add up over operators and become constraints; peak memory is a maximum
and forbids choices (`activation`).
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
from supernets.search.exact.constrained import check_pairs
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import restricted
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_from, lower
from supernets.spaces.space import Space

SIZE = "size_bytes"
MACS = "macs"
MEMORY = "memory_bytes"
ADAPTATION = "adaptation_bytes"
BYTES_PER_VALUE = 4
"""Of weights and activations where no device says otherwise: float32. Operators of another precision have
their own."""
ADDITIVE: dict[str, Callable[[Operator, int], float]] = {
    SIZE: lambda op, bytes_per_value: float(op.size_bytes(bytes_per_value)),
    MACS: lambda op, bytes_per_value: float(op.macs),
    # Fine-tuning in float32, whatever is delivered: a weight with its gradient and Adam's two numbers.
    ADAPTATION: lambda op, bytes_per_value: 4.0 * (4 * op.parameters + op.kept_values),
}
LIMITS = (*ADDITIVE, MEMORY)


@lru_cache(maxsize=64)
def cost_table(space: Space, name: str, bytes_per_value: int = BYTES_PER_VALUE) -> DenseTable:
    """The cost of every network of the space: bytes of its weights or of its fine-tuning, MACs, or (to be
    combined by max) peak bytes."""
    if name == MEMORY:
        return dense_from(space, lambda op: peak_activation_bytes(op, bytes_per_value), max)
    cost = ADDITIVE[name]
    return dense_from(space, lambda op: cost(op, bytes_per_value))


@lru_cache(maxsize=64)
def reachable(space: Space, name: str, bytes_per_value: int = BYTES_PER_VALUE) -> tuple[float, float]:
    """Least and greatest cost of any network of the space."""
    table = cost_table(space, name, bytes_per_value)
    return peak_range(table) if name == MEMORY else bounds(table)


def costs_of(
    space: Space, architecture: Architecture, bytes_per_value: int = BYTES_PER_VALUE
) -> dict[str, int]:
    """Every cost of one network, by its name in `LIMITS`; size: of its weights."""
    operators = lower(space, architecture)
    sums = {name: int(sum(cost(op, bytes_per_value) for op in operators)) for name, cost in ADDITIVE.items()}
    return {**sums, MEMORY: max(peak_activation_bytes(op, bytes_per_value) for op in operators)}


def limited(
    space: Space,
    problem: Problem,
    limits: Mapping[str, float],
    file_overhead_bytes: float = 0.0,
    bytes_per_value: int = BYTES_PER_VALUE,
) -> Problem:
    """The problem with further limits by name, after its own constraints.

    file_overhead_bytes: what a file holds besides weights, counted with the size. bytes_per_value: in the
    precision that is delivered. Raises InfeasibleBudget naming the constraint and the range it can reach:
    alone, or for the problem's own constraints with the memory kept.
    """
    constraints = []
    for name, limit in limits.items():
        # A file is more than its weights; how much more the last too large one has shown.
        extra = file_overhead_bytes if name == SIZE else 0.0
        low, high = (value + extra for value in reachable(space, name, bytes_per_value))
        if limit < low:
            raise unreachable(name, limit, low, high)
        if name != MEMORY:
            count = len(space.resolutions)
            table = cost_table(space, name, bytes_per_value).affine([extra] * count, [1.0] * count)
            constraints.append(Constraint(name, table, float(limit)))
    found = replace(problem, constraints=(*problem.constraints, *constraints))
    if MEMORY not in limits:
        return found
    # A peak is a maximum over operators and no sum: it cannot be a constraint, it forbids choices.
    kept = within_activation(space, found, float(limits[MEMORY]), bytes_per_value)
    # What the memory forbids may have been the only networks that kept another limit.
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
    bytes_per_value: int = BYTES_PER_VALUE,
) -> None:
    """Refuses what no network of the space can keep: each limit alone, the others within the peak memory, any
    two together.

    constraints: further ones; mask: choices that may not be taken; bytes_per_value: in the precision that is
    delivered. Raises InfeasibleBudget. Milliseconds: nothing is solved.
    """
    # Each constraint alone is what callers have looked at already, and most searches have no other.
    if not limits and mask is None and len(constraints) < 2:
        return
    problem = limited(
        space, Problem(space.chain, _indifferent(space), tuple(constraints)), limits, 0.0, bytes_per_value
    )
    check_pairs((problem if mask is None else restricted(problem, mask)).constraints)


@lru_cache(maxsize=64)
def _indifferent(space: Space) -> DenseTable:
    """A score is part of a problem; this one is for where nothing is maximised."""
    return dense_from(space, lambda op: 0.0)


def unreachable(name: str, limit: float, low: float, high: float, others: str = "") -> InfeasibleBudget:
    """The error that names the constraint and what it can reach."""
    return InfeasibleBudget(
        f"no network keeps {name} <= {limit:.12g}{others}; from {low:.12g} to {high:.12g} can be reached: "
        "raise the limit",
        low,
        high,
        name,
    )
