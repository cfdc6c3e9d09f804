"""What was asked for and what is done about it: jobs, their steps, events and logs, and the workers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.documents import Document, Progress
from service.db.models.columns import Base, now


class Job(Base):
    """A job. Only `service.db.transitions.move` writes `state`; `cancel_asked_at` is a field, not a state."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_tenant_created", "tenant_id", "created_at", "id"),
        Index("ix_jobs_tenant_state", "tenant_id", "state", "created_at", "id"),
    )
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    kind: Mapped[str] = mapped_column(String(16))  # JobKind
    state: Mapped[str] = mapped_column(String(16), default="queued")  # JobState
    request: Mapped[Document] = mapped_column()
    progress: Mapped[Progress | None] = mapped_column()
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    priority: Mapped[int] = mapped_column(Integer, default=10)  # 1 first
    result: Mapped[Document | None] = mapped_column()
    error: Mapped[Document | None] = mapped_column()  # a problem object
    workflow_id: Mapped[str | None] = mapped_column(String(128), index=True)
    worker_id: Mapped[str | None] = mapped_column(String(128))
    cancel_asked_at: Mapped[datetime | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)
    started_at: Mapped[datetime | None] = mapped_column()
    ended_at: Mapped[datetime | None] = mapped_column()
    name: Mapped[str | None] = mapped_column(String(128))  # what people call it
    note: Mapped[str | None] = mapped_column(Text)


class JobEvent(Base):
    """What happened to a job, in order; written in the transaction that changes the job."""

    __tablename__ = "job_events"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True)
    at: Mapped[datetime] = mapped_column(default=now)
    kind: Mapped[str] = mapped_column(String(32))  # a state, or step_started, step_done, progress, ...
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)


class LogLine(Base):
    """A line that a job's worker, or its child, has said; the last of them are kept
    (`service.db.job_log`).
    """

    __tablename__ = "job_log_lines"
    __table_args__ = (Index("ix_job_log_lines_job", "job_id", "position"),)
    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    at: Mapped[datetime] = mapped_column(default=now)
    step: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(16))  # worker, or what the child is called
    text: Mapped[str] = mapped_column(Text)


class StepResult(Base):
    """The result of a step, keyed by the hash of its inputs: no job repeats what any job has done."""

    __tablename__ = "step_results"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any]] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)


class IdempotencyKey(Base):
    """The answer that was given to a request with an `Idempotency-Key`, kept for 24 hours."""

    __tablename__ = "idempotency_keys"
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_digest: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    created_at: Mapped[datetime] = mapped_column(default=now)


class Worker(Base):
    """One life of a worker process; `seen_at` is its heartbeat on the database's clock."""

    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    host: Mapped[str] = mapped_column(String(128))
    pid: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(default=now)
    seen_at: Mapped[datetime] = mapped_column(default=now)
    dead_at: Mapped[datetime | None] = mapped_column()


class Happening(Base):
    """One thing that happened in a tenant, for `GET /v1/events`; written in the transaction that made it
    happen.

    Positions grow but may have gaps, and on PostgreSQL a lower one may be committed after a higher one.
    """

    __tablename__ = "happenings"
    __table_args__ = ({"sqlite_autoincrement": True},)
    position: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    tenant_id: Mapped[str] = mapped_column(String(40))
    at: Mapped[datetime] = mapped_column(default=now, index=True)
    kind: Mapped[str] = mapped_column(String(16))  # HappeningKind
    subject: Mapped[str] = mapped_column(String(64))  # id, or the device's name
    data: Mapped[Document] = mapped_column(default=dict)
