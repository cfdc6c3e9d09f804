"""Queries about measurement tasks of a job that waits for answers; `service.db.agents` has the other side."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from latency_tables.inputs import InputSpec
from service.db.agents import inputs_of
from service.db.artifacts import register
from service.db.documents import Document, TaskResult
from service.db.models import MeasurementTask, new_id, now
from service.db.states import ArtifactKind, TaskKind, TaskState


@dataclass(frozen=True)
class Wanted:
    """One thing to measure. inputs: with the batch in their shapes."""

    kind: TaskKind
    sha256: str
    size_bytes: int
    inputs: tuple[InputSpec, ...]
    operator: str | None = None
    space: str | None = None
    architecture: Document | None = None


def wanted_again(task: MeasurementTask) -> Wanted:
    """The same once more."""
    return Wanted(
        kind=TaskKind(task.kind),
        sha256=task.sha256,
        size_bytes=task.size_bytes,
        inputs=inputs_of(task),
        operator=task.operator,
        space=task.space,
        architecture=task.architecture,
    )


def add(session: Session, tenant_id: str, job_id: str, device_id: str, wanted: Sequence[Wanted]) -> list[str]:
    """Write tasks, in this order, after those that the job has; their ids."""
    at, ids, known = now(), [], set()
    first = session.scalar(select(func.count()).where(MeasurementTask.job_id == job_id)) or 0
    for position, item in enumerate(wanted, first):
        if item.sha256 not in known:
            register(session, item.sha256, item.size_bytes, ArtifactKind.ONNX_BENCHMARK)
            known.add(item.sha256)
        row = MeasurementTask(
            id=new_id("task"),
            tenant_id=tenant_id,
            device_id=device_id,
            job_id=job_id,
            position=position,
            kind=item.kind,
            operator=item.operator,
            space=item.space,
            architecture=item.architecture,
            input_shape=list(item.inputs[0].shape),  # what agents of before there were more inputs read
            inputs=[spec.to_json() for spec in item.inputs],
            sha256=item.sha256,
            size_bytes=item.size_bytes,
            nonce=secrets.token_hex(16),
            created_at=at,
        )
        session.add(row)
        ids.append(row.id)
    return ids


def of_job(session: Session, job_id: str) -> Sequence[MeasurementTask]:
    """All tasks of a job, in order."""
    query = select(MeasurementTask).where(MeasurementTask.job_id == job_id)
    return session.scalars(query.order_by(MeasurementTask.position)).all()


def counts(session: Session, job_id: str) -> tuple[int, int]:
    """(answered, wanted) tasks of a job, the sentinel aside."""
    mine = select(func.count()).where(
        MeasurementTask.job_id == job_id, MeasurementTask.kind != TaskKind.SENTINEL
    )
    total = session.scalar(mine) or 0
    return total - (session.scalar(mine.where(MeasurementTask.state == TaskState.OPEN)) or 0), total


def results_of(session: Session, task_ids: Collection[str]) -> dict[str, TaskResult]:
    """The answers to those of the tasks that have one, by id."""
    query = select(MeasurementTask.id, MeasurementTask.result).where(MeasurementTask.id.in_(task_ids))
    return {task_id: result for task_id, result in session.execute(query) if result is not None}


def failures_of(session: Session, task_ids: Collection[str]) -> dict[str, str]:
    """Why the device cannot run those of the tasks that it cannot run, by id."""
    query = select(MeasurementTask.id, MeasurementTask.failure).where(MeasurementTask.id.in_(task_ids))
    return {task_id: failure for task_id, failure in session.execute(query) if failure is not None}


def withdraw(session: Session, task_ids: Collection[str]) -> None:
    """Nobody waits for these tasks any more; those that were answered stay as they are."""
    query = update(MeasurementTask).where(
        MeasurementTask.id.in_(task_ids), MeasurementTask.state == TaskState.OPEN
    )
    session.execute(query.values(state=TaskState.DROPPED))


def verifying(session: Session, job_id: str, device_id: str, sha256: str | None = None) -> list[str]:
    """Ids of a job's verifying tasks on a device, of one file or any, as written; none that was withdrawn."""
    query = select(MeasurementTask.id).where(
        MeasurementTask.job_id == job_id,
        MeasurementTask.device_id == device_id,
        MeasurementTask.kind == TaskKind.VERIFY,
        MeasurementTask.state != TaskState.DROPPED,
    )
    if sha256 is not None:
        query = query.where(MeasurementTask.sha256 == sha256)
    order = (MeasurementTask.created_at, MeasurementTask.position, MeasurementTask.id)
    return list(session.scalars(query.order_by(*order)))
