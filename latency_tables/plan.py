"""What to measure: operators a table lacks, whole networks for calibration, and a few operators to see
whether it still holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from latency_tables.dense import DenseTable, Genes
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable

CALIBRATION_NETWORKS: Final = 24
"""Enough for a 95 % upper bound (19) with a few to spare."""
CHECK_OPERATORS: Final = 12
CHECK_NETWORKS: Final = 4


def missing_operators(needed: Iterable[Operator], table: LatencyTable | None) -> list[Operator]:
    """Operators that the table does not hold, sorted, each once."""
    held = table.rows.keys() if table is not None else frozenset()
    return sorted(op for op in set(needed) if op not in held)


def calibration_networks(
    dense: DenseTable,
    generator: np.random.Generator,
    networks: int = CALIBRATION_NETWORKS,
    resolutions: Sequence[int] | None = None,
    known: Genes | None = None,
) -> Genes:
    """Whole networks to measure: distinct, spread evenly over resolutions and over the range of `dense`,
    shape (n, genes).

    dense: latencies, or MACs while there is no table. resolutions: indices to plan for (default: all). known:
    networks measured already, which are not planned again. Each network is drawn from one of `networks`
    equally likely strata, so a conformal bound from them holds for random networks of the space.
    """
    chain = dense.chain
    wanted = list(range(chain.resolutions)) if resolutions is None else list(resolutions)
    taken = {row.tobytes() for row in chain.canonical(known)} if known is not None and len(known) else set()
    shares = np.diff(np.linspace(0, networks, len(wanted) + 1).round().astype(int))
    found: list[Genes] = []
    for resolution, share in zip(wanted, generator.permutation(shares), strict=True):
        candidates = chain.sample(generator, max(64, 40 * int(share)))
        candidates[:, 0] = resolution
        candidates = np.unique(candidates, axis=0)
        new = np.array([row.tobytes() not in taken for row in candidates], dtype=bool)
        candidates = candidates[new]
        order = np.argsort(dense.price(candidates), kind="stable")
        for stratum in np.array_split(order, share) if share else []:
            if len(stratum):
                found.append(candidates[generator.choice(stratum)])
    return np.array(found, dtype=np.int64).reshape(-1, chain.genes)


def check_operators(
    table: LatencyTable, generator: np.random.Generator, operators: int = CHECK_OPERATORS
) -> list[Operator]:
    """A few operators to re-measure, one from each stratum of latency: does the table still hold?"""
    ordered = sorted(table.rows, key=lambda op: table.rows[op].latency_ms)
    strata = np.array_split(np.arange(len(ordered)), min(operators, len(ordered)))
    return [ordered[int(generator.choice(stratum))] for stratum in strata]
