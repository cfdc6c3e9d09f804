"""Latency tables of a device: register the whole table or nothing, list, read back, choose, accept,
delete."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header
from starlette.requests import Request
from starlette.responses import Response

from latency_tables.errors import ContextMismatch
from latency_tables.formats.catalog import FORMATS, Format
from latency_tables.measurement import Context
from latency_tables.table import LatencyTable
from service.db import tables as table_rows
from service.db.models import Device, Table
from service.db.session import Session
from service.devices.registering import ADD, Incoming, added_to_table_in_use
from service.devices.registering import register as register_table
from service.devices.table_cells import cells_of
from service.devices.view import table_view
from service.http.auth import Identity
from service.http.dependencies import Caller, Service, Services
from service.http.errors import Problem, error, invalid, not_found
from service.http.guard import JSON, NOTHING, TABLE, GuardedRoute, needs
from service.routes.devices import device_of
from service.schemas.devices import AcceptIn, TableCreated, TableList, TableView
from service.schemas.networks import TableCells
from service.schemas.strict import JsonObject, Name, Whole
from supernets.errors import UnknownSpace
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import covered_resolutions

router = APIRouter(route_class=GuardedRoute, tags=["devices"])
Mode = Literal["replace", "add"]
Unit = Literal["ms", "us", "ns", "s"]
OVER_HTTP: Final[dict[str, Format]] = {
    f.media_type: f for f in FORMATS.values() if f.over_http and f.media_type
}
WRITERS: Final = {media_type: f.write for media_type, f in OVER_HTTP.items() if f.write}
_BODIES: Final[JsonObject] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "object", "required": ["context", "rows"]}},
            "text/csv": {"schema": {"type": "string"}},
        },
    }
}
_TEXTS: Final[dict[int | str, JsonObject]] = {200: {"content": {media_type: {} for media_type in OVER_HTTP}}}
_one_at_a_time = anyio.CapacityLimiter(2)  # a table of a million rows takes much memory while it is read


@router.post(
    "/v1/devices/{name}/tables",
    status_code=201,
    response_model=TableCreated,
    openapi_extra=needs("devices:write", TABLE, **_BODIES),
)
async def register(
    name: str, request: Request, services: Service, caller: Caller, mode: Mode = "replace", unit: Unit = "ms"
) -> TableCreated:
    """Register a latency profile, JSON or CSV: the whole table or nothing; `mode=add` adds its rows to the
    table in use.

    `unit` is what its latencies are given in, where the names of the columns do not say: `ms`, `us`, `ns` or
    `s`.
    """
    data = await request.body()
    media_type = request.headers["content-type"].partition(";")[0].strip().lower()
    form = OVER_HTTP[media_type]
    return await run_sync(_register, services, caller, name, data, form, mode, unit, limiter=_one_at_a_time)


def _register(
    services: Services, caller: Identity, name: str, data: bytes, form: Format, mode: str, unit: str
) -> TableCreated:
    with services.sessions() as session:
        context = table_rows.context_of(device_of(session, caller.tenant_id, name))
    notes: list[str] = []
    table = read_table(data, form, context, unit, notes)
    incoming = Incoming(table, tuple(notes))
    # In three transactions, none of which is open while a million rows are read; `register` looks again.
    if mode == ADD:
        with services.sessions() as session:
            device = device_of(session, caller.tenant_id, name)
            incoming = added_to_table_in_use(session, services.prices, device, incoming)
    with services.sessions.begin() as session:
        return register_table(
            session, services, device_of(session, caller.tenant_id, name), incoming, caller.name
        )


def read_table(data: bytes, form: Format, context: Context, unit: str, notes: list[str]) -> LatencyTable:
    """The table in a body. Raises InvalidTable with row numbers, or Problem with code `context_mismatch`."""
    try:
        return form.read(data, context, unit, notes)
    except ContextMismatch as mismatch:
        raise Problem(
            "context_mismatch", str(mismatch), errors=[error("/context", "context_mismatch", str(mismatch))]
        ) from None


@router.get("/v1/devices/{name}/tables", openapi_extra=needs("devices:read"))
def listed(name: str, services: Service, caller: Caller) -> TableList:
    """Versions of the device's table, the newest first."""
    with services.sessions() as session:
        device = device_of(session, caller.tenant_id, name)
        used_id = table_rows.newest(session, device.id)
        return TableList(items=[table_view(t, used_id) for t in table_rows.versions(session, device.id, 200)])


@router.get(
    "/v1/devices/{name}/tables/{table_id}",
    response_class=Response,
    responses=_TEXTS,
    openapi_extra=needs("devices:read"),
)
def one(
    name: str,
    table_id: str,
    services: Service,
    caller: Caller,
    accept: Annotated[str, Header(max_length=1000)] = "*/*",
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    """The table back, byte-stable; `Accept` chooses between JSON and CSV."""
    with services.sessions() as session:
        device = device_of(session, caller.tenant_id, name)
        row = _table_of(session, device, table_id)
        media_type = "text/csv" if "text/csv" in accept.lower() else "application/json"
        # Of the form too: the same rows are other bytes as CSV.
        etag = f'"{row.digest[:32]}-{media_type.partition("/")[2]}"'
        if if_none_match is not None and etag in if_none_match:
            return Response(status_code=304, headers={"ETag": etag})
        table = services.prices.table(session, row, device)
    content = WRITERS[media_type](table)
    digest = hashlib.sha256(content).hexdigest()
    headers = {"ETag": etag, "X-Content-SHA256": digest, "Vary": "Accept"}
    return Response(content, media_type=media_type, headers=headers)


@router.get("/v1/devices/{name}/tables/{table_id}/cells", openapi_extra=needs("devices:read"))
def cells(
    name: str, table_id: str, space: Name, services: Service, caller: Caller, resolution: Whole | None = None
) -> TableCells:
    """The table as a heat map of a space: what each choice of each block takes, at one resolution."""
    try:
        wanted = space_named(space)
    except UnknownSpace:
        raise not_found("search space") from None
    if resolution is not None and resolution not in wanted.resolutions:
        known = ", ".join(map(str, wanted.resolutions))
        raise invalid("query/resolution", "resolution", f"the space has the resolutions {known}")
    with services.sessions() as session:
        device = device_of(session, caller.tenant_id, name)
        row = _table_of(session, device, table_id)
        table = services.prices.table(session, row, device)
        flagged = {str(reason["operator"]) for reason in row.reasons if reason.get("operator")}
    covered = covered_resolutions(wanted, table)
    size = resolution or max(covered or wanted.resolutions)
    return cells_of(wanted, size, table, row.id, flagged)


@router.delete(
    "/v1/devices/{name}/tables/{table_id}",
    status_code=204,
    response_class=Response,
    openapi_extra=needs("devices:write"),
)
def remove(name: str, table_id: str, services: Service, caller: Caller) -> Response:
    """Delete a version of the table; refused while a model or a job rests on it."""
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        row = _table_of(session, device, table_id)
        reason = table_rows.why_kept(session, row.id)
        if reason is not None:
            raise Problem("in_use", f"the table is not deleted: {reason}")
        table_rows.remove(session, row)
    return Response(status_code=204)


@router.post("/v1/devices/{name}/tables/{table_id}/use", openapi_extra=needs("devices:write", NOTHING))
def use(name: str, table_id: str, services: Service, caller: Caller) -> TableView:
    """Put a version of the table in use, an older one too; refused while it needs a review."""
    with services.sessions.begin() as session:
        row = _table_of(session, device_of(session, caller.tenant_id, name), table_id)
        if row.state != table_rows.READY:
            raise Problem(
                "conflict",
                f"version {row.version} needs a review: see its `reasons`, and accept it if it is true",
            )
        table_rows.put_in_use(session, row, caller.name)
        return table_view(row, row.id)


@router.post("/v1/devices/{name}/tables/{table_id}/accept", openapi_extra=needs("devices:write", JSON))
def accept(name: str, table_id: str, body: AcceptIn, services: Service, caller: Caller) -> TableView:
    """Say that a version which needs a review is true as it stands: it is put in use, and who said so is
    kept."""
    with services.sessions.begin() as session:
        row = _table_of(session, device_of(session, caller.tenant_id, name), table_id)
        table_rows.accept(session, row, caller.name, body.note)
        return table_view(row, row.id)


def _table_of(session: Session, device: Device, table_id: str) -> Table:
    row = table_rows.of_device(session, device.id, table_id)
    if row is None:
        raise not_found("table")
    return row
