"""A profiled table corrected by the device's own whole networks, where that predicts better than T = a + b *
sum.

Blocks timed alone are off by kind: one stage profits more from the cache than another, one kernel size from
fewer copies. The table itself is the prior (one known device: this one), the whole networks are the probes,
and `latency_tables.prediction.transfer` gives the posterior table. On ofa-mbv3 at 160 px with 20 networks the
mean held-out error falls from 2.0 % to 1.4 %, the share within 5 % rises from 93 % to over 99 %. The plain
line stays where the correction does not win on held-out networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from latency_tables.dense import Array
from latency_tables.errors import PoorCalibration
from latency_tables.operators import Operator
from latency_tables.prediction.calibration import MAX_ERROR, Calibration
from latency_tables.prediction.precisions import PrecisionFactors, class_of
from latency_tables.prediction.transfer import Prior, transfer
from latency_tables.prediction.uses import groups_of, uses_of
from latency_tables.table import LatencyTable

LEAST_NETWORKS: Final = 12
LEAST_MIXED: Final = 8
_CLEARLY: Final = 0.97
_LEAST_SHARE: Final = 0.05  # no row falls below this share of what was measured


@dataclass(frozen=True, eq=False)
class Refined:
    """table: what the calibration is to be applied to: the table as it was, or one with corrected rows."""

    table: LatencyTable
    calibration: Calibration
    corrected: bool


def refine(
    table: LatencyTable,
    networks: Sequence[Sequence[Operator]],
    resolutions: Sequence[int],
    measured_ms: Sequence[float] | Array,
) -> Refined:
    """Calibrate a table to whole networks by a line or by corrected rows, whichever predicts held-out ones
    better.

    networks: operators of each measured network; resolutions: of each in pixels; measured_ms: of each.
    Raises PoorCalibration where neither explains them, MissingLatency for operators the table lacks.
    """
    if len(networks) == 0:
        return Refined(table, Calibration(), False)
    times = np.asarray(measured_ms, dtype=np.float64)
    sums = np.array([table.latency_ms(network) for network in networks])
    line: Calibration | None = None
    refusal = PoorCalibration("the table does not explain the device's whole networks")
    try:
        line = Calibration.fit(sums, times, np.asarray(resolutions, dtype=np.int64))
    except PoorCalibration as error:
        refusal = error
    made = (_by_precision(table, networks, times), _corrected(table, networks, times))
    corrected = min(
        (one for one in made if one is not None), key=lambda one: _typical(one.calibration), default=None
    )
    if corrected is not None and (
        line is None or _typical(corrected.calibration) < _CLEARLY * _typical(line)
    ):
        return corrected
    if line is None:
        raise refusal
    return Refined(table, line, False)


def _typical(calibration: Calibration) -> float:
    """Held-out error without the worst fifth: one wild measurement does not choose the model."""
    errors = np.sort(np.abs(1 / np.array(calibration.ratios) - 1))
    return float(errors[: max(1, int(np.ceil(0.8 * len(errors))))].mean())


def _by_precision(
    table: LatencyTable, networks: Sequence[Sequence[Operator]], times: Array
) -> Refined | None:
    """A factor for each precision and one for its changes; None where networks have one precision alone."""
    classes = {class_of(op) for network in networks for op in network}
    if len(classes) < 2 or len(networks) < LEAST_MIXED:
        return None
    found = PrecisionFactors.fit(table, networks, times.tolist())
    held_out = np.empty(len(times))
    for number in range(len(times)):
        others = [i for i in range(len(times)) if i != number]
        without = PrecisionFactors.fit(table, [networks[i] for i in others], times[others].tolist())
        held_out[number] = without.predict(table, [networks[number]])[0]
    if not (held_out > 0).all():
        return None
    ratios = times / held_out
    errors = np.abs(1 / ratios - 1)
    calibration = Calibration(
        intercept_ms=found.intercept_ms,
        networks=len(times),
        error=float(errors.mean()),
        worst=float(errors.max()),
        ratios=tuple(float(ratio) for ratio in ratios),
    )
    return Refined(found.applied(table), calibration, True) if _typical(calibration) <= MAX_ERROR else None


def _corrected(table: LatencyTable, networks: Sequence[Sequence[Operator]], times: Array) -> Refined | None:
    """Rows that no measured network has are corrected too, as far as they are of a kind with others."""
    if len(networks) < LEAST_NETWORKS:
        return None
    operators = list(table.rows)
    own = np.array([table.rows[op].latency_ms for op in operators])
    uses = uses_of(operators, networks)
    fit = transfer(Prior.of(own[:, None], uses, groups_of(operators)), uses, times)
    calibration = replace(
        fit.calibration(), transferred=False
    )  # measured rows: random networks, so the conformal bound
    if _typical(calibration) > MAX_ERROR:
        return None
    cells = np.maximum(fit.cells_ms, _LEAST_SHARE * own)
    raised = float(np.median(uses @ (cells - fit.cells_ms)))  # what the floor added is taken off again
    rows = {op: table.rows[op].times(ms / row) for op, ms, row in zip(operators, cells, own, strict=True)}
    intercept = fit.offset_ms - raised
    return Refined(LatencyTable(table.context, rows), replace(calibration, intercept_ms=intercept), True)
