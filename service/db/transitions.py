"""Jobs: their states, and the one function that moves them.

Every change of state is a guarded UPDATE and an event row in the caller's transaction. "Cancel asked" is a
field, not a state. `attempt` is the fencing token: a worker that lost its job to another one writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, func, insert, literal, select, update
from sqlalchemy.orm import Session

from service.db.documents import Document, Fields, Progress
from service.db.happenings import tell_of_job
from service.db.models import IdempotencyKey, Job, JobEvent, MeasurementTask, new_id, now
from service.db.states import ACTIVE, ENDED, TRANSITIONS, JobKind, JobState, TaskState
from service.errors import JobConflict, JobEnded


def create_job(session: Session, *, tenant_id: str, kind: str, request: Fields, priority: int = 10) -> Job:
    """A queued job with its first event. Hand it over with `JobQueue.submit` in the same transaction."""
    if kind not in tuple(JobKind):
        raise ValueError(f"unknown kind of job; known are {', '.join(JobKind)}")
    job = Job(
        id=new_id("job"),
        tenant_id=tenant_id,
        kind=kind,
        state=JobState.QUEUED,
        request=dict(request),
        priority=priority,
        attempts=0,
    )
    session.add(job)
    session.flush()
    # The first number needs no counting: nobody else knows the job yet.
    session.add(JobEvent(job_id=job.id, sequence=1, kind=JobState.QUEUED, data={}))
    session.flush()
    tell_of_job(session, job.id, JobState.QUEUED, {})
    return job


def move(
    session: Session,
    job_id: str,
    to: JobState,
    *,
    from_states: Collection[JobState],
    data: Fields | None = None,
    error: Fields | None = None,
    result: Fields | None = None,
    attempt: int | None = None,
    values: Fields | None = None,
) -> None:
    """Move a job and write the event; where it ends, its open measurement tasks are withdrawn.

    Raises JobConflict when it is in none of `from_states`. attempt: only while this is the job's attempt.
    values: further columns to set. An illegal transition is a ValueError, whatever state the job is in.
    """
    illegal = [s for s in from_states if to not in TRANSITIONS[s]]
    if illegal:
        raise ValueError(f"no job goes from {', '.join(illegal)} to {to}")
    changes: Document = {"state": to, **(values or {})}
    if to is JobState.RUNNING:
        changes.setdefault("started_at", func.coalesce(Job.started_at, now()))
    if to in ENDED:
        changes.update(ended_at=now(), error=error, result=result)
    # The guard is in the statement, not in a read before it: of two movers one finds no row.
    statement = update(Job).where(Job.id == job_id, Job.state.in_(tuple(from_states)))
    if attempt is not None:
        statement = statement.where(Job.attempts == attempt)
    if session.connection().execute(statement.values(**changes)).rowcount != 1:
        raise JobConflict(
            f"job {job_id} is not {' or '.join(from_states)}, or another worker has it; it was not moved to "
            f"{to}"
        )
    if to in ENDED:
        _withdraw_tasks(session, job_id)
    _forget(session, job_id)
    detail = dict(data or {})
    if error is not None:
        detail["error"] = error
    add_event(session, job_id, to, detail, locked=True)


def record_progress(
    session: Session,
    job_id: str,
    step: str,
    fraction: float,
    message: str,
    eta_s: float | None = None,
    *,
    attempt: int | None = None,
    event: bool = True,
    metrics: Fields | None = None,
) -> None:
    """Set the progress of a running job, with an event. Raises JobConflict when it is not running (any more).

    metrics: numbers of a training for its curve, kept with the event (`GET /v1/supernets/{id}/history`).
    """
    progress: Progress = {
        "step": step,
        "fraction": round(min(max(fraction, 0.0), 1.0), 4),
        "message": message,
        "eta_s": None if eta_s is None else round(max(eta_s, 0.0), 1),
    }
    statement = update(Job).where(Job.id == job_id, Job.state == JobState.RUNNING)
    if attempt is not None:
        statement = statement.where(Job.attempts == attempt)
    if session.connection().execute(statement.values(progress=progress)).rowcount != 1:
        raise JobConflict(f"job {job_id} is not running, or another worker has it")
    _forget(session, job_id)
    if event:
        add_event(
            session,
            job_id,
            "progress",
            progress if metrics is None else {**progress, "metrics": metrics},
            locked=True,
        )


def add_event(
    session: Session, job_id: str, kind: str, data: Fields | None = None, *, locked: bool = False
) -> int:
    """Append an event; its sequence number. Numbers of a job are 1, 2, 3, … in order of commit.

    locked: this transaction has written the job's row already.
    """
    if not locked:  # the job (PostgreSQL) or the file (SQLite), so that no two events take one number
        session.connection().execute(update(Job).where(Job.id == job_id).values(attempts=Job.attempts))
    tell_of_job(session, job_id, kind, data or {})
    given = [
        literal(job_id),
        literal(now(), JobEvent.at.type),
        literal(kind),
        literal(data or {}, JobEvent.data.type),
    ]
    # Counted and written by one statement: a read and a write would be two trips, and a race.
    number = func.coalesce(func.max(JobEvent.sequence), 0) + 1
    row = select(number, *given).where(JobEvent.job_id == job_id)
    columns = [JobEvent.sequence, JobEvent.job_id, JobEvent.at, JobEvent.kind, JobEvent.data]
    return (
        session.connection()
        .execute(insert(JobEvent).from_select(columns, row).returning(JobEvent.sequence))
        .scalar_one()
    )


def ask_cancel(session: Session, job: Job) -> None:
    """Ask a job to stop: a queued one is cancelled now, a running one by its worker. Raises JobEnded.

    After the commit, call `JobQueue.cancel` so that no worker picks it up.
    """
    statement = (
        update(Job)
        .where(Job.id == job.id, Job.state.in_(ACTIVE))
        .values(cancel_asked_at=func.coalesce(Job.cancel_asked_at, now()))
    )
    if session.connection().execute(statement).rowcount != 1:
        session.refresh(job)
        raise JobEnded(job.state)
    session.refresh(job)
    if job.state == JobState.QUEUED:
        move(session, job.id, JobState.CANCELLED, from_states=(JobState.QUEUED,))
    else:
        add_event(session, job.id, "cancel_asked")
    session.refresh(job)


def requeue(session: Session, job: Job) -> None:
    """Give a quarantined job three more crashes; `JobQueue.submit` it in the same transaction. Raises
    JobConflict."""
    anew = {"ended_at": None, "error": None, "worker_id": None, "progress": None, "cancel_asked_at": None}
    data = {"reason": "requeued by an operator"}
    move(session, job.id, JobState.QUEUED, from_states=(JobState.QUARANTINED,), data=data, values=anew)
    session.refresh(job)


def data_of(session: Session, job_id: str, kind: str) -> list[dict[str, Any]]:
    """The data of a job's events of one kind, in order."""
    query = select(JobEvent.data).where(JobEvent.job_id == job_id, JobEvent.kind == kind)
    return list(session.scalars(query.order_by(JobEvent.sequence)))


def crashes(session: Session, job_id: str) -> int:
    """How often the job has crashed since it was last in quarantine."""
    quarantined = select(func.max(JobEvent.sequence)).where(
        JobEvent.job_id == job_id, JobEvent.kind == JobState.QUARANTINED
    )
    since = session.scalar(quarantined) or 0
    counted = select(func.count()).where(
        JobEvent.job_id == job_id, JobEvent.kind == "crashed", JobEvent.sequence > since
    )
    return session.scalar(counted) or 0


def delete_quarantined(session: Session, job: Job) -> None:
    """Forget a quarantined job with its events. Raises JobConflict for any other job."""
    statement = delete(Job).where(Job.id == job.id, Job.state == JobState.QUARANTINED)
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.job_id == job.id))
    session.execute(delete(JobEvent).where(JobEvent.job_id == job.id))
    session.execute(delete(MeasurementTask).where(MeasurementTask.job_id == job.id))
    if session.connection().execute(statement).rowcount != 1:
        raise JobConflict(f"job {job.id} is not in quarantine; only such jobs can be deleted")
    session.expunge(job)


def events(session: Session, job_id: str, after: int = 0, limit: int = 1000) -> Sequence[JobEvent]:
    """Events of a job with a sequence number above `after`, in order."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.sequence > after)
    return session.scalars(query.order_by(JobEvent.sequence).limit(limit)).all()


def _withdraw_tasks(session: Session, job_id: str) -> None:
    """A job's measurement tasks end with it, so that no agent spends time on them."""
    waiting = (MeasurementTask.job_id == job_id, MeasurementTask.state == TaskState.OPEN)
    session.execute(update(MeasurementTask).where(*waiting).values(state=TaskState.DROPPED))


def _forget(session: Session, job_id: str) -> None:
    """The session's copy of the job is stale after an UPDATE that went past it."""
    # The UPDATE went past the object-relational layer, which would show the old state.
    for held in session.identity_map.values():
        if isinstance(held, Job) and held.id == job_id:
            session.expire(held)
