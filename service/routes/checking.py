"""Does what is known of a device still hold: check jobs, and its measured networks beside their
predictions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from latency_tables.dense import DenseTable
from latency_tables.errors import PoorCalibration
from service.db import measurements as measurement_rows
from service.db import tables as table_rows
from service.db.models import Device, Job, NetworkMeasurement
from service.db.session import Session
from service.db.states import JobKind
from service.http.dependencies import Caller, IdempotencyKey, Service, Services
from service.http.errors import Problem, not_found
from service.http.guard import JSON, GuardedRoute, needs
from service.jobs.requests import CheckRequest, stored
from service.jobs.submission import submit
from service.routes.devices import device_of
from service.routes.jobs import handed_in
from service.schemas.devices import CheckIn, NetworkList, NetworkView
from service.schemas.jobs import JobView
from service.schemas.strict import Short
from supernets.errors import NoTable
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space

router = APIRouter(route_class=GuardedRoute, tags=["measuring"])


@router.post("/v1/devices/{name}/checks", status_code=202, openapi_extra=needs("devices:write", JSON))
def check(
    name: str,
    body: CheckIn,
    services: Service,
    caller: Caller,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Queue the re-measuring of a few operators; the result says whether the table still holds."""

    def action(session: Session) -> Job:
        device = device_of(session, caller.tenant_id, name)
        if table_rows.newest(session, device.id) is None:
            raise Problem("no_table", "the device has no table to check; measure it first")
        request = CheckRequest(device.id, device.name, body.operators)
        return submit(services, session, caller.tenant_id, JobKind.CHECK, stored(request))

    path = f"/v1/devices/{name}/checks"
    return handed_in(services, caller, response, idempotency_key, path, body, action)


@router.get("/v1/devices/{name}/networks", openapi_extra=needs("devices:read"))
def networks(name: str, services: Service, caller: Caller) -> NetworkList:
    """Whole networks that were measured on the device, with what its table predicts for them now."""
    items: list[NetworkView] = []
    with services.sessions() as session:
        device = device_of(session, caller.tenant_id, name)
        for space, classes in measurement_rows.spaces_measured(session, device.id):
            rows = measurement_rows.networks(session, device.id, space, classes)
            items += _views(session, services, device, space_named(space, classes), list(rows))
    return NetworkList(items=items)


@router.delete(
    "/v1/devices/{name}/networks",
    status_code=204,
    response_class=Response,
    openapi_extra=needs("devices:write"),
)
def forget(
    name: str, services: Service, caller: Caller, session_name: Annotated[Short, Query(alias="session")]
) -> Response:
    """Delete the whole networks of one session or post, where they were measured wrongly; `GET` shows the
    sessions."""
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        if not measurement_rows.remove(session, device.id, session_name):
            raise not_found("session of measured networks")
    return Response(status_code=204)


def _views(
    session: Session, services: Services, device: Device, space: Space, rows: list[NetworkMeasurement]
) -> list[NetworkView]:
    try:
        pricing = services.prices.load(session, device, space)
    except (NoTable, PoorCalibration):
        return [_view(row, space, None, None, None) for row in rows]
    return [_view(row, space, pricing.space, pricing.predicted, pricing.upper) for row in rows]


def _view(
    row: NetworkMeasurement,
    space: Space,
    covered: Space | None,
    predicted: DenseTable | None,
    upper: DenseTable | None,
) -> NetworkView:
    architecture = space.from_json(row.architecture)
    known = covered is not None and architecture in covered
    genes = covered.genes(architecture)[None] if known and covered is not None else None
    return NetworkView(
        space=row.space,
        classes=row.classes,
        resolution=architecture.resolution,
        architecture=row.architecture,
        measured_ms=row.latency_ms,
        predicted_ms=None if genes is None or predicted is None else float(predicted.price(genes)[0]),
        upper_ms=None if genes is None or upper is None else float(upper.price(genes)[0]),
        p95_ms=row.p95_ms,
        source=row.source,
        session=row.session,
        created_at=row.created_at,
    )
