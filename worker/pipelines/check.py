"""Does a device's table still hold? A few operators are measured again; where it does not, what to
re-measure.

A few whole networks are measured again too: how they differ from the last time is what a bound must allow
for.
"""

from __future__ import annotations

import numpy as np

from latency_tables.operators import Operator
from latency_tables.plan import CHECK_NETWORKS, check_operators
from latency_tables.table import LatencyTable
from latency_tables.trust import drift
from service.db import measurements, tables, tasks
from service.db.documents import Document
from service.db.measurements import networks_of
from service.db.models import Device, MeasurementTask
from service.db.session import Session
from service.db.states import NetworkSource, TaskKind
from service.db.tasks import Wanted
from service.jobs.requests import CheckRequest, read
from supernets.delivery.catalog import delivery_of
from supernets.errors import NoTable
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import is_space, ref_in, space_at
from supernets.spaces.space import Space
from worker.context import JobRun
from worker.measuring import ask, device_of, some_measured, wait_for_all
from worker.pipelines.profile import measurement_of, network_tasks, operator_tasks


def check(run: JobRun) -> Document:
    """The pipeline of a `check` job: `holds`, the median change, and the operators that should be measured
    again."""
    request = read(CheckRequest, run.request)
    device, table_id, table = run.context.transaction(lambda session: _load(session, run, request))
    if not run.context.transaction(lambda session: tasks.of_job(session, run.job_id)):
        _order(run, request, device, table)
    wait_for_all(run, device.id, device.name)
    answered = run.context.transaction(lambda session: tasks.of_job(session, run.job_id))
    unable = some_measured(answered, device.name)
    done = [t for t in answered if t.result is not None]
    again = {Operator.parse(t.operator): measurement_of(t) for t in done if t.operator is not None}
    found = drift(table, again)
    networks = [t for t in done if t.architecture is not None]
    run.at_end(lambda session: _keep(session, device, networks))
    return {
        "device": device.name,
        "table_id": table_id,
        "operators": found.operators,
        "change": found.change,
        "kendall_tau": found.kendall_tau,
        "holds": found.holds,
        "remeasure": [op.text for op in found.moved],
        "networks": len(networks),
        **unable,
    }


def _load(session: Session, run: JobRun, request: CheckRequest) -> tuple[Device, str, LatencyTable]:
    device = device_of(session, run, request.device_id)
    table_id = tables.newest(session, device.id)
    if table_id is None:
        raise NoTable("the device has no table to check; measure it first (`bespoke profile`)")
    return device, table_id, tables.load(session, table_id)


def _order(run: JobRun, request: CheckRequest, device: Device, table: LatencyTable) -> None:
    """Export the benchmarks and write the tasks, the middle one as sentinel."""
    generator = np.random.default_rng(int(run.job_id[-8:], 16))
    form = delivery_of(table.context)
    wanted = operator_tasks(run, check_operators(table, generator, request.operators), form)
    middle = wanted[len(wanted) // 2]
    sentinel = Wanted(TaskKind.SENTINEL, middle.sha256, middle.size_bytes, middle.inputs, middle.operator)
    space, networks = run.context.transaction(lambda session: _networks(session, device, generator))
    ask(
        run,
        device.id,
        [sentinel, *wanted, *([] if space is None else network_tasks(run, space, networks, form))],
    )


def _networks(
    session: Session, device: Device, generator: np.random.Generator
) -> tuple[Space | None, list[Architecture]]:
    """A few of the networks that were measured on the device, of the space of which most were."""
    # A check knows no space; the one that most networks were measured of is the one that is used.
    space = _most_measured(session, device)
    if space is None:
        return None, []
    known = [a for a, _ in networks_of(space, measurements.networks(session, device.id, *space.ref))]
    return space, [known[i] for i in generator.permutation(len(known))[:CHECK_NETWORKS]]


def _most_measured(session: Session, device: Device) -> Space | None:
    """The space of this installation of which most networks were measured on the device."""
    known = [ref for ref in measurements.spaces_measured(session, device.id) if is_space(ref.name)]
    counts = {ref: len(measurements.networks(session, device.id, *ref)) for ref in known}
    return space_at(max(counts, key=lambda ref: counts[ref])) if counts else None


def _keep(session: Session, device: Device, networks: list[MeasurementTask]) -> None:
    """The networks as measured, each under the classes it was exported with."""
    most = _most_measured(session, device) if networks else None
    for task in networks:
        told = ref_in(task.architecture or {})
        space = (
            most if told is None else space_at(told)
        )  # a version before 0.2 asked for networks of that space alone
        if space is not None:
            architecture = space.from_json(task.architecture or {})
            measurements.add(
                session, device, space, architecture, measurement_of(task), NetworkSource.AGENT, task.job_id
            )
