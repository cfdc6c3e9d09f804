"""Queries about latency tables and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from latency_tables.errors import NoTable
from latency_tables.measurement import Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from latency_tables.trust import Finding, needs_review
from service.db.models import Device, Job, Model, Table, TableRow, new_id
from service.jobs import ACTIVE

READY: Final = "ready"
NEEDS_REVIEW: Final = "needs_review"
_BATCH: Final = 10_000
_MOST_REASONS: Final = 50


def context_of(device: Device) -> Context:
    return Context(**device.context)


def newest(session: Session, device_id: str) -> str | None:
    """Id of the device's newest table that may be used."""
    query = select(Table.id).where(Table.device_id == device_id, Table.state == READY)
    return session.scalar(query.order_by(Table.version.desc()).limit(1))


def load(session: Session, table_id: str) -> LatencyTable:
    """The immutable table of that id. Raises NoTable."""
    context = session.scalar(select(Device.context).join(Table, Table.device_id == Device.id).where(Table.id == table_id))
    if context is None:
        raise NoTable("this latency table is gone; list what there is with GET /v1/devices/{name}/tables")
    return LatencyTable(Context(**context), rows_of(session, table_id))


def publish(
    session: Session,
    device: Device,
    table: LatencyTable,
    *,
    source: str,
    findings: Sequence[Finding] = (),
    provenance: dict[str, Any] | None = None,
) -> str:
    """A new version of the device's table; its id. With findings of severity `review` nobody uses it silently."""
    state = NEEDS_REVIEW if needs_review(findings) else READY
    reasons = [f.as_dict() for f in sorted(findings, key=lambda f: f.severity != "review")[:_MOST_REASONS]]
    return add(session, device, table, source=source, state=state, reasons=reasons, provenance=provenance).id


def versions(session: Session, device_id: str, limit: int = 50) -> Sequence[Table]:
    """Versions of a device's table, the newest first."""
    return session.scalars(select(Table).where(Table.device_id == device_id).order_by(Table.version.desc()).limit(limit)).all()


def of_devices(session: Session, device_ids: Sequence[str]) -> dict[str, list[Table]]:
    """Device id -> its tables, the newest first."""
    found: dict[str, list[Table]] = {device_id: [] for device_id in device_ids}
    for row in session.scalars(select(Table).where(Table.device_id.in_(device_ids)).order_by(Table.version.desc())):
        found[row.device_id].append(row)
    return found


def of_device(session: Session, device_id: str, table_id: str) -> Table | None:
    return session.scalar(select(Table).where(Table.device_id == device_id, Table.id == table_id))


def with_digest(session: Session, device_id: str, digest: str) -> Table | None:
    query = select(Table).where(Table.device_id == device_id, Table.digest == digest)
    return session.scalar(query.order_by(Table.version.desc()).limit(1))


def rows_of(session: Session, table_id: str) -> dict[Operator, Measurement]:
    columns = [getattr(TableRow, f.name) for f in fields(Measurement)]
    rows = session.execute(select(TableRow.operator, *columns).where(TableRow.table_id == table_id))
    return {Operator.parse(text): Measurement(*numbers) for text, *numbers in rows}


def add(
    session: Session,
    device: Device,
    table: LatencyTable,
    *,
    source: str,
    state: str = READY,
    reasons: Sequence[dict[str, Any]] = (),
    provenance: dict[str, Any] | None = None,
) -> Table:
    """A new immutable version of the device's table, all of it or nothing."""
    version = 1 + (session.scalar(select(func.max(Table.version)).where(Table.device_id == device.id)) or 0)
    row = Table(
        id=new_id("tab"),
        tenant_id=device.tenant_id,
        device_id=device.id,
        version=version,
        digest=table.digest,
        rows=len(table.rows),
        source=source,
        state=state,
        reasons=list(reasons),
        provenance=provenance or {},
    )
    session.add(row)
    session.flush()
    values = [{"table_id": row.id, "operator": operator.text, **m.to_json()} for operator, m in table.rows.items()]
    for start in range(0, len(values), _BATCH):
        session.execute(insert(TableRow), values[start : start + _BATCH])
    return row


def use(session: Session, table_id: str) -> str | None:
    """Why a table cannot be deleted, or None: a delivered model or a running job rests on it."""
    if session.scalar(select(Model.id).where(Model.table_id == table_id).limit(1)) is not None:
        return "a delivered model rests on it"
    for request in session.scalars(select(Job.request).where(Job.state.in_(ACTIVE), Job.kind == "search")):
        if any(target.get("table_id") == table_id for target in request.get("targets", [])):
            return "a job that has not ended uses it"
    return None


def remove(session: Session, table_id: str) -> None:
    session.execute(delete(TableRow).where(TableRow.table_id == table_id))
    session.execute(delete(Table).where(Table.id == table_id))
