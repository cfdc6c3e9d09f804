"""Answers that go on for as long as a job: server-sent events that count against quotas and end with their
key."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final

import anyio
from fastapi.sse import EventSourceResponse, format_sse_event
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from service.http.auth import Identity
from service.http.dependencies import Services
from service.http.errors import Problem
from service.http.guard import identify
from service.schemas.jobs import EventView

_POLL_S: Final = 0.5
PING_S: Final = 15.0
IDENTITY_S: Final = 1.0
MOST_EVENTS: Final = 1000  # of one reading

Read = Callable[[int], Awaitable[tuple[list[EventView], bool]]]


class EventStream(EventSourceResponse):
    """A stream that holds a place for as long as it is open. Refused like any request where there is no
    place."""

    def __init__(self, content: AsyncIterator[bytes], place: AbstractContextManager[None]) -> None:
        super().__init__(content)
        self._place = place

    # Here and not in the route: a route returns when its stream begins, and a stream that never begins must
    # hold nothing.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


async def job_events(
    request: Request, services: Services, caller: Identity, scope: str, read: Read, after: int
) -> AsyncIterator[bytes]:
    """Events from number `after` on as they come, until the job has ended, the key may no longer read it, or
    the process is told to end.

    read: (events after a number, at most MOST_EVENTS, whether the job has ended). A comment now and then
    keeps the line open.
    """
    pinged = admitted = time.monotonic()
    while True:
        if time.monotonic() - admitted >= IDENTITY_S:
            admitted = time.monotonic()
            if not await still_admitted(request, services, caller, scope):
                yield format_sse_event(comment="the key of this stream is no longer valid")
                return
        # Asked again and again instead of told: an event may be written by any process, on two databases.
        items, ended = await read(after)
        for item in items:
            after = item.sequence
            yield format_sse_event(data_str=item.model_dump_json(), event=item.kind, id=str(item.sequence))
        # A full page may have more behind it, whatever state the job is in.
        if (ended and len(items) < MOST_EVENTS) or services.ending.is_set():
            return
        if time.monotonic() - pinged > PING_S:
            pinged = time.monotonic()
            yield format_sse_event(comment="still here")
        await anyio.sleep(0 if len(items) == MOST_EVENTS else _POLL_S)


async def still_admitted(request: Request, services: Services, caller: Identity, scope: str) -> bool:
    """Whether the key that opened the stream would be let in today, as the guard would decide it."""
    try:
        identity = await identify(request, services)
    except Problem:
        return False
    return identity.id == caller.id and scope in identity.scopes and identity.closed is None
