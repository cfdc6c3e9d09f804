"""Is everything as it should be? Rows against files, hashes, states, events, foreign keys, the queue.

`doctor` only reads. A finding of kind `error` must never be there; `orphan` is what a crash may leave (a
temporary or unreferenced file) and a sweep removes; `warning` is what heals by itself, e.g. a remembered step
whose file is gone.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Final

from sqlalchemy import column, func, inspect, select, table, text
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.orm import Session

from service.artifacts import TEMPORARY, ArtifactStore
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
from service.db.session import create_db_engine, session_factory
from service.db.states import JobKind
from service.errors import ArtifactCorrupt, ArtifactMissing
from service.jobs.transitions import ACTIVE, ENDED, TRANSITIONS, JobState
from service.settings import Settings

ERROR: Final = "error"
ORPHAN: Final = "orphan"
WARNING: Final = "warning"
UNDER_WAY: Final = ("ENQUEUED", "PENDING", "DELAYED")
_STATES: Final = frozenset(JobState)
_PAGE: Final = 5000


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. `code` names the check, `subject` the row or file."""

    severity: str  # error | orphan | warning
    code: str
    subject: str
    detail: str

    def __str__(self) -> str:
        return f"{self.severity} {self.code} {self.subject}: {self.detail}"


def doctor(settings: Settings, *, deep: bool = True) -> list[Finding]:
    """All findings. deep: also read every file and compare its SHA-256."""
    store = ArtifactStore(settings.data_dir / "artifacts")
    engine = create_db_engine(settings.resolved_database_url)
    try:
        with session_factory(engine)() as session:
            return list(_examine(session, store, settings, deep))
    except DatabaseError as error:
        if engine.dialect.name != "sqlite" or isinstance(error, OperationalError):
            raise
        return [_unreadable(error)]
    finally:
        engine.dispose()


def sweep(settings: Settings, *, older_than_s: float) -> list[str]:
    """Remove temporary and unreferenced files older than that; their names. Safe beside a running service.

    What an unfinished upload or step wrote is younger than `older_than_s`: choose it longer than the longest
    step.
    """
    store = ArtifactStore(settings.data_dir / "artifacts")
    engine = create_db_engine(settings.resolved_database_url)
    try:
        with session_factory(engine)() as session:
            wanted = referenced(session)
        return [path.name for path in store.sweep(wanted, older_than_s)]
    finally:
        engine.dispose()


def referenced(session: Session) -> set[str]:
    """SHA-256 of every file that some row names."""
    wanted = set(session.scalars(select(Artifact.sha256)))
    wanted |= set(session.scalars(select(Model.onnx_sha256)))
    wanted |= {sha256 for sha256 in session.scalars(select(Supernet.weights_sha256)) if sha256}
    wanted |= set(session.scalars(select(MeasurementTask.sha256)))
    for result in session.scalars(select(StepResult.result)):
        wanted |= set(named_files(result))
    return wanted


def named_files(result: object) -> list[str]:
    """Every value of a key that ends in `sha256`, at any depth of a JSON value."""
    if isinstance(result, dict):
        own = [v for k, v in result.items() if str(k).endswith("sha256") and isinstance(v, str)]
        return own + [f for v in result.values() for f in named_files(v)]
    return [f for v in result for f in named_files(v)] if isinstance(result, list) else []


def _examine(session: Session, store: ArtifactStore, settings: Settings, deep: bool) -> Iterator[Finding]:
    missing = sorted(set(Base.metadata.tables) - set(inspect(session.get_bind()).get_table_names()))
    if missing:
        yield Finding(
            ERROR, "schema", "database", f"tables are missing: {', '.join(missing)}; start the service once"
        )
        return
    damage = list(_database(session))
    yield from damage
    if any(found.code == "integrity" for found in damage):
        return  # the rows of a damaged database prove nothing
    yield from _files(session, store, deep)
    yield from _jobs(session)
    yield from _events(session)
    yield from _queue(session, settings)
    yield from _tables(session)
    yield from _results(session, store)
    yield from _tenants(session)
    yield from _secrets(session)


def _database(session: Session) -> Iterator[Finding]:
    """SQLite's own checks; PostgreSQL enforces foreign keys and checks its pages by itself."""
    if session.get_bind().dialect.name != "sqlite":
        return
    try:
        for (line,) in session.execute(text("PRAGMA integrity_check")):
            if line != "ok":
                yield Finding(ERROR, "integrity", "database", f"{line}; restore a backup")
        for name, row, parent, _ in session.execute(text("PRAGMA foreign_key_check")):
            yield Finding(
                ERROR, "foreign_key", f"{name}[{row}]", f"names a row of {parent} that is not there"
            )
    except DatabaseError as error:
        yield _unreadable(error)


def _unreadable(error: DatabaseError) -> Finding:
    return Finding(ERROR, "integrity", "database", f"cannot be read ({error.orig}); restore a backup")


def _files(session: Session, store: ArtifactStore, deep: bool) -> Iterator[Finding]:
    rows = dict(session.execute(select(Artifact.sha256, Artifact.size_bytes)).all())
    for sha256, size_bytes in rows.items():
        try:
            size = store.verify(sha256) if deep else store.path(sha256).stat().st_size
        except (ArtifactMissing, FileNotFoundError):
            yield Finding(
                ERROR,
                "file_missing",
                sha256[:12],
                "the row is there, the file is not; restore it from a backup",
            )
        except ArtifactCorrupt:
            yield Finding(
                ERROR,
                "file_corrupt",
                sha256[:12],
                "its bytes are not those of its SHA-256; restore it from a backup",
            )
        else:
            if size != size_bytes:
                yield Finding(ERROR, "file_size", sha256[:12], f"has {size} bytes, its row says {size_bytes}")
    wanted = referenced(session)
    for sha256 in store.stored():
        if sha256 not in wanted:
            yield Finding(ORPHAN, "file_unreferenced", sha256[:12], "no row names it; a sweep removes it")
        elif deep and sha256 not in rows and not _whole(store, sha256):
            yield Finding(ERROR, "file_corrupt", sha256[:12], "its bytes are not those of its SHA-256")
    for path in store.root.glob(f"{TEMPORARY}*"):
        if time.time() - path.stat().st_mtime > 1:
            yield Finding(ORPHAN, "file_temporary", path.name, "an unfinished write; a sweep removes it")


def _whole(store: ArtifactStore, sha256: str) -> bool:
    with store.path(sha256).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _jobs(session: Session) -> Iterator[Finding]:
    rows = select(
        Job.id, Job.state, Job.attempts, Job.started_at, Job.ended_at, Job.error, Job.result, Job.worker_id
    )
    for job_id, state, attempts, started, ended, error, result, worker in session.execute(
        rows.execution_options(yield_per=_PAGE)
    ):
        wrong = []
        if state not in _STATES:
            yield Finding(ERROR, "job_state", job_id, "is in a state that does not exist")
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
            yield Finding(ERROR, "job_row", job_id, what)


def _events(session: Session) -> Iterator[Finding]:
    """Sequence numbers 1, 2, 3, …; legal moves only; ended once; the last state event is the job's state."""
    counts = select(
        JobEvent.job_id, func.count(), func.min(JobEvent.sequence), func.max(JobEvent.sequence)
    ).group_by(JobEvent.job_id)
    for job_id, count, first, last in session.execute(counts):
        if first != 1 or last != count:
            yield Finding(ERROR, "event_gap", job_id, f"{count} events are numbered {first} to {last}")
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
            yield Finding(ERROR, "event_start", job_id, "its first event is not `queued`")
        elif path[-1] != state:
            yield Finding(ERROR, "event_state", job_id, f"is {state}, its last event says {path[-1]}")
        for before, after in pairwise(path):
            if JobState(after) not in TRANSITIONS[JobState(before)]:
                yield Finding(ERROR, "event_move", job_id, f"went from {before} to {after}, which no job may")


def _queue(session: Session, settings: Settings) -> Iterator[Finding]:
    """Every job that has not ended is known to the job engine; one that runs has a worker that lives."""
    schema = "dbos" if session.get_bind().dialect.name == "postgresql" else None
    workflows = table("workflow_status", column("workflow_uuid"), column("status"), schema=schema)
    active = session.execute(
        select(Job.id, Job.workflow_id, Job.state, Job.worker_id).where(Job.state.in_(ACTIVE))
    ).all()
    statuses = dict(session.execute(select(workflows.c.workflow_uuid, workflows.c.status)).all())
    limit = now() - timedelta(seconds=3 * settings.dead_after_s)
    silent = set(session.scalars(select(Worker.id).where(Worker.dead_at.is_(None), Worker.seen_at < limit)))
    for job_id, workflow, state, worker in active:
        status = statuses.get(workflow or "")
        if status not in UNDER_WAY and session.scalar(select(Job.state).where(Job.id == job_id)) in ACTIVE:
            yield Finding(
                ERROR, "job_lost", job_id, f"is {state}, but the queue has its workflow as {status}"
            )
        if state == JobState.RUNNING and worker in silent:
            yield Finding(
                WARNING,
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
            yield Finding(ERROR, "table_rows", table_id, f"has {there} rows, it was registered with {said}")


def _results(session: Session, store: ArtifactStore) -> Iterator[Finding]:
    files = set(session.scalars(select(Artifact.sha256)))
    for supernet, ready, sha256 in session.execute(
        select(Supernet.id, Supernet.ready_at, Supernet.weights_sha256)
    ):
        if ready is not None and sha256 not in files:
            yield Finding(ERROR, "supernet_weights", supernet, "is ready, and its weights are not registered")
    for digest, step, result in session.execute(
        select(StepResult.digest, StepResult.step, StepResult.result)
    ):
        for sha256 in named_files(result):
            if not store.path(sha256).is_file():
                yield Finding(
                    WARNING,
                    "step_file",
                    f"{step} {digest[:12]}",
                    "a file of it is gone; the step is done anew when needed",
                )
    states = dict(session.execute(select(Job.id, Job.state)).all())
    for model, job_id, sha256, card in session.execute(
        select(Model.id, Model.job_id, Model.onnx_sha256, Model.card)
    ):
        if states.get(job_id) != JobState.SUCCEEDED:
            yield Finding(ERROR, "model_job", model, f"was published by a job that is {states.get(job_id)}")
        if (card.get("file") or {}).get("sha256", sha256) != sha256:
            yield Finding(ERROR, "model_card", model, "its card names another file")
    for job_id, result in session.execute(
        select(Job.id, Job.result).where(Job.state == JobState.SUCCEEDED, Job.kind == JobKind.SEARCH)
    ):
        for wanted in (result or {}).get("models", []):
            if session.get(Model, wanted["id"]) is None:
                yield Finding(
                    ERROR, "job_model", job_id, f"its result names model {wanted['id']}, which is not there"
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
                ERROR,
                "tenant",
                f"{child.__tablename__}[{row}]",
                f"belongs to another tenant than its {reference}",
            )


def _secrets(session: Session) -> Iterator[Finding]:
    for key, digest in session.execute(select(ApiKey.id, ApiKey.digest)):
        if len(digest) != hashlib.sha256().digest_size:
            yield Finding(ERROR, "key_digest", key, "is not stored as a SHA-256")
