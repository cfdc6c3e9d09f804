"""What all tables share: times in UTC, ids, columns of JSON and of a measurement."""

from __future__ import annotations

import secrets
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import JSON, DateTime, Dialect, Float, Integer
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
