"""Few-shot registration in terms of operators: known devices' tables and a few whole networks give a new device's table.

`latency_tables.transfer` does the mathematics on cells; here a cell is an operator, so the result is an ordinary
latency table plus a calibration whose upper bounds rest on the held-out error of the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from latency_tables.calibration import Calibration
from latency_tables.dense import Array
from latency_tables.errors import MissingLatency, PoorCalibration
from latency_tables.measurement import Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from latency_tables.transfer import Labels, Prior, Transferred, choose_networks, transfer

Network = Sequence[Operator]

PROBES = (10, 50)
"""Fewest and most whole networks that are asked for."""


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """A table for the new device, its calibration (apply it as to a profiled table), and whether to trust them.

    uncertainty_ms: posterior standard deviation of each row. shares: how alike each known device is (correlation of its
    predictions with the measurements). reason: why the known devices do not help, or None.
    """

    table: LatencyTable
    calibration: Calibration
    uncertainty_ms: Mapping[Operator, float]
    shares: Mapping[str, float]
    reason: str | None


class KnownDevices:
    """Tables of known devices over the operators of a space.

    population: the operators of a few hundred random networks of the space. Devices that lack an operator are left out
    and named in `left_out`. Raises PoorCalibration when no device is left.
    """

    def __init__(self, tables: Mapping[str, LatencyTable], population: Sequence[Network]) -> None:
        self.operators = sorted({op for network in population for op in network})
        self.left_out = sorted(n for n, table in tables.items() if any(op not in table.rows for op in self.operators))
        self.names = sorted(set(tables) - set(self.left_out))
        if not self.names:
            raise PoorCalibration("no known device has a table for this space; profile this device by blocks (`bespoke profile`)")
        self._index = {op: i for i, op in enumerate(self.operators)}
        rows = [[tables[name].rows[op].median_ms for op in self.operators] for name in self.names]
        self.tables: Array = np.array(rows).T  # (operators, devices) ms
        self._uses = self.uses(population)
        self.prior = Prior.of(self.tables, self._uses, operator_groups(self.operators))

    def uses(self, networks: Sequence[Network]) -> Array:
        """How often each network uses each operator, (networks, operators). Raises MissingLatency for unknown operators."""
        found = np.zeros((len(networks), len(self.operators)))
        for row, network in zip(found, networks, strict=True):
            for op in network:
                if op not in self._index:
                    raise MissingLatency([op.text])
                row[self._index[op]] += 1
        return found

    def choose(self, candidates: Sequence[Network], networks: int, measured: Sequence[int] = ()) -> list[int]:
        """Indices of the candidates to measure next; `measured` are indices of those measured already."""
        return choose_networks(self.prior, self.uses(candidates), networks, measured)

    def fit(self, context: Context, networks: Sequence[Network], measured_ms: Sequence[float]) -> ProbeResult:
        """The new device's table from measured networks. Raises TooFewNetworks, PoorCalibration (latencies that are none)."""
        uses, times = self.uses(networks), np.asarray(measured_ms, dtype=np.float64)
        fit = transfer(self.prior, uses, times)
        reason = None
        try:
            fit.require_help()
        except PoorCalibration as error:
            reason = str(error)
        return ProbeResult(
            table=LatencyTable(context, self._rows(fit)),
            calibration=self._calibration(fit, uses, times),
            uncertainty_ms=dict(zip(self.operators, (fit.cell_spread * fit.scale_ms).tolist(), strict=True)),
            shares=self._shares(uses, times),
            reason=reason,
        )

    @cached_property
    def _least(self) -> Array:
        """No operator is predicted below a tenth of its share on the fastest known device."""
        scale = self._uses.mean(axis=0) @ self.tables
        return np.asarray(0.1 * (self.tables / scale).min(axis=1))

    def _rows(self, fit: Transferred) -> dict[Operator, Measurement]:
        cells = np.maximum(fit.cells_ms, self._least * fit.scale_ms)
        return {op: Measurement(float(ms)) for op, ms in zip(self.operators, cells, strict=True)}

    def _calibration(self, fit: Transferred, uses: Array, times: Array) -> Calibration:
        """The offset as intercept; what raising cells to their least value has added is taken off again, on average."""
        raised = np.maximum(fit.cells_ms, self._least * fit.scale_ms) - fit.cells_ms
        held_out = fit.calibration()
        return Calibration(
            intercept_ms=fit.offset_ms - float((uses @ raised).mean()),
            networks=len(times),
            error=held_out.error,
            worst=held_out.worst,
            ratios=held_out.ratios,
        )

    def _shares(self, uses: Array, times: Array) -> dict[str, float]:
        predictions = uses @ self.tables
        spread = predictions.std(axis=0) * times.std()
        covariance = ((predictions - predictions.mean(axis=0)) * (times - times.mean())[:, None]).mean(axis=0)
        alike = np.where(spread > 0, covariance / np.where(spread > 0, spread, 1.0), 0.0)
        return dict(zip(self.names, alike.round(4).tolist(), strict=True))


def operator_groups(operators: Sequence[Operator]) -> list[Labels]:
    """Operators that tend to become dearer or cheaper together on another device."""
    keys: list[list[object]] = [
        [(op.family, op.kernel, op.stride) for op in operators],
        [(op.in_channels, op.out_channels) for op in operators],
        [op.in_height for op in operators],
        [(op.squeeze_excite, op.activation) for op in operators],
        [(op.family, round(op.mid_channels / op.in_channels, 1)) for op in operators],
    ]
    return [_labels(values) for values in keys]


def _labels(values: Sequence[object]) -> Labels:
    number: dict[object, int] = {}
    return np.array([number.setdefault(value, len(number)) for value in values], dtype=np.int64)
