"""Several tables of one device as one: a folder of once-for-all tables has one file for each resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from latency_tables.errors import ContextMismatch, InvalidTable
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable

AGREE: Final = 2.0


def merged(tables: Sequence[LatencyTable]) -> tuple[LatencyTable, list[str]]:
    """(one table, what was found on the way). Of an operator in several tables the median of its latencies is
    kept.

    Raises ContextMismatch for tables of several contexts, InvalidTable for none.
    """
    if not tables:
        raise InvalidTable("there is no table to read")
    if len({table.context for table in tables}) > 1:
        raise ContextMismatch("the tables are of several contexts; they are not one device's table")
    found: dict[Operator, list[Measurement]] = {}
    for table in tables:
        for operator, measurement in table.rows.items():
            found.setdefault(operator, []).append(measurement)
    rows = {
        operator: measured[0] if len(measured) == 1 else _one(measured)
        for operator, measured in found.items()
    }
    return LatencyTable(tables[0].context, rows), _notes(found)


def _one(measured: Sequence[Measurement]) -> Measurement:
    if all(m == measured[0] for m in measured):
        return measured[0]
    counts = [m.count for m in measured if m.count is not None]
    energies = [m.energy_mj for m in measured if m.energy_mj is not None]
    return Measurement(
        float(np.median([m.latency_ms for m in measured])),
        count=sum(counts) if counts else None,
        energy_mj=float(np.median(energies)) if energies else None,
    )


def _notes(found: dict[Operator, list[Measurement]]) -> list[str]:
    several = [[m.latency_ms for m in measured] for measured in found.values() if len(measured) > 1]
    if not several:
        return []
    apart = sum(max(times) > AGREE * min(times) for times in several)
    note = f"{len(several)} operators are in several files; the median of their latencies is kept"
    return [
        note
        + (
            f"; {apart} of them differ by more than {AGREE:g} times: are the files of one device?"
            if apart
            else ""
        )
    ]
