"""Queries about measuring agents: enrolments, sessions, posts, tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.orm import Session

from latency_tables.inputs import InputSpec
from service.db.documents import Fields, TaskResult
from service.db.models import AgentPost, AgentSession, Device, Enrolment, Job, MeasurementTask, new_id, now
from service.db.states import ACTIVE, TaskKind, TaskState

SENTINEL = TaskKind.SENTINEL


def add_enrolment(
    session: Session, tenant_id: str, device_id: str, digest: bytes, expires_at: datetime
) -> Enrolment:
    row = Enrolment(
        id=new_id("enr"), tenant_id=tenant_id, device_id=device_id, digest=digest, expires_at=expires_at
    )
    session.add(row)
    session.flush()
    return row


def enrolment_by_digest(session: Session, digest: bytes) -> Enrolment | None:
    return session.scalar(select(Enrolment).where(Enrolment.digest == digest))


def use_enrolment(session: Session, enrolment_id: str) -> bool:
    """Mark a token as used; False when another redemption was faster."""
    statement = update(Enrolment).where(Enrolment.id == enrolment_id, Enrolment.used_at.is_(None))
    return session.connection().execute(statement.values(used_at=now())).rowcount == 1


def open_session(
    session: Session,
    enrolment: Enrolment,
    key_digest: bytes,
    environment: Fields,
    fingerprint: str,
    expires_at: datetime,
) -> AgentSession:
    """A new session; the device's earlier ones are closed, since two agents on one device disturb each
    other."""
    # In the same transaction as the new one: there is never a moment with two, or with none.
    earlier = update(AgentSession).where(
        AgentSession.device_id == enrolment.device_id, AgentSession.closed_at.is_(None)
    )
    session.execute(earlier.values(closed_at=now(), closed_reason="superseded"))
    row = AgentSession(
        id=new_id("ses"),
        tenant_id=enrolment.tenant_id,
        device_id=enrolment.device_id,
        key_digest=key_digest,
        environment=dict(environment),
        fingerprint=fingerprint,
        expires_at=expires_at,
        seen_at=now(),
    )
    session.add(row)
    session.flush()
    return row


def session_by_digest(session: Session, digest: bytes) -> AgentSession | None:
    return session.scalar(select(AgentSession).where(AgentSession.key_digest == digest))


def is_present(session: Session, device_id: str, since: datetime) -> bool:
    """Whether an agent on that device was heard of since then."""
    heard = exists().where(
        AgentSession.device_id == device_id, AgentSession.closed_at.is_(None), AgentSession.seen_at >= since
    )
    return bool(session.scalar(select(heard)))


def last_sessions(session: Session, device_ids: Sequence[str]) -> dict[str, AgentSession]:
    """Device id -> its newest session."""
    query = (
        select(AgentSession).where(AgentSession.device_id.in_(device_ids)).order_by(AgentSession.created_at)
    )
    return {row.device_id: row for row in session.scalars(query)}


def heard_of(session: Session) -> list[tuple[str, str, datetime | None]]:
    """(tenant, name of the device, last sign of life) of every open session."""
    query = select(Device.tenant_id, Device.name, AgentSession.seen_at).join(
        Device, Device.id == AgentSession.device_id
    )
    found = session.execute(query.where(AgentSession.closed_at.is_(None), AgentSession.expires_at > now()))
    return [(tenant, name, at) for tenant, name, at in found]


def get_session(session: Session, session_id: str | None) -> AgentSession | None:
    return session.get(AgentSession, session_id)


def beat(session: Session, session_id: str) -> None:
    session.execute(update(AgentSession).where(AgentSession.id == session_id).values(seen_at=now()))


def close_session(session: Session, session_id: str, reason: str) -> None:
    statement = update(AgentSession).where(AgentSession.id == session_id, AgentSession.closed_at.is_(None))
    session.execute(statement.values(closed_at=now(), closed_reason=reason))


def close_sessions_of(session: Session, device_id: str, reason: str) -> int:
    statement = update(AgentSession).where(
        AgentSession.device_id == device_id, AgentSession.closed_at.is_(None)
    )
    return session.connection().execute(statement.values(closed_at=now(), closed_reason=reason)).rowcount


def open_tasks(session: Session, device_id: str, limit: int) -> Sequence[MeasurementTask]:
    """What the device is to measure next: open tasks of jobs that still run, verification first, then in
    order."""
    query = (
        select(MeasurementTask)
        .join(Job, Job.id == MeasurementTask.job_id)
        .where(
            MeasurementTask.device_id == device_id,
            MeasurementTask.state == TaskState.OPEN,
            MeasurementTask.kind != SENTINEL,
            Job.state.in_(ACTIVE),
        )
        .order_by(
            (MeasurementTask.kind == TaskKind.VERIFY).desc(),
            MeasurementTask.created_at,
            MeasurementTask.position,
        )
    )
    return session.scalars(query.limit(limit)).all()


def count_open_tasks(session: Session, device_id: str) -> int:
    query = (
        select(func.count())
        .select_from(MeasurementTask)
        .join(Job, Job.id == MeasurementTask.job_id)
        .where(
            MeasurementTask.device_id == device_id,
            MeasurementTask.state == TaskState.OPEN,
            MeasurementTask.kind != SENTINEL,
            Job.state.in_(ACTIVE),
        )
    )
    return session.scalar(query) or 0


def sentinel(session: Session, job_id: str) -> MeasurementTask | None:
    """The operator that is timed all through a job's measuring."""
    query = select(MeasurementTask).where(MeasurementTask.job_id == job_id, MeasurementTask.kind == SENTINEL)
    return session.scalar(query.limit(1))


def has_file(session: Session, device_id: str, sha256: str) -> bool:
    """Whether a file belongs to a task of that device."""
    query = select(MeasurementTask.id).where(
        MeasurementTask.device_id == device_id, MeasurementTask.sha256 == sha256
    )
    return session.scalar(query.limit(1)) is not None


def tasks_named(session: Session, device_id: str, ids: Sequence[str]) -> dict[str, MeasurementTask]:
    query = select(MeasurementTask).where(MeasurementTask.device_id == device_id, MeasurementTask.id.in_(ids))
    return {row.id: row for row in session.scalars(query)}


def answer_task(session: Session, task_id: str, session_id: str, result: TaskResult) -> bool:
    """Store a measurement; False when the task is not open any more."""
    return _close_task(session, task_id, session_id, {"state": TaskState.DONE, "result": result})


def fail_task(session: Session, task_id: str, session_id: str, reason: str) -> bool:
    """The device cannot run this task's network; False when the task is not open any more."""
    values = {"state": TaskState.FAILED, "failure": reason}
    return _close_task(session, task_id, session_id, values)


def _close_task(session: Session, task_id: str, session_id: str, values: Mapping[str, Any]) -> bool:
    statement = update(MeasurementTask).where(
        MeasurementTask.id == task_id, MeasurementTask.state == TaskState.OPEN
    )
    closed = statement.values(session_id=session_id, answered_at=now(), **values)
    return session.connection().execute(closed).rowcount == 1


def post_of(session: Session, session_id: str, sequence: int) -> AgentPost | None:
    return session.get(AgentPost, (session_id, sequence))


def add_post(session: Session, session_id: str, sequence: int, body_digest: str, answer: Fields) -> None:
    session.add(
        AgentPost(session_id=session_id, sequence=sequence, body_digest=body_digest, answer=dict(answer))
    )
    session.flush()


def inputs_of(task: MeasurementTask) -> tuple[InputSpec, ...]:
    """What the network of a task is fed with, the batch in the shapes."""
    if task.inputs is None:
        return (InputSpec("input", tuple(task.input_shape)),)
    return tuple(InputSpec.from_json(spec) for spec in task.inputs)
