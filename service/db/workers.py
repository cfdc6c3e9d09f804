"""Queries about worker processes: one row for each life of one, with its heartbeat."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.orm import Session

from service.db.models import Worker, now


def add(session: Session, worker_id: str, host: str, pid: int) -> None:
    session.add(Worker(id=worker_id, host=host, pid=pid))


def beat(session: Session, worker_id: str) -> bool:
    """One heartbeat; False where the worker was declared dead, which nothing takes back."""
    alive = update(Worker).where(Worker.id == worker_id, Worker.dead_at.is_(None))
    return session.connection().execute(alive.values(seen_at=_database_now(session))).rowcount == 1


def bury(session: Session, worker_id: str) -> None:
    """Declare a worker dead; once is enough."""
    alive = update(Worker).where(Worker.id == worker_id, Worker.dead_at.is_(None))
    session.execute(alive.values(dead_at=now()))


def is_dead(session: Session, worker_id: str) -> bool:
    return session.scalar(select(Worker.dead_at).where(Worker.id == worker_id)) is not None


def living(session: Session, besides: str) -> Sequence[Worker]:
    """Every worker but one that was not declared dead."""
    return session.scalars(select(Worker).where(Worker.dead_at.is_(None), Worker.id != besides)).all()


def dead(session: Session) -> Sequence[str]:
    """Ids of those that were declared dead and not forgotten."""
    return session.scalars(select(Worker.id).where(Worker.dead_at.is_not(None))).all()


def forget(session: Session, older_than: timedelta) -> None:
    """Delete the rows of workers that died longer ago."""
    session.execute(delete(Worker).where(Worker.dead_at < now() - older_than))


def heard_of(session: Session, host: str, seen_s: float) -> bool:
    """Whether a living worker of a host was heard of within so many seconds."""
    recent = now() - timedelta(seconds=seen_s)
    mine = select(func.count()).where(Worker.host == host, Worker.dead_at.is_(None), Worker.seen_at > recent)
    return bool(session.scalar(mine))


def _database_now(session: Session) -> ColumnElement[Any] | Any:
    """The database's clock; SQLite's is this machine's."""
    return func.clock_timestamp() if session.connection().dialect.name == "postgresql" else now()
