"""Queries about what happened in a tenant, newest last: what `GET /v1/events` tells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, func, insert, literal, or_, select
from sqlalchemy.orm import Session

from service.db.documents import Fields
from service.db.models import Happening, Job, now
from service.db.states import HappeningKind

KEPT: Final = timedelta(hours=24)
_DATA = Happening.data.type


def tell(
    session: Session, tenant_id: str, kind: HappeningKind, subject: str, data: Fields | None = None
) -> None:
    """Write that something happened, in the caller's transaction."""
    session.add(Happening(tenant_id=tenant_id, kind=kind, subject=subject[:64], data=dict(data or {})))


def tell_of_job(session: Session, job_id: str, event: str, data: Fields) -> None:
    """The same for an event of a job, without asking whose it is: one statement."""
    # Progress apart: a listener of jobs need not hear every percent.
    kind = HappeningKind.PROGRESS if event == "progress" else HappeningKind.JOB
    given = [
        literal(now(), Happening.at.type),
        literal(kind),
        literal(job_id),
        literal({"event": event, **data}, _DATA),
    ]
    columns = [Happening.tenant_id, Happening.at, Happening.kind, Happening.subject, Happening.data]
    rows = select(Job.tenant_id, *given).where(Job.id == job_id)
    session.connection().execute(insert(Happening).from_select(columns, rows))


def newest(session: Session) -> int:
    return session.scalar(select(func.max(Happening.position))) or 0


def oldest(session: Session) -> int:
    return session.scalar(select(func.min(Happening.position))) or 0


def absent(session: Session, low: int, high: int) -> set[int]:
    """Positions between the two, both included, that no committed row has."""
    found = session.scalars(select(Happening.position).where(Happening.position.between(low, high)))
    return set(range(low, high + 1)) - set(found)


def after(
    session: Session, position: int, late: Collection[int] = (), limit: int = 1000
) -> Sequence[Happening]:
    """Rows behind a position, and those of `late` that have come since, of all tenants."""
    query = select(Happening).where(or_(Happening.position > position, Happening.position.in_(late)))
    return session.scalars(query.order_by(Happening.position).limit(limit)).all()


def of_tenant(session: Session, tenant_id: str, position: int, limit: int) -> Sequence[Happening]:
    """A tenant's rows behind a position, in order."""
    query = select(Happening).where(Happening.tenant_id == tenant_id, Happening.position > position)
    return session.scalars(query.order_by(Happening.position).limit(limit)).all()


def forget(session: Session, kept: timedelta = KEPT) -> int:
    """Delete what happened longer ago; how many rows. The newest stays, so that it is known where positions
    have got to."""
    # Never the newest: without it `newest` would be 0, and the next row look like a thousand missed ones.
    old = delete(Happening).where(Happening.at < now() - kept, Happening.position < newest(session))
    return session.connection().execute(old).rowcount
