"""One line for networks whose blocks differ in precision: what rows of each class take inside whole networks.

A row in 8 bit is measured between tensors of 8 bit, a conversion alone; inside a network the one gains what
fuses and the other costs more than alone (about three times, on the processor of docs/compression.md). So the
classes have a factor each, beside what every network takes: latency = intercept + sum of factor x sum. A row
alone pays a call of the runtime besides, which a network pays once: that overhead is taken off every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from latency_tables.dense import Array
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from latency_tables.prediction.least_squares import nonnegative
from latency_tables.table import LatencyTable

BOUNDARY: Final = "boundary"
LEAST_FACTOR: Final = 0.1
"""No row is free: without this, disturbed networks could say of a class that it takes no time at all."""
_LEAST_LEFT: Final = 0.1
"""What stays of a row at least when the overhead is taken off."""
_OVERHEADS: Final = np.linspace(0.0, 1.0 - _LEAST_LEFT, 10)
"""Tried, as shares of the least row."""
_PRIOR: Final = 0.01
"""Weight of one network that says all factors are 1: classes that no probe has keep theirs."""


def class_of(op: Operator) -> str:
    """Its precision, or `BOUNDARY` for what changes it."""
    return (
        op.precision if len({op.stored, *(spec.dtype for spec in op.fed)}) == 1 or op.parameters else BOUNDARY
    )


@dataclass(frozen=True)
class PrecisionFactors:
    """intercept_ms: of every network. factors: by class; rows less `overhead_ms` are multiplied by them."""

    intercept_ms: float
    factors: dict[str, float]
    overhead_ms: float = 0.0

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
        numbers = [np.array([names.index(class_of(op)) for op in network]) for network in networks]
        rows = [np.array([table.latency_ms([op]) for op in network]) for network in networks]
        times: Array = np.asarray(latency_ms, dtype=np.float64)

        def fitted(overhead_ms: float) -> tuple[float, Self]:
            sums = [
                np.bincount(number, _left(row, overhead_ms), len(names))
                for number, row in zip(numbers, rows, strict=True)
            ]
            loss, found = _least_squares(np.array(sums), times)
            factors = dict(zip(names, (float(f) for f in found[1:]), strict=True))
            return loss, cls(float(found[0]), factors, overhead_ms)

        least = min(float(row.min()) for row in rows)
        return min((fitted(float(share * least)) for share in _OVERHEADS), key=lambda tried: tried[0])[1]

    def applied(self, table: LatencyTable) -> LatencyTable:
        """The table with every row as it counts inside a network, but for the intercept."""

        def counted(op: Operator, m: Measurement) -> Measurement:
            factor = self.factors.get(class_of(op))
            if factor is None:
                return m
            return m.times(factor * float(_left(np.array(m.latency_ms), self.overhead_ms)) / m.latency_ms)

        return replace(table, rows={op: counted(op, m) for op, m in table.rows.items()})

    def predict(self, table: LatencyTable, networks: Sequence[Sequence[Operator]]) -> Array:
        """Milliseconds of whole networks, shape (networks,). table: as measured."""
        counted = self.applied(table)
        return np.array([self.intercept_ms + counted.latency_ms(network) for network in networks])


def _left(latency_ms: Array, overhead_ms: float) -> Array:
    """Of rows, without the overhead."""
    return np.maximum(latency_ms - overhead_ms, _LEAST_LEFT * latency_ms)


def _least_squares(sums: Array, times: Array) -> tuple[float, Array]:
    """(loss, intercept and factors) of latencies by sums of the classes, (networks, classes)."""
    rows = np.column_stack([np.ones(len(times)), sums]) / times[:, None]
    scale = np.maximum(np.abs(rows).mean(axis=0), 1e-12)
    scaled, classes = rows / scale, sums.shape[1]
    wanted = np.concatenate([[0.0], np.ones(classes)]) * scale  # factors of 1, no intercept
    least = np.concatenate([[0.0], np.full(classes, LEAST_FACTOR)]) * scale
    gram = scaled.T @ scaled + _PRIOR * np.eye(len(scale))
    above = scaled.T @ (1.0 - scaled @ least) + _PRIOR * (wanted - least)
    found = least + nonnegative(gram, above)
    loss = np.sum((1.0 - scaled @ found) ** 2) + _PRIOR * np.sum((found - wanted) ** 2)
    return float(loss), found / scale
