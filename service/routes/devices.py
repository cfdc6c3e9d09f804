"""Devices: register, look at, describe, delete."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from starlette.responses import Response

from service.db import devices as device_rows
from service.db.faults import Conflict
from service.db.happenings import tell
from service.db.models import Device
from service.db.session import Session
from service.db.states import HappeningKind
from service.devices.contexts import refuse_unservable
from service.devices.view import device_view, device_views
from service.http.dependencies import Caller, Service, Services, page
from service.http.errors import Problem, not_found
from service.http.guard import JSON, GuardedRoute, needs
from service.schemas.devices import DeviceIn, DeviceList, DevicePatch, DeviceView
from service.schemas.strict import Name, PageSize

router = APIRouter(route_class=GuardedRoute, tags=["devices"])


def device_of(session: Session, tenant_id: str, name: str) -> Device:
    """The tenant's device of that name. Raises Problem `not_found`, the same for another tenant's."""
    found = device_rows.named(session, tenant_id, name)
    if found is None:
        raise not_found("device")
    return found


@router.post("/v1/devices", status_code=201, openapi_extra=needs("devices:write", JSON))
def register(body: DeviceIn, services: Service, caller: Caller, response: Response) -> DeviceView:
    """Register a device and the one context its latencies are valid in; refused where nothing could be
    measured in it."""
    refuse_unservable(body.context.context())
    try:
        with services.sessions.begin() as session:
            context = body.context.context()
            device = device_rows.add(session, caller.tenant_id, body.name, body.description, context)
            view = device_view(session, services, device)
    except Conflict:
        raise Problem("already_exists", "a device of that name is registered; take another name") from None
    response.headers["Location"] = f"/v1/devices/{body.name}"
    response.headers["ETag"] = _etag(view.revision)
    return view


@router.get("/v1/devices", openapi_extra=needs("devices:read"))
def listed(services: Service, caller: Caller, after: Name | None = None, limit: PageSize = 50) -> DeviceList:
    """Devices with coverage, calibration and prediction error, by name."""
    with services.sessions() as session:
        found = device_rows.listed(session, caller.tenant_id, after, limit + 1)
        rows, further = page(found, limit, lambda device: device.name)
        return DeviceList(items=device_views(session, services, rows), next=further)


@router.get("/v1/devices/{name}", openapi_extra=needs("devices:read"))
def one(name: str, services: Service, caller: Caller, response: Response) -> DeviceView:
    """A device with table coverage, calibration, prediction error, date and replication."""
    with services.sessions() as session:
        view = device_view(session, services, device_of(session, caller.tenant_id, name))
    response.headers["ETag"] = _etag(view.revision)
    return view


@router.patch("/v1/devices/{name}", openapi_extra=needs("devices:write", JSON))
def describe(
    name: str,
    body: DevicePatch,
    services: Service,
    caller: Caller,
    response: Response,
    if_match: Annotated[str | None, Header(max_length=64)] = None,
) -> DeviceView:
    """Change the description; needs `If-Match` with the ETag that was read."""
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        # Two people who describe a device must not overwrite each other without noticing.
        if if_match is None:
            raise Problem("precondition_required", "send the ETag you read as If-Match")
        if if_match != _etag(device.revision) or not device_rows.describe(session, device, body.description):
            raise Problem("precondition_failed", "read the device again and repeat the change")
        view = device_view(session, services, device)
    response.headers["ETag"] = _etag(view.revision)
    return view


@router.delete(
    "/v1/devices/{name}", status_code=204, response_class=Response, openapi_extra=needs("devices:write")
)
def remove(name: str, services: Service, caller: Caller) -> Response:
    """Delete a device with its tables and measurements; refused while a model or a job needs it."""
    with services.sessions.begin() as session:
        device = device_of(session, caller.tenant_id, name)
        _refuse_if_kept(session, device, services)
        device_rows.remove(session, device.id)
        tell(session, caller.tenant_id, HappeningKind.DEVICE, name, {"deleted": True})
    return Response(status_code=204)


def _refuse_if_kept(session: Session, device: Device, services: Services) -> None:
    reason = device_rows.why_kept(session, device)
    if reason is not None:
        raise Problem("in_use", f"the device is not deleted: {reason}")


def _etag(revision: int) -> str:
    return f'"{revision}"'
