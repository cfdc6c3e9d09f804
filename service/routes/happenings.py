"""`GET /v1/events`: all that happens in a tenant, as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Final

from fastapi import APIRouter, Header
from fastapi.sse import format_sse_event
from starlette.requests import Request
from starlette.responses import Response

from service.bulletin import Bulletin, Signal, Told
from service.db.states import HappeningKind
from service.http.auth import Identity
from service.http.dependencies import Caller, Service
from service.http.event_stream import EventStream, still_admitted
from service.http.guard import GuardedRoute, needs
from service.schemas.happenings import HappeningList, HappeningView
from service.schemas.strict import Position

router = APIRouter(route_class=GuardedRoute, tags=["service"])
MEDIA_TYPE: Final = "text/event-stream"
_PAGE: Final = 1000
_SCOPES: Final = {
    HappeningKind.JOB: "jobs:read",
    HappeningKind.PROGRESS: "jobs:read",
    HappeningKind.SUPERNET: "jobs:read",
    HappeningKind.DEVICE: "devices:read",
    HappeningKind.TABLE: "devices:read",
    HappeningKind.AGENT: "devices:read",
    HappeningKind.MODEL: "models:read",
}


@router.get(
    "/v1/events",
    response_model=HappeningList,
    responses={200: {"content": {MEDIA_TYPE: {}}}},
    openapi_extra=needs("jobs:read"),
)
async def happenings(
    request: Request,
    services: Service,
    caller: Caller,
    after: Position | None = None,
    accept: Annotated[str, Header(max_length=1000)] = "*/*",
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """What happened in the tenant in the last day, in order; with `Accept: text/event-stream` as it
    happens."""
    if MEDIA_TYPE not in accept:
        missed, _ = await services.bulletin.backlog(caller.tenant_id, after or 0)
        items = [_view(told) for told in missed[:_PAGE] if _SCOPES[told.kind] in caller.scopes]
        more = missed[_PAGE - 1].position if len(missed) > _PAGE else None
        return Response(
            HappeningList(items=items, next=more).model_dump_json(), media_type="application/json"
        )
    if last_event_id and last_event_id.isascii() and last_event_id.isdigit():
        after = int(last_event_id)

    async def admitted() -> bool:
        return await still_admitted(request, services, caller, "jobs:read")

    stream = _events(services.bulletin, caller, after, admitted)
    return EventStream(stream, services.limiter.stream(caller.id, caller.tenant_id))


async def _events(
    bulletin: Bulletin, caller: Identity, after: int | None, admitted: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Events until the key is no longer good, or the listener is too slow and must come back."""
    holder = (caller.id, caller.browser_id)
    async with bulletin.listen(caller.tenant_id, holder, admitted) as listener:
        shown: set[int] = set()
        yield _named("ready", bulletin.settled if after is None else after)
        if after is not None:
            missed, whole = await bulletin.backlog(caller.tenant_id, after)
            if not whole:
                yield _named("reset", bulletin.settled)
            for told in missed if whole else []:
                shown.add(told.position or 0)
                yield _event(caller, told)
        while not listener.lost:
            heard = await listener.queue.get()
            if heard is Signal.END:
                return
            if isinstance(heard, Signal):
                yield format_sse_event(comment="still here")
            elif heard.position is None or heard.position not in shown:
                yield _event(caller, heard)


def _named(kind: str, settled: int) -> bytes:
    return format_sse_event(data_str="{}", event=kind, id=str(settled))


def _event(caller: Identity, told: Told) -> bytes:
    """One event; empty where the caller's key may not know."""
    if _SCOPES[told.kind] not in caller.scopes:
        # Skipped and not refused: a stream is one for all scopes.
        return b""
    settled = None if told.settled is None else str(told.settled)
    return format_sse_event(data_str=_view(told).model_dump_json(), event=told.kind, id=settled)


def _view(told: Told) -> HappeningView:
    return HappeningView(
        position=told.position, at=told.at, kind=told.kind, subject=told.subject, data=told.data
    )
