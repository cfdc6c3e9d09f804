"""Do the rows fit each other? States, events, the queue, tenants, keys. It only reads.

`service.local.doctor` adds what only the files can tell, and says what becomes of a finding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final

from sqlalchemy import column, func, inspect, select, table, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from service.db import artifacts
from service.db.documents import items, part
from service.db.models import (
    AgentSession,
    ApiKey,
    Artifact,
    Base,
    Device,
    Job,
    JobEvent,
    MeasurementTask,
    Model,
    StepResult,
    Supernet,
    Table,
    TableRow,
    Worker,
    now,
)
from service.db.states import ACTIVE, DELIVERING, ENDED, TRANSITIONS, JobState

UNDER_WAY: Final = ("ENQUEUED", "PENDING", "DELAYED")  # the job engine's own words
_STATES: Final = frozenset(JobState)
_PAGE: Final = 5000


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"  # must never be there
    ORPHAN = "orphan"  # a crash may leave it, a sweep removes it
    WARNING = "warning"  # heals by itself


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. `code` names the check, `subject` the row or file."""

    severity: Severity
    code: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.severity} {self.code} {self.subject}: {self.detail}"


def damage(session: Session) -> Iterator[Finding]:
    """Why the rows prove nothing: tables that are missing, or a file that is damaged."""
    missing = sorted(set(Base.metadata.tables) - set(inspect(session.get_bind()).get_table_names()))
    if missing:
        yield Finding(
            Severity.ERROR,
            "schema",
            "database",
            f"tables are missing: {', '.join(missing)}; start the service once",
        )
        return
    yield from _database(session)


def contradictions(session: Session, silent_s: float) -> Iterator[Finding]:
    """Rows that do not fit each other. silent_s: of a worker, after which its running jobs are looked at."""
    yield from _jobs(session)
    yield from _events(session)
    yield from _queue(session, silent_s)
    yield from _tables(session)
    yield from _results(session)
    yield from _tenants(session)
    yield from _secrets(session)


def step_files(session: Session) -> Iterator[tuple[str, str]]:
    """(a remembered step, SHA-256 of a file that it made), for every one."""
    for digest, step, result in session.execute(
        select(StepResult.digest, StepResult.step, StepResult.result)
    ):
        for sha256 in artifacts.named_files(result):
            yield f"{step} {digest[:12]}", sha256


def unreadable(error: DatabaseError) -> Finding:
    return Finding(
        Severity.ERROR, "integrity", "database", f"cannot be read ({error.orig}); restore a backup"
    )


def _database(session: Session) -> Iterator[Finding]:
    """SQLite's own checks; PostgreSQL enforces foreign keys and checks its pages by itself."""
    if session.get_bind().dialect.name != "sqlite":
        return
    try:
        for (line,) in session.execute(text("PRAGMA integrity_check")):
            if line != "ok":
                yield Finding(Severity.ERROR, "integrity", "database", f"{line}; restore a backup")
        for name, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
            yield Finding(
                Severity.ERROR, "foreign_key", f"{name}[{row}]", f"names a row of {parent} that is not there"
            )
    except DatabaseError as error:
        yield unreadable(error)


def _jobs(session: Session) -> Iterator[Finding]:
    rows = select(
        Job.id, Job.state, Job.attempts, Job.started_at, Job.ended_at, Job.error, Job.result, Job.worker_id
    )
    for job_id, state, attempts, started, ended, error, result, worker in session.execute(
        rows.execution_options(yield_per=_PAGE)
    ):
        wrong = []
        if state not in _STATES:
            yield Finding(Severity.ERROR, "job_state", job_id, "is in a state that does not exist")
            continue
        if (state in ENDED) != (ended is not None):
            wrong.append("ended_at does not fit its state")
        if state == JobState.RUNNING and (started is None or worker is None or attempts < 1):
            wrong.append("runs without a start, a worker or an attempt")
        if state == JobState.SUCCEEDED and result is None:
            wrong.append("succeeded without a result")
        if state in (JobState.FAILED, JobState.QUARANTINED) and error is None:
            wrong.append("ended badly without saying why")
        if attempts < 0:
            wrong.append("has a negative number of attempts")
        for what in wrong:
            yield Finding(Severity.ERROR, "job_row", job_id, what)


def _events(session: Session) -> Iterator[Finding]:
    """Sequence numbers 1, 2, 3, …; legal moves only; ended once; the last state event is the job's state."""
    counts = select(
        JobEvent.job_id, func.count(), func.min(JobEvent.sequence), func.max(JobEvent.sequence)
    ).group_by(JobEvent.job_id)
    for job_id, count, first, last in session.execute(counts):
        if first != 1 or last != count:
            yield Finding(
                Severity.ERROR, "event_gap", job_id, f"{count} events are numbered {first} to {last}"
            )
    moves: dict[str, list[str]] = {}
    rows = (
        select(JobEvent.job_id, JobEvent.kind)
        .where(JobEvent.kind.in_(_STATES))
        .order_by(JobEvent.job_id, JobEvent.sequence)
    )
    for job_id, kind in session.execute(rows.execution_options(yield_per=_PAGE)):
        moves.setdefault(job_id, []).append(kind)
    for job_id, state in session.execute(select(Job.id, Job.state)):
        path = moves.get(job_id, [])
        if not path or path[0] != JobState.QUEUED:
            yield Finding(Severity.ERROR, "event_start", job_id, "its first event is not `queued`")
        elif path[-1] != state:
            yield Finding(
                Severity.ERROR, "event_state", job_id, f"is {state}, its last event says {path[-1]}"
            )
        for before, after in pairwise(path):
            if JobState(after) not in TRANSITIONS[JobState(before)]:
                yield Finding(
                    Severity.ERROR, "event_move", job_id, f"went from {before} to {after}, which no job may"
                )


def _queue(session: Session, silent_s: float) -> Iterator[Finding]:
    """Every job that has not ended is known to the job engine; one that runs has a worker that lives."""
    # The job engine's own table, which it keeps apart on PostgreSQL.
    schema = "dbos" if session.get_bind().dialect.name == "postgresql" else None
    workflows = table("workflow_status", column("workflow_uuid"), column("status"), schema=schema)
    active = session.execute(
        select(Job.id, Job.workflow_id, Job.state, Job.worker_id).where(Job.state.in_(ACTIVE))
    ).all()
    statuses = dict(session.execute(select(workflows.c.workflow_uuid, workflows.c.status)).all())
    limit = now() - timedelta(seconds=silent_s)
    silent = set(session.scalars(select(Worker.id).where(Worker.dead_at.is_(None), Worker.seen_at < limit)))
    for job_id, workflow, state, worker in active:
        status = statuses.get(workflow or "")
        # Asked again: it may have ended between the two queries.
        if status not in UNDER_WAY and session.scalar(select(Job.state).where(Job.id == job_id)) in ACTIVE:
            yield Finding(
                Severity.ERROR, "job_lost", job_id, f"is {state}, but the queue has its workflow as {status}"
            )
        if state == JobState.RUNNING and worker in silent:
            yield Finding(
                Severity.WARNING,
                "worker_silent",
                job_id,
                "its worker has been silent for long and no other worker runs",
            )


def _tables(session: Session) -> Iterator[Finding]:
    counts = (
        select(Table.id, Table.rows, func.count(TableRow.operator))
        .outerjoin(TableRow)
        .group_by(Table.id, Table.rows)
    )
    for table_id, said, there in session.execute(counts):
        if said != there:
            yield Finding(
                Severity.ERROR, "table_rows", table_id, f"has {there} rows, it was registered with {said}"
            )


def _results(session: Session) -> Iterator[Finding]:
    files = set(session.scalars(select(Artifact.sha256)))
    for supernet, ready, sha256 in session.execute(
        select(Supernet.id, Supernet.ready_at, Supernet.weights_sha256)
    ):
        if ready is not None and sha256 not in files:
            yield Finding(
                Severity.ERROR, "supernet_weights", supernet, "is ready, and its weights are not registered"
            )
    states = dict(session.execute(select(Job.id, Job.state)).all())
    for model, job_id, sha256, card in session.execute(
        select(Model.id, Model.job_id, Model.onnx_sha256, Model.card)
    ):
        if states.get(job_id) != JobState.SUCCEEDED:
            yield Finding(
                Severity.ERROR, "model_job", model, f"was published by a job that is {states.get(job_id)}"
            )
        if part(card, "file").get("sha256", sha256) != sha256:
            yield Finding(Severity.ERROR, "model_card", model, "its card names another file")
    for job_id, result in session.execute(
        select(Job.id, Job.result).where(Job.state == JobState.SUCCEEDED, Job.kind.in_(DELIVERING))
    ):
        for wanted in items(result, "models"):
            if session.get(Model, wanted["id"]) is None:
                yield Finding(
                    Severity.ERROR,
                    "job_model",
                    job_id,
                    f"its result names model {wanted['id']}, which is not there",
                )


def _tenants(session: Session) -> Iterator[Finding]:
    """What belongs together belongs to one tenant."""
    pairs: tuple[tuple[type[Base], str, type[Base]], ...] = (
        (Table, "device_id", Device),
        (Model, "device_id", Device),
        (Model, "job_id", Job),
        (Model, "supernet_id", Supernet),
        (MeasurementTask, "job_id", Job),
        (AgentSession, "device_id", Device),
    )
    for child, reference, parent in pairs:
        mine, theirs = child.__table__, parent.__table__
        crossed = (
            select(mine.c.id)
            .join(theirs, mine.c[reference] == theirs.c.id)
            .where(mine.c.tenant_id != theirs.c.tenant_id)
        )
        for (row,) in session.execute(crossed):
            yield Finding(
                Severity.ERROR,
                "tenant",
                f"{child.__tablename__}[{row}]",
                f"belongs to another tenant than its {reference}",
            )


def _secrets(session: Session) -> Iterator[Finding]:
    for key, digest in session.execute(select(ApiKey.id, ApiKey.digest)):
        if len(digest) != hashlib.sha256().digest_size:
            yield Finding(Severity.ERROR, "key_digest", key, "is not stored as a SHA-256")
