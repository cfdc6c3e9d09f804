"""Who measures, and what: tokens and sessions of agents, tasks and their answers."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.db.documents import Document, TaskResult
from service.db.models.columns import Base, now


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
    failure: Mapped[str | None] = mapped_column(Text)  # why its device cannot run it
    created_at: Mapped[datetime] = mapped_column(default=now)
    answered_at: Mapped[datetime | None] = mapped_column()
