"""How a table's sums become latencies: calibrated to the whole networks that a device was measured with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from latency_tables.dense import DenseTable
from latency_tables.errors import PoorCalibration
from latency_tables.prediction.calibration import Calibration
from latency_tables.prediction.refine import Refined, refine
from latency_tables.table import LatencyTable
from service.db import tables as table_rows
from service.db.measurements import label_of, networks_of
from service.db.models import NetworkMeasurement, Table
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_latency, known_latency, lower
from supernets.spaces.space import Space


@dataclass(frozen=True)
class Fit:
    """A calibration with what it rests on. refused: why the table may not be used for predictions, or None.

    corrected: sums of the rows corrected by whole networks, to which the calibration then applies; None: of
    the rows as they were measured.
    """

    calibration: Calibration
    measured_at: datetime | None
    refused: str | None = None
    corrected: DenseTable | None = None


def fitted(
    space: Space,
    sums: DenseTable,
    table: Table,
    held: LatencyTable,
    rows: Sequence[NetworkMeasurement],
    *,
    partial: bool = False,
) -> Fit:
    """The fit of a table to the whole networks of its device, or why there is none.

    sums: of the rows of `held`, the table's content, over `space`. partial: rows are lacking; networks that
    need them take no part.
    """
    last = max((row.created_at for row in rows), default=None)
    given, assumed = table_rows.given_calibration(table), table_rows.assumed_spread(table)
    networks = networks_of(space, rows)
    if partial:
        priced = [bool(np.isfinite(sums.price(space.genes(a)[None])[0])) for a, _ in networks]
        networks = [network for network, known in zip(networks, priced, strict=True) if known]
    dense = known_latency if partial else dense_latency
    try:
        if given is not None:
            genes = np.array([space.genes(a) for a, _ in networks], dtype=np.int64).reshape(
                -1, space.chain.genes
            )
            predicted = given.apply(sums, space.resolutions).price(genes)
            held_out = {a.digest: float(ms) for (a, _), ms in zip(networks, predicted, strict=True)}
            # A transferred table was made of the earlier ones: they cannot say how far off it is.
            later = [row for row in rows if row.created_at > table.created_at]
            return Fit(across_sessions(given, later, held_out, assumed), last)
        found = calibrate(space, held, networks)
        ratios = found.calibration.ratios
        # One network has no ratio, for none is left to predict it by.
        held_out = {a.digest: ms / ratio for (a, ms), ratio in zip(networks, ratios, strict=False)}
        calibration = across_sessions(found.calibration, rows, held_out, assumed)
        return Fit(calibration, last, None, dense(space, found.table) if found.corrected else None)
    except PoorCalibration as error:
        return Fit(rough(space, sums, networks), last, str(error))


def across_sessions(
    fit: Calibration,
    rows: Sequence[NetworkMeasurement],
    held_out_ms: Mapping[str, float],
    assumed: float | None,
) -> Calibration:
    """The fit with a bound that holds from session to session, from every measurement of the networks it
    rests on.

    held_out_ms: prediction by the architecture's digest, without that network where it took part in the fit.
    """
    known = [row for row in rows if row.architecture_digest in held_out_ms]
    logs = [math.log(row.latency_ms / held_out_ms[row.architecture_digest]) for row in known]
    labels = [label_of(row) for row in known]
    if fit.transferred:  # these rows came later; those of the fit were one session
        logs, labels = [*np.log(fit.ratios), *logs], [*[""] * len(fit.ratios), *labels]
    return fit.across(np.array(logs), labels, assumed)


def calibrate(space: Space, table: LatencyTable, networks: Sequence[tuple[Architecture, float]]) -> Refined:
    """Calibrate a table to measured networks of the space, correcting its rows where that pays. Raises
    PoorCalibration."""
    lowered = [lower(space, architecture) for architecture, _ in networks]
    return refine(
        table, lowered, [a.resolution for a, _ in networks], [latency_ms for _, latency_ms in networks]
    )


def rough(space: Space, sums: DenseTable, networks: Sequence[tuple[Architecture, float]]) -> Calibration:
    """Where no line fits: the median of measured / sum, so that prices are right in the middle. Without error
    and bound."""
    genes = np.array([space.genes(a) for a, _ in networks], dtype=np.int64).reshape(-1, space.chain.genes)
    ratios = np.array([ms for _, ms in networks]) / sums.price(genes)
    # Networks of rows that the table lacks cost infinitely much, and tell nothing of it.
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    return Calibration(slope=float(np.median(ratios))) if len(ratios) else Calibration()
