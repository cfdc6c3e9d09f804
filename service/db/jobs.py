"""Queries about jobs, delivered models, answered requests. `service.db.transitions` moves a job's state."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Engine,
    Text,
    bindparam,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from service.db.documents import Document, Progress
from service.db.models import Artifact, Device, IdempotencyKey, Job, MeasurementTask, Model, now
from service.db.states import ACTIVE, JobKind, JobState
from service.errors import JobConflict

Cursor = tuple[datetime, str]
KEPT: Final = timedelta(hours=24)


class PolledJob(NamedTuple):
    """A job as a poll shows it: all but what was asked for, which may be large."""

    id: str
    kind: str
    state: str
    progress: Progress | None
    attempts: int
    priority: int
    cancel_asked_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: Document | None
    result: Document | None
    name: str | None
    note: str | None


_POLLED: Final = select(*(Job.__table__.c[name] for name in PolledJob._fields)).where(
    Job.tenant_id == bindparam("tenant"), Job.id == bindparam("job")
)


def before(created_at: Any, row_id: Any, cursor: Cursor) -> ColumnElement[bool]:
    """Rows after a place in a list that shows the newest first."""
    return tuple_(created_at, row_id) < tuple_(literal(cursor[0], created_at.type), literal(cursor[1]))


def get(session: Session, tenant_id: str, job_id: str) -> Job | None:
    return session.scalar(select(Job).where(Job.tenant_id == tenant_id, Job.id == job_id))


def polled(engine: Engine, asked: Sequence[tuple[str, str]]) -> list[PolledJob | None]:
    """What `GET /v1/jobs/{id}` shows of each (tenant, job): jobs are polled more than anything else is asked.

    Without the object-relational layer, which would take longer than the query; and each committed state by
    itself.
    """
    with engine.connect() as connection:
        found = [
            connection.execute(_POLLED, {"tenant": tenant, "job": job}).one_or_none() for tenant, job in asked
        ]
    return [None if row is None else PolledJob._make(row) for row in found]


@dataclass(frozen=True)
class JobFilter:
    """Which jobs to list; None is any. text: part of the id, the name, the note or of what was asked for."""

    state: str | None = None
    kind: str | None = None
    device: str | None = None
    supernet: str | None = None
    text: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        asked = cast(Job.request, Text)
        found: list[ColumnElement[bool]] = []
        if self.state is not None:
            found.append(Job.state == self.state)
        if self.kind is not None:
            found.append(Job.kind == self.kind)
        if self.device is not None:  # of a target or of the job itself; a name needs no escaping in JSON
            # A text search in JSON, alike on both databases; requests are small and a tenant has few.
            found.append(asked.contains(f'"device": "{self.device}"', autoescape=True))
        if self.supernet is not None:
            found.append(Job.request["supernet_id"].as_string() == self.supernet)
        if self.text is not None:
            found.append(containing(self.text, Job.id, Job.name, Job.note, asked))
        return found


def containing(text: str, *columns: Any) -> ColumnElement[bool]:
    """Whether one of the columns holds the text, in capitals or not."""
    return or_(*(func.lower(column).contains(text.lower(), autoescape=True) for column in columns))


def listed(
    session: Session, tenant_id: str, wanted: JobFilter, after: Cursor | None, limit: int
) -> Sequence[Job]:
    """Jobs, the newest first."""
    query = select(Job).where(Job.tenant_id == tenant_id, *wanted.conditions())
    if after is not None:
        query = query.where(before(Job.created_at, Job.id, after))
    return session.scalars(query.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)).all()


def count_active(session: Session, tenant_id: str | None = None, besides: str | None = None) -> int:
    """Queued and running jobs, of one tenant or of all; one of them may be left out."""
    query = select(func.count()).select_from(Job).where(Job.state.in_(ACTIVE))
    if besides is not None:
        query = query.where(Job.id != besides)
    if tenant_id is not None:
        query = query.where(Job.tenant_id == tenant_id)
    return session.scalar(query) or 0


def name_workflow(session: Session, job: Job, workflow_id: str) -> str:
    """Note under which id the queue has the job."""
    job.workflow_id = workflow_id
    session.flush()
    return workflow_id


def quarantined(session: Session) -> Sequence[Job]:
    """Quarantined jobs of all tenants, the longest there first."""
    return session.scalars(select(Job).where(Job.state == JobState.QUARANTINED).order_by(Job.ended_at)).all()


def of_any_tenant(session: Session, job_id: str) -> Job | None:
    """For the operator on the machine itself, who may see every tenant's jobs."""
    return session.get(Job, job_id)


def rename(session: Session, row: Job | Model, given: Mapping[str, str | None]) -> None:
    """Set what people call a job or a model: `name`, `note`, or both; None takes it away."""
    for field in ("name", "note"):
        if field in given:
            setattr(row, field, given[field])
    session.flush()


def state_of(session: Session, job_id: str) -> str | None:
    return session.scalar(select(Job.state).where(Job.id == job_id))


class HeldJob(NamedTuple):
    """What a worker looks at before it takes a job; not the request, which it may not be able to read."""

    state: str
    attempts: int
    cancel_asked_at: datetime | None
    progress: Progress | None


class JobHandle(NamedTuple):
    """Whose a job is, what it does, and before which others."""

    tenant_id: str
    kind: str
    priority: int


def handle(session: Session, job_id: str) -> JobHandle:
    """The job must be there."""
    columns = select(*(getattr(Job, name) for name in JobHandle._fields)).where(Job.id == job_id)
    return JobHandle._make(session.execute(columns).one())


def look(session: Session, job_id: str) -> HeldJob | None:
    """A job as it is now, which others may change at any moment."""
    columns = select(*(getattr(Job, name) for name in HeldJob._fields)).where(Job.id == job_id)
    row = session.execute(columns).one_or_none()
    return None if row is None else HeldJob._make(row)


def hold(session: Session, job_id: str) -> HeldJob | None:
    """A job that nobody else may change before this transaction ends."""
    columns = select(*(getattr(Job, name) for name in HeldJob._fields)).where(Job.id == job_id)
    row = session.execute(columns.with_for_update()).one_or_none()
    return None if row is None else HeldJob._make(row)


def request_of(session: Session, job_id: str) -> Document:
    """What was asked for. The job must be there."""
    return session.scalars(select(Job.request).where(Job.id == job_id)).one()


def fence(session: Session, job_id: str, attempt: int) -> None:
    """Lock the job's row for this transaction. Raises JobConflict where another worker has it, or nobody."""
    held = update(Job).where(Job.id == job_id, Job.attempts == attempt, Job.state == JobState.RUNNING)
    if session.connection().execute(held.values(attempts=attempt)).rowcount != 1:
        raise JobConflict(f"job {job_id} is not running, or another worker has it")


def waiting_for(session: Session, supernet_ids: Collection[str]) -> list[str]:
    """Ids of jobs that have not ended, were not asked to stop, and want one of these supernets."""
    jobs = select(Job.id).where(
        Job.state.in_(ACTIVE),
        Job.cancel_asked_at.is_(None),
        Job.request["supernet_id"].as_string().in_(supernet_ids),
    )
    return list(session.scalars(jobs.order_by(Job.id)))


def cancelled_in_vain(session: Session, grace: timedelta) -> Sequence[str]:
    """Ids of running jobs that somebody asked to stop longer ago than that."""
    late = (Job.state == JobState.RUNNING, Job.cancel_asked_at < now() - grace)
    return session.scalars(select(Job.id).where(*late)).all()


def unfinished_or_recent(session: Session, ids: Collection[str], kept: timedelta) -> set[str]:
    """Those of the jobs that have not ended, or not longer ago than that."""
    recent = or_(Job.ended_at.is_(None), Job.ended_at > now() - kept)
    return set(session.scalars(select(Job.id).where(Job.id.in_(ids), recent)))


def of_supernet(session: Session, tenant_id: str, supernet_id: str) -> Job | None:
    """The newest supernet job for that supernet that has not failed."""
    query = select(Job).where(
        Job.tenant_id == tenant_id,
        Job.kind == JobKind.SUPERNET,
        Job.state.in_((*ACTIVE, JobState.SUCCEEDED)),
        Job.request["supernet_id"].as_string() == supernet_id,
    )
    return session.scalar(query.order_by(Job.created_at.desc()).limit(1))


def answered(session: Session, tenant_id: str, key: str) -> IdempotencyKey | None:
    """What was answered under an Idempotency-Key in the last 24 hours."""
    row = session.get(IdempotencyKey, (tenant_id, key))
    if row is not None and now() - row.created_at > KEPT:
        session.execute(
            delete(IdempotencyKey).where(IdempotencyKey.tenant_id == tenant_id, IdempotencyKey.key == key)
        )
        # Else the session would give the deleted row to whoever asks next.
        session.expunge(row)
        return None
    return row


def remember(session: Session, tenant_id: str, key: str, request_digest: str, job_id: str) -> None:
    """Keep an answer. Raises IntegrityError when another request with this key was faster."""
    session.add(IdempotencyKey(tenant_id=tenant_id, key=key, request_digest=request_digest, job_id=job_id))
    session.flush()


def model(session: Session, tenant_id: str, model_id: str) -> Model | None:
    return session.scalar(select(Model).where(Model.tenant_id == tenant_id, Model.id == model_id))


def add_model(session: Session, found: Model) -> None:
    session.add(found)


def remove_model(session: Session, found: Model) -> None:
    """Forget a model, and its file where nobody else names it; the sweep removes the bytes."""
    sha256 = found.onnx_sha256
    session.delete(found)
    session.flush()
    others = (
        select(Model.id).where(Model.onnx_sha256 == sha256),
        select(MeasurementTask.id).where(MeasurementTask.sha256 == sha256),
    )
    if all(session.scalar(query.limit(1)) is None for query in others):
        session.execute(delete(Artifact).where(Artifact.sha256 == sha256))


@dataclass(frozen=True)
class ModelFilter:
    """Which models to list; None is any. text: part of the id, the name or the note."""

    device: str | None = None
    supernet: str | None = None
    job: str | None = None
    text: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        given = ((Device.name, self.device), (Model.supernet_id, self.supernet), (Model.job_id, self.job))
        found: list[ColumnElement[bool]] = [column == value for column, value in given if value is not None]
        if self.text is not None:
            found.append(containing(self.text, Model.id, Model.name, Model.note))
        return found


def models(
    session: Session, tenant_id: str, wanted: ModelFilter, after: Cursor | None, limit: int
) -> Sequence[tuple[Model, str | None]]:
    """(model, name of its device, None where it was made for limits alone), the newest first."""
    query = select(Model, Device.name).outerjoin(Device, Device.id == Model.device_id)
    query = query.where(Model.tenant_id == tenant_id, *wanted.conditions())
    if after is not None:
        query = query.where(before(Model.created_at, Model.id, after))
    rows = session.execute(query.order_by(Model.created_at.desc(), Model.id.desc()).limit(limit))
    return [(found, name) for found, name in rows]
