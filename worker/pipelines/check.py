"""Does a device's table still hold? A few operators are measured again; where it does not, what to re-measure."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from latency_tables.errors import NoTable
from latency_tables.operators import Operator
from latency_tables.plan import check_operators
from latency_tables.table import LatencyTable
from latency_tables.trust import drift
from service.db import tables
from service.db.models import Device
from worker.context import JobRun
from worker.measuring import Wanted, ask, tasks_of, wait_for_all
from worker.pipelines.profile import measurement_of, operator_tasks
from worker.steps import StepFailed


def check(run: JobRun) -> dict[str, Any]:
    """The pipeline of a `check` job: `holds`, the median change, and the operators that should be measured again."""
    device, table_id, table = run.context.transaction(lambda session: _load(session, run))
    if not run.context.transaction(lambda session: tasks_of(session, run.job_id)):
        _order(run, device, table)
    wait_for_all(run, device.id, device.name)
    answered = run.context.transaction(lambda session: tasks_of(session, run.job_id))
    again = {Operator.parse(t.operator): measurement_of(t) for t in answered if t.result is not None and t.operator is not None}
    found = drift(table, again)
    return {
        "device": device.name,
        "table_id": table_id,
        "operators": found.operators,
        "change": found.change,
        "kendall_tau": found.kendall_tau,
        "holds": found.holds,
        "remeasure": [op.text for op in found.moved],
    }


def _load(session: Session, run: JobRun) -> tuple[Device, str, LatencyTable]:
    device = session.scalar(select(Device).where(Device.id == run.request["device_id"], Device.tenant_id == run.tenant_id))
    if device is None:
        raise StepFailed("UnknownDevice", "the device of this job is no longer there; register it again")
    table_id = tables.newest(session, device.id)
    if table_id is None:
        raise NoTable("the device has no table to check; measure it first (`bespoke profile`)")
    return device, table_id, tables.load(session, table_id)


def _order(run: JobRun, device: Device, table: LatencyTable) -> None:
    """Export the benchmarks and write the tasks, the middle one as sentinel."""
    generator = np.random.default_rng(int(run.job_id[-8:], 16))
    wanted = operator_tasks(run, check_operators(table, generator, int(run.request["operators"])))
    middle = wanted[len(wanted) // 2]
    ask(run, device.id, [Wanted("sentinel", middle.sha256, middle.size_bytes, middle.input_shape, middle.operator), *wanted])
