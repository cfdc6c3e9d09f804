"""Queries about latency tables and their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Final

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from latency_tables.measurement import Context, Measurement
from latency_tables.operators import Operator
from latency_tables.prediction.calibration import Calibration
from latency_tables.table import LatencyTable
from latency_tables.trust import Finding, Severity, needs_review
from service.db.devices import pinned_by
from service.db.documents import Document, Fields, Reason, part
from service.db.happenings import tell
from service.db.models import Device, Job, Model, Table, TableRow, new_id, now
from service.db.states import ACTIVE, DELIVERING, HappeningKind, TableSource, TableState
from supernets.errors import NoTable

READY: Final = TableState.READY
NEEDS_REVIEW: Final = TableState.NEEDS_REVIEW
_BATCH: Final = 10_000
_MOST_REASONS: Final = 50


def context_of(device: Device) -> Context:
    return Context(**device.context)


def in_use(session: Session, device_id: str) -> Table | None:
    """The device's table in use: of those that may be used, the one imported, chosen or accepted last."""
    query = select(Table).where(Table.device_id == device_id, Table.state == READY)
    return session.scalar(query.order_by(Table.precedence.desc()).limit(1))


def newest(session: Session, device_id: str) -> str | None:
    """Id of the device's table in use."""
    row = in_use(session, device_id)
    return None if row is None else row.id


def put_in_use(session: Session, table: Table, by: str | None) -> None:
    """Let a version go before all others of its device; `by` is the name of the key that asked for it."""
    last = _last(session, Table.precedence, table.device_id)
    # Only what changes: using the same version again must not move its number.
    if table.precedence != last:
        table.precedence = last + 1
    table.used_at, table.used_by = now(), by
    session.flush()
    _changed(session, table)


def _changed(session: Session, table: Table, **more: bool) -> None:
    """Tell whoever listens that a version is new, deleted, in use, accepted or doubted: it is not the same as
    before."""
    device = session.get_one(Device, table.device_id)
    told = {"table_id": table.id, "version": table.version, "state": table.state, **more}
    tell(session, device.tenant_id, HappeningKind.TABLE, device.name, told)


def facts(table: Table) -> Document:
    """What a model card says of the table it rests on: who brought it, who accepted it, what was found odd.
    Plain values."""
    times = {"created_at": table.created_at, "used_at": table.used_at, "accepted_at": table.accepted_at}
    return {
        "id": table.id,
        "version": table.version,
        "source": table.source,
        "created_by": table.created_by,
        "used_by": table.used_by,
        "accepted_by": table.accepted_by,
        "accepted_note": table.accepted_note,
        **{name: None if at is None else at.isoformat(timespec="seconds") for name, at in times.items()},
        "findings": sorted({str(reason["kind"]) for reason in table.reasons}),
    }


def given_calibration(table: Table) -> Calibration | None:
    """What came with a transferred table; other tables are calibrated by measured networks."""
    given = part(table.provenance, "calibration")
    return Calibration.from_json(given) if given else None


def assumed_spread(table: Table) -> float | None:
    """How far the device's speed varied while its agent measured the rows; None where nobody knows."""
    spread = table.provenance.get("speed_spread")
    return spread if isinstance(spread, float) else None


def accept(session: Session, table: Table, by: str | None, note: str) -> None:
    """Somebody has looked at the table and found it true: it may be used, and is. What was found odd stays on
    it."""
    table.state = READY
    table.accepted_at, table.accepted_by, table.accepted_note = now(), by, note or None
    put_in_use(session, table, by)


def doubt(session: Session, table: Table, findings: Sequence[Finding]) -> None:
    """Add findings to a table that were made after it was stored. One of severity `review` takes it out of
    use."""
    known = [reason for reason in table.reasons if reason["kind"] not in {f.kind for f in findings}]
    table.reasons = [*_reasons(findings), *known][:_MOST_REASONS]
    if needs_review(findings):
        table.state = NEEDS_REVIEW
    session.flush()
    _changed(session, table)


def _last(session: Session, column: InstrumentedAttribute[int], device_id: str) -> int:
    return session.scalar(select(func.max(column)).where(Table.device_id == device_id)) or 0


def _reasons(findings: Sequence[Finding]) -> list[Reason]:
    worst_first = sorted(findings, key=lambda f: f.severity != Severity.REVIEW)[:_MOST_REASONS]
    return [
        Reason(kind=f.kind, severity=f.severity, message=f.message, operator=f.operator) for f in worst_first
    ]


def load(session: Session, table_id: str) -> LatencyTable:
    """The immutable table of that id. Raises NoTable."""
    context = session.scalar(
        select(Device.context).join(Table, Table.device_id == Device.id).where(Table.id == table_id)
    )
    if context is None:
        raise NoTable("this latency table is gone; list what there is with GET /v1/devices/{name}/tables")
    return LatencyTable(Context(**context), rows_of(session, table_id))


def publish(
    session: Session,
    device: Device,
    table: LatencyTable,
    *,
    source: TableSource,
    findings: Sequence[Finding] = (),
    provenance: Fields | None = None,
    by: str | None = None,
) -> Table:
    """A new version of the device's table. With findings of severity `review` nobody uses it silently.

    by: name of the key that brought it; None where an agent measured it.
    """
    state = NEEDS_REVIEW if needs_review(findings) else READY
    reasons = _reasons(findings)
    return add(
        session, device, table, source=source, state=state, reasons=reasons, provenance=provenance, by=by
    )


def versions(session: Session, device_id: str, limit: int = 50) -> Sequence[Table]:
    """Versions of a device's table, the newest first."""
    return session.scalars(
        select(Table).where(Table.device_id == device_id).order_by(Table.version.desc()).limit(limit)
    ).all()


def by_precedence(session: Session, device_id: str, limit: int = 50) -> Sequence[Table]:
    """Versions of a device's table in the order in which they are to be used, doubtful ones among them."""
    query = select(Table).where(Table.device_id == device_id)
    return session.scalars(query.order_by(Table.precedence.desc()).limit(limit)).all()


def of_devices(session: Session, device_ids: Sequence[str]) -> dict[str, list[Table]]:
    """Device id -> its tables, the newest first."""
    found: dict[str, list[Table]] = {device_id: [] for device_id in device_ids}
    for row in session.scalars(
        select(Table).where(Table.device_id.in_(device_ids)).order_by(Table.version.desc())
    ):
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
    source: TableSource,
    state: str = READY,
    reasons: Sequence[Reason] = (),
    provenance: Fields | None = None,
    by: str | None = None,
) -> Table:
    """A new immutable version of the device's table, all of it or nothing; it goes before those that were
    there."""
    at = now()
    row = Table(
        id=new_id("tab"),
        tenant_id=device.tenant_id,
        device_id=device.id,
        version=1 + _last(session, Table.version, device.id),
        precedence=1 + _last(session, Table.precedence, device.id),
        digest=table.digest,
        rows=len(table.rows),
        source=source,
        state=state,
        reasons=list(reasons),
        provenance=dict(provenance or {}),
        created_at=at,
        created_by=by,
        used_at=at,
        used_by=by,
    )
    session.add(row)
    session.flush()
    values = [
        {"table_id": row.id, "operator": operator.text, **m.to_json()} for operator, m in table.rows.items()
    ]
    # In pieces, so that the driver holds no second copy of a million rows.
    for start in range(0, len(values), _BATCH):
        session.execute(insert(TableRow), values[start : start + _BATCH])
    _changed(session, row)
    return row


def why_kept(session: Session, table_id: str) -> str | None:
    """Why a table cannot be deleted, or None: a delivered model or a running job rests on it."""
    if session.scalar(select(Model.id).where(Model.table_id == table_id).limit(1)) is not None:
        return "a delivered model rests on it"
    for request in session.scalars(
        select(Job.request).where(Job.state.in_(ACTIVE), Job.kind.in_(DELIVERING))
    ):
        if any(pinned.table_id == table_id for pinned in pinned_by(request)):
            return "a job that has not ended uses it"
    return None


def remove(session: Session, table: Table) -> None:
    _changed(session, table, deleted=True)
    session.execute(delete(TableRow).where(TableRow.table_id == table.id))
    session.execute(delete(Table).where(Table.id == table.id))
