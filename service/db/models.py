"""The tables: SQL is the truth about devices, tables, supernets, jobs, models, files and keys.

Every row that belongs to somebody has a tenant, and every query filters by it. Times are UTC. Ids are opaque
texts with a prefix that says what they name.
"""

from __future__ import annotations

import secrets
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from latency_tables.measurement import Measurement
from service.db.documents import ContextDocument, Document, Progress, Reason, TaskResult


class UtcDateTime(TypeDecorator[datetime]):
    """A time with zone UTC on every database (SQLite drops the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return (
            None
            if value is None
            else (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC))
        )


def now() -> datetime:
    return datetime.now(UTC)


def new_id(prefix: str) -> str:
    """An opaque id such as `job_5f…`: 128 random bits behind a prefix."""
    return f"{prefix}_{secrets.token_hex(16)}"


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {
        Document: JSON,
        dict[str, Any]: JSON,
        ContextDocument: JSON,
        Progress: JSON,
        TaskResult: JSON,
        list[str]: JSON,
        list[int]: JSON,
        list[Reason]: JSON,
        list[Document]: JSON,
        datetime: UtcDateTime,
    }


class Tenant(Base):
    __tablename__ = "tenants"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)


class ApiKey(Base):
    """A key is shown once; the database holds its SHA-256 only (keys are 256 random bits)."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    scopes: Mapped[list[str]] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None] = mapped_column()
    revoked_at: Mapped[datetime | None] = mapped_column()
    last_used_at: Mapped[datetime | None] = mapped_column()


class Device(Base):
    """A device and the one context its latencies are valid in. `environment` is what its agent saw."""

    __tablename__ = "devices"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(Text, default="")
    context: Mapped[ContextDocument] = mapped_column()
    environment: Mapped[Document | None] = mapped_column()
    revision: Mapped[int] = mapped_column(Integer, default=1)  # for ETag and If-Match
    created_at: Mapped[datetime] = mapped_column(default=now)


class Table(Base):
    """One immutable version of a device's latency table. Its rows are `TableRow`.

    Of a device's ready versions the one with the highest `precedence` is in use: the one imported, chosen or
    accepted last.
    """

    __tablename__ = "latency_tables"
    __table_args__ = (
        UniqueConstraint("device_id", "version"),
        Index("uq_latency_tables_precedence", "device_id", "precedence", unique=True),
    )
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    version: Mapped[int] = mapped_column(Integer)
    digest: Mapped[str] = mapped_column(String(64))
    rows: Mapped[int] = mapped_column(Integer)
    source: Mapped[str] = mapped_column(String(16))  # TableSource
    state: Mapped[str] = mapped_column(String(16), default="ready")  # TableState
    reasons: Mapped[list[Reason]] = mapped_column(default=list)  # why it needs review, or warnings
    provenance: Mapped[Document] = mapped_column(default=dict)  # session, environment, sentinel, fit
    precedence: Mapped[int] = mapped_column(Integer, server_default="0")
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str | None] = mapped_column(
        String(64)
    )  # name of the key; null where an agent measured it
    used_at: Mapped[datetime | None] = mapped_column()  # when it was put in use last, and by whose key
    used_by: Mapped[str | None] = mapped_column(String(64))
    accepted_at: Mapped[datetime | None] = mapped_column()  # that somebody has looked at it and found it true
    accepted_by: Mapped[str | None] = mapped_column(String(64))
    accepted_note: Mapped[str | None] = mapped_column(Text)


class Measured:
    """Columns of a measurement, by the names of `latency_tables.measurement.Measurement`."""

    median_ms: Mapped[float] = mapped_column(Float(53))
    lower_quartile_ms: Mapped[float | None] = mapped_column(Float(53))
    mad_ms: Mapped[float | None] = mapped_column(Float(53))
    count: Mapped[int | None] = mapped_column(Integer)
    undisturbed_ms: Mapped[float | None] = mapped_column(Float(53))
    p90_ms: Mapped[float | None] = mapped_column(Float(53))
    p95_ms: Mapped[float | None] = mapped_column(Float(53))
    uncertainty: Mapped[float | None] = mapped_column(Float(53))
    energy_mj: Mapped[float | None] = mapped_column(Float(53))

    @property
    def measurement(self) -> Measurement:
        return Measurement(**{f.name: getattr(self, f.name) for f in fields(Measurement)})

    @property
    def latency_ms(self) -> float:
        """The latency that prices use; see `Measurement.latency_ms`."""
        return self.measurement.latency_ms


class TableRow(Measured, Base):
    __tablename__ = "latency_rows"
    table_id: Mapped[str] = mapped_column(
        ForeignKey("latency_tables.id", ondelete="CASCADE"), primary_key=True
    )
    operator: Mapped[str] = mapped_column(String(200), primary_key=True)


class NetworkMeasurement(Measured, Base):
    """A whole network timed on a device: what calibration, bounds and verification rest on."""

    __tablename__ = "network_measurements"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    space: Mapped[str] = mapped_column(String(64))
    classes: Mapped[int] = mapped_column(Integer)
    architecture: Mapped[Document] = mapped_column()
    architecture_digest: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(String(16))  # NetworkSource
    session: Mapped[str | None] = mapped_column(String(96))  # the job that measured it, or the post
    created_at: Mapped[datetime] = mapped_column(default=now)


class Supernet(Base):
    """A trained supernet; `digest` is the hash of all that went into it, so it is trained once for all
    jobs."""

    __tablename__ = "supernets"
    __table_args__ = (UniqueConstraint("tenant_id", "digest"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    digest: Mapped[str] = mapped_column(String(64))
    space: Mapped[str] = mapped_column(String(64))
    dataset: Mapped[str] = mapped_column(String(64))
    dataset_fingerprint: Mapped[str | None] = mapped_column(String(64))  # null: older than fingerprints
    recipe: Mapped[str] = mapped_column(String(64))
    seed: Mapped[int] = mapped_column(BigInteger)
    classes: Mapped[int] = mapped_column(Integer)
    parent_id: Mapped[str | None] = mapped_column(String(40))  # the supernet whose weights it began with
    options: Mapped[Document | None] = mapped_column()  # what else was asked of the training, see SupernetIn
    weights_sha256: Mapped[str | None] = mapped_column(String(64))  # artifact; null while it trains
    predictor: Mapped[Document | None] = mapped_column()  # QualityPredictor.to_json
    summary: Mapped[Document | None] = mapped_column()  # qualities of the largest and smallest, history
    created_at: Mapped[datetime] = mapped_column(default=now)
    ready_at: Mapped[datetime | None] = mapped_column()


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


class LoginLink(Base):
    """A one-time token that opens a browser session in the name of a key; only its SHA-256 is kept."""

    __tablename__ = "login_links"
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), index=True)
    expires_at: Mapped[datetime] = mapped_column()
    used_at: Mapped[datetime | None] = mapped_column()


class BrowserSession(Base):
    """A browser that acts for a key: the cookie and the proof are worthless without each other; SHA-256 of
    both is kept."""

    __tablename__ = "browser_sessions"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), index=True)
    cookie_digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    proof_digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column()
    ended_at: Mapped[datetime | None] = mapped_column()


class StepResult(Base):
    """The result of a step, keyed by the hash of its inputs: no job repeats what any job has done."""

    __tablename__ = "step_results"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    step: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any]] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)


class Model(Base):
    """A delivered network. The file is an artifact; the card is everything a person needs to trust it."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    device_id: Mapped[str | None] = mapped_column(
        ForeignKey("devices.id"), index=True
    )  # null: for limits alone
    supernet_id: Mapped[str] = mapped_column(ForeignKey("supernets.id"), index=True)
    table_id: Mapped[str | None] = mapped_column(ForeignKey("latency_tables.id"), index=True)
    budget_ms: Mapped[float | None] = mapped_column(Float(53))
    onnx_sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"))
    card: Mapped[Document] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)
    name: Mapped[str | None] = mapped_column(String(128))  # what people call it
    note: Mapped[str | None] = mapped_column(Text)


class Artifact(Base):
    """A content-addressed file in the artifact store."""

    __tablename__ = "artifacts"
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(32))  # ArtifactKind
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


class Enrolment(Base):
    """A one-time token for a measuring agent on one device; only its SHA-256 is kept."""

    __tablename__ = "enrolments"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column()
    used_at: Mapped[datetime | None] = mapped_column()


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


class AgentSession(Base):
    """An agent's identity: one device, one session, one key."""

    __tablename__ = "agent_sessions"
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"), index=True)
    key_digest: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    environment: Mapped[Document] = mapped_column()
    fingerprint: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column()
    seen_at: Mapped[datetime | None] = mapped_column()
    closed_at: Mapped[datetime | None] = mapped_column()
    closed_reason: Mapped[str | None] = mapped_column(String(64))


class AgentPost(Base):
    """An answered post of an agent: posts are idempotent on (session, sequence)."""

    __tablename__ = "agent_posts"
    session_id: Mapped[str] = mapped_column(
        ForeignKey("agent_sessions.id", ondelete="CASCADE"), primary_key=True
    )
    sequence: Mapped[int] = mapped_column(Integer, primary_key=True)
    body_digest: Mapped[str] = mapped_column(String(64))
    answer: Mapped[Document] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)


class MeasurementTask(Base):
    """One thing to time on a device: an operator, a whole network for calibration, or a delivered network."""

    __tablename__ = "measurement_tasks"
    __table_args__ = (Index("ix_measurement_tasks_open", "device_id", "state", "position"),)
    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ForeignKey("tenants.id"))
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    position: Mapped[int] = mapped_column(Integer)
    kind: Mapped[str] = mapped_column(String(16))  # TaskKind
    operator: Mapped[str | None] = mapped_column(String(200))
    space: Mapped[str | None] = mapped_column(String(64))
    architecture: Mapped[Document | None] = mapped_column()
    input_shape: Mapped[list[int]] = mapped_column()  # of the first input, with the batch
    inputs: Mapped[list[Document] | None] = mapped_column()  # InputSpec; None: one float32 of that shape
    sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    nonce: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), default="open")  # TaskState
    session_id: Mapped[str | None] = mapped_column(ForeignKey("agent_sessions.id"))
    result: Mapped[TaskResult | None] = mapped_column()
    created_at: Mapped[datetime] = mapped_column(default=now)
    answered_at: Mapped[datetime | None] = mapped_column()
