"""A latency table for a new device from a few whole networks and the tables of the tenant's known devices.

`latency_tables.prediction.transfer` does the mathematics on cells; here the cells are the operators of a
space, so the result is an ordinary table and everything that works on tables works on it. What every network
costs beyond its operators goes into the calibration, and so does the held-out error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from latency_tables.dense import Array
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from latency_tables.prediction.calibration import Calibration
from latency_tables.prediction.transfer import Prior, Transferred, choose_networks, transfer
from latency_tables.prediction.uses import groups_of, uses_of
from latency_tables.table import LatencyTable
from service.db import tables as table_rows
from service.db.documents import Document
from service.db.models import Device, Table
from service.db.session import Session
from service.db.states import TableSource
from service.devices.price_book import PriceBook
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import all_operators, lower
from supernets.spaces.space import Space

_REFERENCE: Final = 256  # random networks that say how often each operator is used
_CANDIDATES: Final = 400
_LEAST_MS: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Known:
    """What the known devices say about a space: the operators, their tables, and the prior from both."""

    space: Space
    operators: tuple[Operator, ...]
    devices: tuple[str, ...]
    prior: Prior

    def uses(self, architectures: Sequence[Architecture]) -> Array:
        """How often each network has each operator, shape (networks, operators)."""
        return uses_of(self.operators, [lower(self.space, architecture) for architecture in architectures])


def known_devices(
    session: Session, prices: PriceBook, device: Device, space: Space, others: Sequence[Device]
) -> Known | None:
    """The prior from other devices whose own, measured tables cover the whole of `space`; None without
    any."""
    operators = tuple(sorted({op for r in space.resolutions for op in all_operators(space, r)}))
    names, columns = [], []
    for other in others:
        if other.id == device.id or other.context["precision"] != device.context["precision"]:
            continue
        table = _own_table(session, prices, other, space)
        if table is not None:
            rows = prices.table(session, table, other).rows
            names.append(other.name)
            columns.append([rows[op].latency_ms for op in operators])
    if not columns:
        return None
    # The same networks each time, so that the same devices give the same prior.
    seed = np.random.default_rng(len(operators))
    reference = [space.architecture(genes) for genes in space.chain.sample(seed, _REFERENCE)]
    prior = Prior.of(
        np.array(columns).T,
        uses_of(operators, [lower(space, architecture) for architecture in reference]),
        groups_of(operators),
    )
    return Known(space, operators, tuple(names), prior)


def _own_table(session: Session, prices: PriceBook, device: Device, space: Space) -> Table | None:
    """The table in use that was measured, not transferred, and covers every resolution of the space."""
    for table in table_rows.by_precedence(session, device.id):
        usable = table.state == table_rows.READY and table.source != TableSource.TRANSFER
        if usable and prices.coverage(session, table, device, space) == space.resolutions:
            return table
    return None


def transferred_table(
    known: Known, device: Device, networks: Sequence[tuple[Architecture, float]]
) -> tuple[LatencyTable, Calibration, Document]:
    """(table, calibration, provenance) for the device. Raises PoorCalibration where the known devices do not
    help."""
    uses = known.uses([architecture for architecture, _ in networks])
    result = transfer(known.prior, uses, np.array([latency_ms for _, latency_ms in networks]))
    result.require_help()
    # The posterior of a cheap operator may lie below zero, which no row of a table can.
    cells = np.maximum(result.cells_ms, _LEAST_MS)
    # What the floor added on average is taken back in the constant.
    offset = result.offset_ms - float((uses @ (cells - result.cells_ms)).mean())
    table = LatencyTable(
        table_rows.context_of(device),
        {op: Measurement(float(ms)) for op, ms in zip(known.operators, cells, strict=True)},
    )
    calibration = replace(result.calibration(), intercept_ms=offset)
    return table, calibration, _provenance(known, result, calibration)


def _provenance(known: Known, result: Transferred, calibration: Calibration) -> Document:
    return {
        "devices": list(known.devices),
        "networks": result.networks,
        "error": result.error,
        "baseline": result.baseline,
        "cell_spread": float(np.median(result.cell_spread)),
        "calibration": calibration.to_json(),
    }


def planned_networks(
    known: Known, measured: Sequence[Architecture], count: int, seed: int
) -> list[Architecture]:
    """The networks from which most is learnt about the device, given what was measured already."""
    genes = known.space.chain.sample(np.random.default_rng(seed), _CANDIDATES)
    done = {architecture.digest for architecture in measured}
    fresh = {a.digest: a for a in map(known.space.architecture, genes) if a.digest not in done}
    candidates = [*measured, *fresh.values()]
    chosen = choose_networks(known.prior, known.uses(candidates), count, first=range(len(measured)))
    return [candidates[i] for i in chosen]
