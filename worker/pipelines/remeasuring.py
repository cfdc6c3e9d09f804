"""A profile's answers put together over its sessions, and which tasks are given out once more because they
are doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from latency_tables.errors import PoorCalibration
from latency_tables.measurement import Context, Measurement
from latency_tables.measuring.doubt import DISTURBED, DOUBTFUL_ERROR, combined, unsettled
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from service.db.models import MeasurementTask
from service.devices.fitting import calibrate
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space
from worker.measuring import Group, groups_of, thing

MOST_SESSIONS: Final = 3
"""How often a task is given out; three sessions of a minute are what a user waits for without being asked."""
LEAST_NETWORKS: Final = 5  # below, a held-out error says little


@dataclass(frozen=True)
class Answers:
    """What the agent has answered to the tasks of one job. Several answers about one thing are put
    together."""

    space: Space
    tasks: Sequence[MeasurementTask]

    @cached_property
    def groups(self) -> list[Group]:
        return groups_of([t for t in self.tasks if t.kind != "sentinel"])

    @cached_property
    def measured(self) -> dict[str, tuple[MeasurementTask, Measurement]]:
        """What was measured, by `thing` -> (its first task, the measurement)."""
        found: dict[str, list[Measurement]] = {}
        first: dict[str, MeasurementTask] = {}
        for group in self.groups:
            for task in group.tasks:
                first.setdefault(thing(task), task)
                measured = Measurement.from_json(task.result or {}).times(group.factor)
                found.setdefault(thing(task), []).append(measured)
        return {name: (first[name], combined(measured)) for name, measured in found.items()}

    @cached_property
    def rows(self) -> dict[Operator, Measurement]:
        """What each operator takes in one run of a network."""
        found = [(Operator.parse(t.operator), m) for t, m in self.measured.values() if t.operator is not None]
        return {op: m if op.row_factor == 1.0 else m.times(op.row_factor) for op, m in found}

    @cached_property
    def networks(self) -> list[tuple[Architecture, Measurement]]:
        found = [(t, m) for t, m in self.measured.values() if t.architecture is not None]
        return [(self.space.from_json(t.architecture or {}), m) for t, m in found]

    def priced(self, table: LatencyTable) -> list[tuple[Architecture, Measurement]]:
        """The networks whose rows the table has: one may run of which the device cannot run a block alone."""
        return [n for n in self.networks if table.rows.keys() >= set(lower(self.space, n[0]))]

    def table(self, context: Context, before: LatencyTable | None) -> LatencyTable:
        """The rows of an earlier table with these over them."""
        return LatencyTable(context, {**(before.rows if before else {}), **self.rows})

    def doubtful(self, table: LatencyTable) -> tuple[list[MeasurementTask], str]:
        """(tasks that should be given out once more, why, for people)."""
        # By what was measured and not by file: two equal networks share one.
        times: dict[str, int] = {}
        for task in self.tasks:
            times[thing(task)] = times.get(thing(task), 0) + (task.result is not None)
        again: dict[str, str] = dict.fromkeys(
            unsettled({s: m for s, (_, m) in self.measured.items()}), "did not settle"
        )
        for group in self.groups:
            if group.factor < DISTURBED:
                only = [thing(t) for t in group.tasks if times[thing(t)] == 1]
                again |= dict.fromkeys(only, "were measured while others used the device")
        if (error := self._error(table)) > DOUBTFUL_ERROR:
            networks = [s for s, (t, _) in self.measured.items() if t.architecture is not None]
            again |= dict.fromkeys(networks, f"are predicted {error:.0%} off")
        # Bounded, or a device that never settles would be measured for ever.
        wanted = [s for s in again if times[s] < MOST_SESSIONS]
        reasons = sorted({again[s] for s in wanted})
        counts = [f"{sum(again[s] == reason for s in wanted)} {reason}" for reason in reasons]
        return [self.measured[s][0] for s in wanted], ", ".join(counts)

    def _error(self, table: LatencyTable) -> float:
        """Held-out error of predicted networks; 0 where too few were measured to say, 1 where nothing
        explains them."""
        networks = self.priced(table)
        if len(networks) < LEAST_NETWORKS:
            return 0.0
        try:
            found = calibrate(self.space, table, [(a, m.latency_ms) for a, m in networks])
        except PoorCalibration:
            return 1.0
        return found.calibration.error or 0.0
