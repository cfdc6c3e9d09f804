"""Measuring is always done by an agent on the device: a job writes tasks, waits, and reads the answers."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from latency_tables.measurement import Measurement
from latency_tables.measuring import speed
from latency_tables.measuring.speed import Speed
from service.db import agents as agent_rows
from service.db import devices, tasks
from service.db.documents import Document, TaskResult
from service.db.models import Device, MeasurementTask, now
from service.db.session import Session
from service.db.states import TaskKind
from service.db.tasks import Wanted
from supernets.search.measured import UNKNOWN
from worker.context import JobRun
from worker.errors import NothingMeasured, UnknownDevice

POLL_S: Final = 1.0


def device_of(session: Session, run: JobRun, device_id: str) -> Device:
    """The device of a job. Raises UnknownDevice."""
    row = devices.of_tenant(session, run.tenant_id, device_id)
    if row is None:
        raise UnknownDevice("the device of this job is no longer there; register it again")
    return row


def ask(run: JobRun, device_id: str, wanted: Sequence[Wanted]) -> list[str]:
    """Write the tasks, in this order, after those that the job has; their ids."""

    def write(session: Session) -> list[str]:
        ids = tasks.add(session, run.tenant_id, run.job_id, device_id, wanted)
        run.record(session, "measuring", {"tasks": len(ids), "device_id": device_id})
        return ids

    return run.write(write)


def agent_is_present(run: JobRun, device_id: str) -> bool:
    """Whether an agent on that device was heard of lately."""
    since = now() - timedelta(seconds=run.context.settings.agent_present_s)
    return run.context.transaction(lambda session: agent_rows.is_present(session, device_id, since))


def some_measured(tasks: Sequence[MeasurementTask], device: str) -> Document:
    """`cannot_run`: what the device cannot run of what it was given, in the tasks' order; empty where it ran
    everything. Raises NothingMeasured where it ran nothing."""
    tasks = [t for t in tasks if t.kind != TaskKind.SENTINEL]
    measured = {thing(t) for t in tasks if t.result is not None}
    failed = {thing(t): t for t in tasks if t.failure is not None and thing(t) not in measured}
    if failed and not measured:
        first = next(iter(failed.values()))
        raise NothingMeasured(
            f"{device} could run none of the {len(failed)} networks that it was given: {first.failure}. "
            "Look at its runtime and its free memory, then start the job again"
        )
    said = [
        {"operator": t.operator, "architecture": t.architecture, "reason": t.failure} for t in failed.values()
    ]
    return {"cannot_run": said} if said else {}


def thing(task: MeasurementTask) -> str:
    """What a task measures: the operator's text, or the network. Files are no names: equal networks may share
    one."""
    return task.operator if task.operator is not None else json.dumps(task.architecture, sort_keys=True)


def wait_for_all(run: JobRun, device_id: str, device: str) -> None:
    """Wait, for as long as it takes, until every task of this job on the device is answered; report
    progress."""
    begun = time.monotonic()
    first: int | None = None
    while True:
        run.check()
        done, total = run.context.transaction(lambda session: tasks.counts(session, run.job_id))
        # What was answered before this attempt says nothing about how fast the agent is now.
        first = done if first is None else first
        if done >= total:
            return
        rate = (done - first) / max(time.monotonic() - begun, 1e-9)
        eta_s = (total - done) / rate if rate > 0 else None
        if agent_is_present(run, device_id):
            message = f"measured {done} of {total} on {device}"
        else:
            message = (
                f"{done} of {total} measured; no agent is running on {device}: start one there with "
                f"`bespoke agent` (or `bespoke profile` if it is this machine)"
            )
        run.progress("measure", done / total, message, eta_s)
        run.pause(POLL_S)


def wait_for(run: JobRun, task_ids: Sequence[str], timeout_s: float) -> list[TaskResult | None]:
    """The answers to tasks, in their order; None for those without one in time, which are withdrawn, and for
    those that the device cannot run.

    timeout_s: after the last answer, not for each task: an agent that has left is waited for once.
    """
    found: dict[str, TaskResult] = {}
    missing, end = set(task_ids), time.monotonic() + timeout_s
    while missing:
        answered = run.context.transaction(partial(tasks.results_of, task_ids=missing))
        found |= answered
        missing -= answered.keys()
        missing -= run.context.transaction(partial(tasks.failures_of, task_ids=missing)).keys()
        if not missing:
            break
        if answered:
            end = time.monotonic() + timeout_s
        elif time.monotonic() >= end:
            # So that an agent that comes back late does not measure what nobody waits for.
            run.write(partial(tasks.withdraw, task_ids=missing))
            break
        else:
            run.pause(0.25)
    return [found.get(task_id) for task_id in task_ids]


@dataclass(frozen=True)
class Group:
    """Tasks that were measured together. speed: None where the agent did not tell; load: runnable processes a
    core.

    reference_ms: the fastest that its sentinel was ever seen there. transfer_s, measuring_s: how long that
    took.
    """

    name: str
    tasks: tuple[MeasurementTask, ...]
    speed: Speed | None
    load: float | None
    reference_ms: float | None = None
    transfer_s: float = 0.0
    measuring_s: float = 0.0
    factor: float = 1.0

    @property
    def throttled(self) -> bool:
        """Whether the device slowed down for good meanwhile."""
        return any(_throttled(t.result or {}) for t in self.tasks)

    def as_dict(self) -> Document:
        """What is kept of it: latencies of its tasks were multiplied by `factor`."""
        speed = (
            {}
            if self.speed is None
            else {"sentinel_ms": self.speed.sentinel_ms, "sentinel_error": self.speed.error}
        )
        return {
            "group": self.name,
            "tasks": len(self.tasks),
            **speed,
            "factor": self.factor,
            "load": self.load,
            "measuring_s": self.measuring_s,
        }


def undisturbed(result: Mapping[str, Any]) -> tuple[Measurement, float]:
    """(an answer brought to the device that nobody slows for a whole session, the factor that did it).

    As the groups of a profile are: by the fastest that the agent ever saw its sentinel. The factor is 1 where
    that does not tell, and where the device slowed down for good meanwhile; else its error is part of the
    uncertainty.
    """
    measurement, reference_ms = Measurement.from_json(result), result.get("reference_ms")
    if result.get("sentinel_ms") is None or reference_ms is None or _throttled(result):
        return measurement, 1.0
    told = Speed(result["sentinel_ms"], result.get("sentinel_error"))
    (factor,) = speed.factors([told], reference_ms)
    if factor >= 1:
        return measurement, 1.0
    own = UNKNOWN if measurement.uncertainty is None else measurement.uncertainty
    uncertainty = math.hypot(own, math.sqrt(2) * (told.error or 0.0))
    return replace(measurement.times(factor), uncertainty=uncertainty), factor


def _throttled(result: Mapping[str, Any]) -> bool:
    """Whether the device slowed down for good while that was measured."""
    return "throttled" in (result.get("flags") or ())


def groups_of(tasks: Sequence[MeasurementTask]) -> list[Group]:
    """The groups of a job's answered tasks, with the factors that bring each to the undisturbed device."""
    members: dict[str, list[MeasurementTask]] = {}
    for task in tasks:
        if task.result is not None:
            members.setdefault(_process(task, task.result), []).append(task)
    groups = [_group(name, found) for name, found in members.items()]
    known = [g for g in groups if g.speed is not None]
    seen = [g.reference_ms for g in known if g.reference_ms is not None]
    factors = speed.factors([g.speed for g in known if g.speed], min(seen, default=None))
    # A session that saw the device slow down for good is true as it is: faster the device was, and is no
    # more.
    factor = {g.name: 1.0 if g.throttled else f for g, f in zip(known, factors, strict=True)}
    return [replace(g, factor=factor.get(g.name, 1.0)) for g in groups]


def _group(name: str, tasks: list[MeasurementTask]) -> Group:
    result = tasks[0].result or {}
    sentinel_ms = result.get("sentinel_ms")
    told = None if sentinel_ms is None else Speed(sentinel_ms, result.get("sentinel_error"))
    return Group(
        name,
        tuple(tasks),
        told,
        result.get("load"),
        reference_ms=result.get("reference_ms"),
        transfer_s=result.get("transfer_s") or 0.0,
        measuring_s=result.get("measuring_s") or 0.0,
    )


def _process(task: MeasurementTask, result: Mapping[str, Any]) -> str:
    """Names the tasks that were measured in the same process; the job where the agent does not tell."""
    return task.job_id if result.get("group") is None else f"{task.session_id}/{result['group']}"
