"""One line for networks whose blocks differ in precision: what rows of each class take inside whole networks.

A row in 8 bit is measured between tensors of 8 bit, a conversion alone; inside a network the one gains what
fuses and the other costs more than alone (about three times, on the processor of docs/compression.md). So the
classes have a factor each, beside what every network takes: latency = intercept + sum of factor x sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from latency_tables.dense import Array
from latency_tables.operators import Operator
from latency_tables.prediction.least_squares import nonnegative
from latency_tables.table import LatencyTable

BOUNDARY: Final = "boundary"
LEAST_FACTOR: Final = 0.1
"""No row is free: without this, disturbed networks could say of a class that it takes no time at all."""
_PRIOR: Final = 0.01
"""Weight of one network that says all factors are 1: classes that no probe has keep theirs."""


def class_of(op: Operator) -> str:
    """Its precision, or `BOUNDARY` for what changes it."""
    return (
        op.precision if len({op.stored, *(spec.dtype for spec in op.fed)}) == 1 or op.parameters else BOUNDARY
    )


@dataclass(frozen=True)
class PrecisionFactors:
    """intercept_ms: of every network. factors: by class; rows are multiplied by them."""

    intercept_ms: float
    factors: dict[str, float]

    @classmethod
    def fit(
        cls, table: LatencyTable, networks: Sequence[Sequence[Operator]], latency_ms: Sequence[float]
    ) -> Self:
        """From whole networks in several mixes of precisions; errors are relative; the intercept is not
        negative, a factor at least `LEAST_FACTOR`.

        Raises MissingLatency for an operator that the table lacks, ValueError for fewer than 4 networks.
        """
        if len(networks) < 4:
            raise ValueError("factors of precisions take 4 whole networks at least, better a dozen")
        names = sorted({class_of(op) for network in networks for op in network})
        sums = np.array([[_sum(table, network, name) for name in names] for network in networks])
        times: Array = np.asarray(latency_ms, dtype=np.float64)
        rows = np.column_stack([np.ones(len(times)), sums]) / times[:, None]
        scale = np.maximum(np.abs(rows).mean(axis=0), 1e-12)
        scaled = rows / scale
        wanted = np.concatenate([[0.0], np.ones(len(names))]) * scale  # factors of 1, no intercept
        least = np.concatenate([[0.0], np.full(len(names), LEAST_FACTOR)]) * scale
        gram = scaled.T @ scaled + _PRIOR * np.eye(len(scale))
        above = scaled.T @ (1.0 - scaled @ least) + _PRIOR * (wanted - least)
        found = (least + nonnegative(gram, above)) / scale
        return cls(float(found[0]), dict(zip(names, (float(f) for f in found[1:]), strict=True)))

    def applied(self, table: LatencyTable) -> LatencyTable:
        """The table with every row as it counts inside a network, but for the intercept."""
        rows = {op: m.times(self.factors.get(class_of(op), 1.0)) for op, m in table.rows.items()}
        return replace(table, rows=rows)

    def predict(self, table: LatencyTable, networks: Sequence[Sequence[Operator]]) -> Array:
        """Milliseconds of whole networks, shape (networks,). table: as measured."""
        counted = self.applied(table)
        return np.array([self.intercept_ms + counted.latency_ms(network) for network in networks])


def _sum(table: LatencyTable, network: Sequence[Operator], name: str) -> float:
    return table.latency_ms([op for op in network if class_of(op) == name])
