"""Profiling a device: export what its table lacks, let the agent measure it, publish a new immutable table.

Operators and whole networks for calibration are timed in the same rounds of the same session, so that a slow
spell of the device hits both alike. What is doubtful then is given out once more, a bounded number of times.
Nothing is published before every answer is there.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from latency_tables.inputs import InputSpec
from latency_tables.measurement import Measurement
from latency_tables.measuring import speed
from latency_tables.measuring.doubt import unsettled
from latency_tables.operators import Operator
from latency_tables.plan import calibration_networks, missing_operators
from latency_tables.table import LatencyTable
from latency_tables.trust import (
    Finding,
    check_load,
    check_quota,
    check_scale,
    check_speeds,
    needs_review,
    review_table,
)
from service.db import measurements, tables, transitions
from service.db import tasks as task_rows
from service.db.documents import Document
from service.db.measurements import networks_of
from service.db.models import Device, MeasurementTask
from service.db.session import Session
from service.db.states import NetworkSource, TableSource, TableState, TaskKind
from service.db.tasks import Wanted, wanted_again
from service.jobs.requests import ProfileRequest, read
from supernets.delivery.catalog import Delivery, delivery_of
from supernets.delivery.precision import space_in
from supernets.spaces.architecture import Architecture, SpaceRef
from supernets.spaces.catalog import space_at
from supernets.spaces.lowering import all_operators, dense_from, lower
from supernets.spaces.mixes import mixed_in_turn
from supernets.spaces.space import Space
from worker.compute.requests import StoredFile
from worker.compute.torch_child import TorchChild
from worker.context import JobRun
from worker.measuring import ask, device_of, some_measured, wait_for_all
from worker.pipelines.remeasuring import Answers
from worker.steps import StepName

_CHUNK: Final = 64


def profile(run: JobRun) -> Document:
    """The pipeline of a `profile` job."""
    request = read(ProfileRequest, run.request)
    named = space_at(SpaceRef(request.space, request.classes)).at(request.resolutions)
    space = space_in(named, request.precisions, bool(request.prune))
    device = run.context.transaction(lambda session: device_of(session, run, request.device_id))
    before = run.context.transaction(lambda session: _newest_table(session, device))
    # Taken up again, the tasks are there already, some with their answers.
    if not run.context.transaction(lambda session: task_rows.of_job(session, run.job_id)):
        _order(run, request, space, device, before)
    while True:
        run.check()
        wait_for_all(run, device.id, device.name)
        tasks = run.context.transaction(lambda session: task_rows.of_job(session, run.job_id))
        # Before anything is asked again: what cannot be run was tried more than once already.
        unable = some_measured(tasks, device.name)
        answers = Answers(space, tasks)
        if not _ask_again(run, answers, device, before):
            publish = partial(_publish, run=run, answers=answers, device=device, before=before, unable=unable)
            return run.write(publish)


def _ask_again(run: JobRun, answers: Answers, device: Device, before: LatencyTable | None) -> bool:
    """Whether something is doubtful, and was given out once more."""
    tasks, why = answers.doubtful(answers.table(tables.context_of(device), before))
    if not tasks:
        return False
    run.progress("measure", 0.5, f"measuring again on {device.name}: {why}", always=True)
    run.event("measuring_again", {"tasks": len(tasks), "why": why})
    ask(run, device.id, [wanted_again(task) for task in tasks])
    return True


def _newest_table(session: Session, device: Device) -> LatencyTable | None:
    """The device's newest table that may be used; its rows go into the next one."""
    table_id = tables.newest(session, device.id)
    return None if table_id is None else tables.load(session, table_id)


def _order(
    run: JobRun, request: ProfileRequest, space: Space, device: Device, before: LatencyTable | None
) -> None:
    """Export what is to be measured and write the tasks."""
    started = time.monotonic()
    # Of the job, so that an attempt that is taken up again plans the same networks.
    generator = np.random.default_rng(int(run.job_id[-8:], 16))
    needed = {op for resolution in space.resolutions for op in all_operators(space, resolution)}
    again = {Operator.parse(text) for text in request.remeasure}
    operators = sorted({*missing_operators(needed, before), *(needed & again)})
    form = delivery_of(tables.context_of(device), space)
    measured = run.context.transaction(lambda session: _measured(session, device.id, space))
    # Rows that are measured anew are calibrated by networks of the same session, else those there are do.
    networks = request.networks if operators else max(0, request.networks - len(measured))
    macs = dense_from(space, lambda op: float(op.macs))
    known = np.array([space.genes(a) for a in measured], dtype=np.int64).reshape(-1, space.chain.genes)
    planned = calibration_networks(macs, generator, networks, known=known) if networks else known[:0]
    architectures = mixed_in_turn(space, [space.architecture(genes) for genes in planned], generator)
    wanted = [*operator_tasks(run, operators, form), *network_tasks(run, space, architectures, form)]
    if not wanted:
        return
    sentinel = operator_tasks(run, [sorted(needed, key=lambda op: op.macs)[len(needed) // 2]], form)[0]
    run.event("exported", {"seconds": round(time.monotonic() - started, 2), "files": len(wanted)})
    ask(
        run,
        device.id,
        [
            Wanted(
                TaskKind.SENTINEL,
                sentinel.sha256,
                sentinel.size_bytes,
                sentinel.inputs,
                sentinel.operator,
            ),
            *wanted,
        ],
    )


def _measured(session: Session, device_id: str, space: Space) -> list[Architecture]:
    """Networks of the space that were measured on the device before, at the resolutions in question."""
    rows = measurements.networks(session, device_id, space.name, space.classes)
    return [architecture for architecture, _ in networks_of(space, rows)]


def operator_tasks(run: JobRun, operators: list[Operator], form: Delivery) -> list[Wanted]:
    """Micro-benchmarks in the form that networks are delivered in; each is exported once for all jobs."""
    told = _told(form)

    def export(missing: list[int]) -> list[StoredFile]:
        done: list[StoredFile] = []
        with TorchChild(run) as torch_child:
            # In parts: between two of them a cancelled job ends and progress is told.
            for start in range(0, len(missing), _CHUNK):
                some = [operators[i] for i in missing[start : start + _CHUNK]]
                run.progress("export_operators", start / len(missing), f"benchmark {start} of {len(missing)}")
                files = torch_child.operator_files(some, form)
                done += [files[op.text] for op in some]
        return done

    inputs = [{"operator": op.text, **told} for op in operators]
    files = run.steps(StepName.EXPORT_OPERATOR, inputs, StoredFile, export)
    return [
        Wanted(
            TaskKind.OPERATOR,
            f.onnx_sha256,
            f.size_bytes,
            _batched(op.timed, form),
            op.text,
        )
        for op, f in zip(operators, files, strict=True)
    ]


def network_tasks(
    run: JobRun, space: Space, architectures: list[Architecture], form: Delivery
) -> list[Wanted]:
    """Whole networks with random weights, in the form that networks are delivered in."""
    described = [space.to_json(a) for a in architectures]

    def export(missing: list[int]) -> Sequence[StoredFile]:
        operators = sorted({op for i in missing for op in lower(space, architectures[i])})
        blocks = {str(t.operator): t.sha256 for t in operator_tasks(run, operators, form)}
        run.progress("export_networks", 0.0, f"{len(missing)} whole networks", always=True)
        with TorchChild(run) as torch_child:
            wanted = [architectures[i] for i in missing]
            return torch_child.network_files(space.ref, wanted, blocks, form)

    inputs = [
        {"space": space.name, "classes": space.classes, "architecture": d, **_told(form)} for d in described
    ]
    files = run.steps(StepName.EXPORT_NETWORK, inputs, StoredFile, export)
    return [
        Wanted(
            TaskKind.NETWORK,
            f.onnx_sha256,
            f.size_bytes,
            _batched(space.inputs_at(a.resolution), form),
            space=space.name,
            architecture=d,
        )
        for a, d, f in zip(architectures, described, files, strict=True)
    ]


def _told(form: Delivery) -> Document:
    """Nothing of the usual form: steps that earlier versions remembered are still known by their inputs."""
    return {} if form == Delivery() else {"delivery": form.to_json()}


def _batched(inputs: Sequence[InputSpec], form: Delivery) -> tuple[InputSpec, ...]:
    return tuple(spec.of_batch(form.batch_size or 1) for spec in inputs)


def _publish(
    session: Session,
    run: JobRun,
    answers: Answers,
    device: Device,
    before: LatencyTable | None,
    unable: Document,
) -> Document:
    """The measured networks and the new table, in one transaction with the event. unable: what is to be said
    of what the device cannot run."""
    for architecture, measurement in answers.networks:
        measurements.add(
            session, device, answers.space, architecture, measurement, NetworkSource.AGENT, run.job_id
        )
    table_id, state = _publish_table(session, run, answers, device, before)
    result: Document = {
        "table_id": table_id,
        "rows": len(answers.rows),
        "networks": len(answers.networks),
        "state": state,
        **unable,
    }
    run.record(session, "published", result)
    return {**result, "seconds": _seconds(session, run, answers)}


def _publish_table(
    session: Session, run: JobRun, answers: Answers, device: Device, before: LatencyTable | None
) -> tuple[str, TableState]:
    """(id of the device's table with these rows, whether it may be used)."""
    table, groups = answers.table(tables.context_of(device), before), answers.groups
    known = tables.with_digest(session, device.id, table.digest)
    if known is not None:  # nothing has changed: a second row of the same table would only look newer
        return known.id, TableState(known.state)
    findings = [
        *review_table(table, flags=_flags(answers)),
        *_against_networks(table, answers.space, answers.priced(table)),
        *check_speeds([g.speed for g in groups if g.speed is not None]),
        *check_load([g.load for g in groups if g.load is not None]),
        *check_quota((device.environment or {}).get("cpu_quota"), table.context.threads),
    ]
    provenance = _provenance(run, answers)
    published = tables.publish(
        session, device, table, source=TableSource.AGENT, findings=findings, provenance=provenance
    )
    return published.id, TableState.NEEDS_REVIEW if needs_review(findings) else TableState.READY


def _flags(answers: Answers) -> dict[Operator, Sequence[str]]:
    """What is odd about rows in the end: what did not settle in any session, what slowed down for good."""
    throttled = {t.operator for g in answers.groups if g.throttled for t in g.tasks}
    doubtful = set(unsettled(answers.rows))
    names = {
        op: [*(["unstable"] if op in doubtful else []), *(["throttled"] if op.text in throttled else [])]
        for op in answers.rows
    }
    return {op: flags for op, flags in names.items() if flags}


def _seconds(session: Session, run: JobRun, answers: Answers) -> dict[str, float]:
    """Where the time went: export, transfer to the agent, measuring, and waiting for the agent to ask."""
    exports = transitions.data_of(session, run.job_id, "exported")
    tasks = [t for t in answers.tasks if t.answered_at is not None]
    if not tasks:
        return {}
    transfer, measuring = (
        sum(getattr(g, name) for g in answers.groups) for name in ("transfer_s", "measuring_s")
    )
    whole = (
        max(t.answered_at for t in tasks if t.answered_at) - min(t.created_at for t in tasks)
    ).total_seconds()
    found = {"export": sum(e["seconds"] for e in exports), "transfer": transfer, "measuring": measuring}
    return {
        name: round(value, 2)
        for name, value in {**found, "waiting": max(0.0, whole - transfer - measuring)}.items()
    }


def _against_networks(
    table: LatencyTable, space: Space, networks: list[tuple[Architecture, Measurement]]
) -> list[Finding]:
    """Wrong units, or rows of another device: whole networks against the sums of their rows."""
    sums = [table.latency_ms(lower(space, architecture)) for architecture, _ in networks]
    measured = [measurement.latency_ms for _, measurement in networks]
    return check_scale(sums, measured, sentences=space.generation is not None)


def measurement_of(task: MeasurementTask) -> Measurement:
    """What was measured, as it counts in one run of a network: of an operator that a sentence runs often, all
    of a sentence."""
    found = Measurement.from_json(task.result or {})
    factor = 1.0 if task.operator is None else Operator.parse(task.operator).row_factor
    return found if factor == 1.0 else found.times(factor)


def _provenance(run: JobRun, answers: Answers) -> Document:
    """Where the rows come from: job, sessions, and how fast the device ran while each group was measured."""
    return {
        "job_id": run.job_id,
        "sessions": sorted({t.session_id for t in answers.tasks if t.session_id}),
        "speed_spread": speed.spread([g.speed for g in answers.groups if g.speed is not None]),
        "groups": [g.as_dict() for g in answers.groups],
    }
