"""A device with its tables and measured networks as one file: out, and in again."""

from __future__ import annotations

import hashlib
from typing import Final

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.db.faults import Conflict
from service.devices.exchange import read_device, store_device, write_device
from service.devices.view import device_view
from service.http.auth import Identity
from service.http.dependencies import Caller, Service, Services
from service.http.errors import Problem
from service.http.guard import DEVICE_FILE, GuardedRoute, needs
from service.routes.devices import device_of
from service.schemas.devices import DeviceView
from service.schemas.exchange import DeviceFile
from service.schemas.strict import JsonObject, Name

router = APIRouter(route_class=GuardedRoute, tags=["devices"])
_BODY: Final[JsonObject] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/DeviceFile"}}},
    }
}
_one_at_a_time = anyio.CapacityLimiter(1)  # tens of megabytes of rows take much memory while they are read


@router.get(
    "/v1/devices/{name}/bundle",
    response_class=Response,
    responses={200: {"model": DeviceFile}},
    openapi_extra=needs("devices:read"),
)
def export(name: str, services: Service, caller: Caller) -> Response:
    """The device with all its tables and measured networks as one JSON file, byte-stable."""
    with services.sessions() as session:
        content = write_device(
            session, device_of(session, caller.tenant_id, name), services.settings.max_table_bytes
        )
    headers = {"X-Content-SHA256": hashlib.sha256(content).hexdigest()}
    return Response(content, media_type="application/json", headers=headers)


@router.post(
    "/v1/devices/import",
    status_code=201,
    response_model=DeviceView,
    openapi_extra=needs("devices:write", DEVICE_FILE, **_BODY),
)
async def import_(
    request: Request, services: Service, caller: Caller, response: Response, name: Name | None = None
) -> DeviceView:
    """Register the device of a file with its tables and networks, all or nothing; `name` gives it another
    name."""
    data = await request.body()
    view = await run_sync(_import, services, caller, data, name, limiter=_one_at_a_time)
    response.headers["Location"] = f"/v1/devices/{view.name}"
    response.headers["ETag"] = f'"{view.revision}"'
    return view


def _import(services: Services, caller: Identity, data: bytes, name: str | None) -> DeviceView:
    checked = read_device(data)
    try:
        with services.sessions.begin() as session:
            device = store_device(session, caller.tenant_id, checked, name, caller.name)
            return device_view(session, services, device)
    except Conflict:
        raise Problem(
            "already_exists", "a device of that name is registered; import it under another name"
        ) from None
