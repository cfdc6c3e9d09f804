"""Profiling a device: export what its table lacks, let the agent measure it, publish a new immutable table.

Operators are timed one by one, whole networks for calibration among them in the same rounds, so that a slow spell of
the device hits both alike. Nothing is published before every answer is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from latency_tables import speed
from latency_tables.measurement import Measurement
from latency_tables.operators import Operator
from latency_tables.plan import calibration_networks, missing_operators
from latency_tables.table import LatencyTable
from latency_tables.trust import Finding, check_load, check_quota, check_scale, check_speeds, needs_review, review_table
from service.db import measurements, tables
from service.db.models import Device, MeasurementTask
from service.pricing import networks_of
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_from, lower
from supernets.spaces.space import Space
from worker.context import JobRun
from worker.laboratory import Laboratory
from worker.measuring import Group, Wanted, ask, groups_of, tasks_of, wait_for_all
from worker.steps import StepFailed, StepName

_CHUNK: Final = 64


def profile(run: JobRun) -> dict[str, Any]:
    """The pipeline of a `profile` job."""
    request = run.request
    space = space_named(request["space"]).with_classes(request["classes"]).at(request["resolutions"])
    device = run.context.transaction(lambda session: _device(session, run))
    before = run.context.transaction(lambda session: _newest_table(session, device))
    if not run.context.transaction(lambda session: tasks_of(session, run.job_id)):
        _order(run, space, device, before)
    run.check()
    wait_for_all(run, device.id, device.name)
    return run.write(lambda session: _publish(session, run, space, device, before))


def _device(session: Session, run: JobRun) -> Device:
    row = session.scalar(select(Device).where(Device.id == run.request["device_id"], Device.tenant_id == run.tenant_id))
    if row is None:
        raise StepFailed("UnknownDevice", "the device of this job is no longer there; register it again")
    return row


def _newest_table(session: Session, device: Device) -> LatencyTable | None:
    """The device's newest table that may be used; its rows go into the next one."""
    table_id = tables.newest(session, device.id)
    return None if table_id is None else tables.load(session, table_id)


def _order(run: JobRun, space: Space, device: Device, before: LatencyTable | None) -> None:
    """Export what is to be measured and write the tasks, in random order but with one seed per job."""
    generator = np.random.default_rng(int(run.job_id[-8:], 16))
    needed = {op for resolution in space.resolutions for op in all_operators(space, resolution)}
    again = {Operator.parse(text) for text in run.request.get("remeasure") or ()}
    operators = sorted({*missing_operators(needed, before), *(needed & again)})
    measured = run.context.transaction(lambda session: _measured(session, device.id, space))
    networks = max(0, int(run.request["networks"]) - len(measured)) if not operators else int(run.request["networks"])
    macs = dense_from(space, lambda op: float(op.macs))
    known = np.array([space.genes(a) for a in measured], dtype=np.int64).reshape(-1, space.chain.genes)
    planned = calibration_networks(macs, generator, networks, known=known) if networks else known[:0]
    architectures = [space.architecture(genes) for genes in planned]
    wanted = [*operator_tasks(run, operators), *network_tasks(run, space, architectures)]
    if not wanted:
        return
    sentinel = operator_tasks(run, [sorted(needed, key=lambda op: op.macs)[len(needed) // 2]])[0]
    order = generator.permutation(len(wanted))
    shuffled = [wanted[i] for i in order]
    ask(
        run,
        device.id,
        [Wanted("sentinel", sentinel.sha256, sentinel.size_bytes, sentinel.input_shape, sentinel.operator), *shuffled],
    )


def _measured(session: Session, device_id: str, space: Space) -> list[Architecture]:
    """Networks of the space that were measured on the device before, at the resolutions in question."""
    rows = measurements.networks(session, device_id, space.name, space.classes)
    return [architecture for architecture, _ in networks_of(space, rows)]


def operator_tasks(run: JobRun, operators: list[Operator]) -> list[Wanted]:
    """Micro-benchmarks; each is exported once for all jobs."""

    def export(missing: list[int]) -> list[dict[str, Any]]:
        done: list[dict[str, Any]] = []
        with Laboratory(run) as laboratory:
            for start in range(0, len(missing), _CHUNK):
                texts = [operators[i].text for i in missing[start : start + _CHUNK]]
                run.progress("export_operators", start / len(missing), f"benchmark {start} of {len(missing)}")
                files = laboratory.call("operator_files", {"operators": texts})["files"]
                done += [{"onnx_sha256": files[text][0], "size_bytes": files[text][1]} for text in texts]
        return done

    files = run.steps(StepName.EXPORT_OPERATOR, [{"operator": op.text} for op in operators], export)
    return [
        Wanted("operator", f["onnx_sha256"], f["size_bytes"], (1, op.in_channels, op.in_height, op.in_width), op.text)
        for op, f in zip(operators, files, strict=True)
    ]


def network_tasks(run: JobRun, space: Space, architectures: list[Architecture]) -> list[Wanted]:
    """Whole networks with random weights."""
    described = [space.to_json(a) for a in architectures]

    def export(missing: list[int]) -> list[dict[str, Any]]:
        operators = sorted({op for i in missing for op in lower(space, architectures[i])})
        blocks = {str(t.operator): t.sha256 for t in operator_tasks(run, operators)}
        run.progress("export_networks", 0.0, f"{len(missing)} whole networks", always=True)
        with Laboratory(run) as laboratory:
            asked = {"space": space.name, "classes": space.classes, "operators": blocks}
            files = laboratory.call("network_files", {**asked, "architectures": [described[i] for i in missing]})["files"]
        return [{"onnx_sha256": sha256, "size_bytes": size_bytes} for sha256, size_bytes in files]

    inputs = [{"space": space.name, "classes": space.classes, "architecture": d} for d in described]
    files = run.steps(StepName.EXPORT_NETWORK, inputs, export)
    return [
        Wanted("network", f["onnx_sha256"], f["size_bytes"], _shape(space, a), space=space.name, architecture=d)
        for a, d, f in zip(architectures, described, files, strict=True)
    ]


def _shape(space: Space, architecture: Architecture) -> tuple[int, ...]:
    return (1, space.in_channels, architecture.resolution, architecture.resolution)


def _publish(session: Session, run: JobRun, space: Space, device: Device, before: LatencyTable | None) -> dict[str, Any]:
    """The new table and the measured networks, in one transaction with the event."""
    tasks = tasks_of(session, run.job_id)
    groups = groups_of([t for t in tasks if t.kind != "sentinel"])
    answered = [(t, measurement_of(t).times(g.factor)) for g in groups for t in g.tasks]
    operators = {Operator.parse(t.operator): (t, measured) for t, measured in answered if t.operator is not None}
    networks = [(space.from_json(t.architecture), measured) for t, measured in answered if t.architecture is not None]
    for architecture, measurement in networks:
        measurements.add(session, device, space, architecture, measurement, "agent", run.job_id)
    rows = {op: measured for op, (_, measured) in operators.items()}
    table = LatencyTable(tables.context_of(device), {**(before.rows if before else {}), **rows})
    known = tables.with_digest(session, device.id, table.digest)
    if known is None:
        flags = {op: (t.result or {}).get("flags") or [] for op, (t, _) in operators.items()}
        findings = [
            *review_table(table, flags=flags),
            *_against_networks(table, space, networks),
            *check_speeds([g.speed for g in groups if g.speed is not None]),
            *check_load([g.load for g in groups if g.load is not None]),
            *check_quota((device.environment or {}).get("cpu_quota"), table.context.threads),
        ]
        provenance = _provenance(run, tasks, groups)
        table_id = tables.publish(session, device, table, source="agent", findings=findings, provenance=provenance)
        state = tables.NEEDS_REVIEW if needs_review(findings) else tables.READY
    else:
        table_id, state = known.id, known.state
    result = {"table_id": table_id, "rows": len(rows), "networks": len(networks), "state": state}
    run.record(session, "published", result)
    return result


def _against_networks(table: LatencyTable, space: Space, networks: list[tuple[Architecture, Measurement]]) -> list[Finding]:
    """Wrong units, or rows of another device: whole networks against the sums of their rows."""
    sums = [table.latency_ms(lower(space, architecture)) for architecture, _ in networks]
    return check_scale(sums, [measurement.latency_ms for _, measurement in networks])


def measurement_of(task: MeasurementTask) -> Measurement:
    return Measurement.from_json(task.result or {})


def _provenance(run: JobRun, tasks: Sequence[MeasurementTask], groups: Sequence[Group]) -> dict[str, Any]:
    """Where the rows come from: job, sessions, and how fast the device ran while each group was measured."""
    return {
        "job_id": run.job_id,
        "sessions": sorted({t.session_id for t in tasks if t.session_id}),
        "speed_spread": speed.spread([g.speed for g in groups if g.speed is not None]),
        "groups": [g.as_dict() for g in groups],
    }
