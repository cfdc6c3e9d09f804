"""What devices take: their tables, row by row, and the whole networks that were timed on them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.db.documents import ContextDocument, Document, Reason
from service.db.models.columns import Base, Measured, now


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
