"""Peak activation memory: a maximum over operators, not a sum, so it restricts what may be chosen.

A network keeps the limit exactly when each of its operators does; forbidding the others keeps every solver
exact.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latency_tables.dense import DenseTable
from latency_tables.operators import Operator
from supernets.errors import InfeasibleBudget
from supernets.search.exact.bounds import bounds
from supernets.search.problem import Constraint, Problem
from supernets.spaces.lowering import dense_from
from supernets.spaces.space import Space


def peak_activation_bytes(op: Operator, bytes_per_value: int = 4) -> int:
    """Largest memory of tensors alive at once within an operator, batch 1: what it reads, writes, and its
    shortcut."""
    return op.peak_bytes(bytes_per_value)


def within_activation(
    space: Space, problem: Problem, limit_bytes: float, bytes_per_value: int = 4
) -> Problem:
    """The same problem without the networks whose peak activation exceeds the limit.

    Raises InfeasibleBudget with the least and largest peak that can be reached.
    """
    peaks = dense_from(space, lambda op: peak_activation_bytes(op, bytes_per_value), max)
    score = _forbid_above(problem.score, peaks, limit_bytes, -np.inf)
    constraints = tuple(
        Constraint(c.name, _forbid_above(c.table, peaks, limit_bytes, np.inf), c.limit)
        for c in problem.constraints
    )
    try:
        bounds(_forbid_above(peaks, peaks, limit_bytes, np.inf))
    except InfeasibleBudget:
        least, largest = peak_range(peaks)
        raise InfeasibleBudget(
            f"no network has a peak activation <= {limit_bytes:g} bytes; from {least:g} to {largest:g} can "
            "be reached: "
            "raise the limit, or allow smaller resolutions",
            least,
            largest,
            "memory_bytes",
        ) from None
    return replace(problem, score=score, constraints=constraints)


def peak_range(peaks: DenseTable) -> tuple[float, float]:
    """Least and largest peak of any network, bytes; peaks:
    `dense_from(space, peak_activation_bytes, max)`."""
    values = np.unique(np.concatenate([b[np.isfinite(b)] for b in (*peaks.blocks, *peaks.switch)]))

    def possible(limit: float) -> bool:
        try:
            bounds(_forbid_above(peaks, peaks, limit, np.inf))
        except InfeasibleBudget:
            return False
        return True

    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if possible(values[middle]) else (middle + 1, high)
    return float(values[low]), float(values[-1])


def _forbid_above(table: DenseTable, peaks: DenseTable, limit: float, forbidden: float) -> DenseTable:
    return table.each(lambda values, peak: np.where(peak > limit, forbidden, values), peaks)
