"""Jobs: list, poll, follow, cancel."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header
from sqlalchemy import Row
from sqlalchemy.orm import Session
from starlette.responses import JSONResponse, Response, StreamingResponse

from service import jobs as job_states
from service.auth import Identity
from service.db import jobs as job_rows
from service.db.models import Job, JobEvent
from service.dependencies import Caller, Service, Services, decode_cursor, encode_cursor, page
from service.errors import not_found
from service.guard import NOTHING, GuardedRoute, needs
from service.problems import with_code
from service.schemas.jobs import EventList, EventView, JobList, JobView, Progress
from service.schemas.strict import PageSize, Whole

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])
State = Literal["queued", "running", "succeeded", "failed", "cancelled", "quarantined"]
Kind = Literal["search", "supernet", "profile", "check"]
_POLL_S: Final = 0.5
_PING_S: Final = 15.0
_EVENTS: Final = 1000


def job_view(job: Job | Row[Any]) -> JobView:
    progress = job.progress or {}
    waiting = "waiting for a worker" if job.state == job_states.JobState.QUEUED else ""
    return JobView(
        id=job.id,
        kind=job.kind,
        state=job.state,
        progress=Progress(
            step=progress.get("step"),
            fraction=progress.get("fraction", 0.0),
            message=progress.get("message", waiting),
            eta_s=progress.get("eta_s"),
        ),
        attempts=job.attempts,
        priority=job.priority,
        cancel_asked=job.cancel_asked_at is not None,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        error=None if job.error is None else with_code(job.error),
        result=job.result,
    )


def event_view(event: JobEvent) -> EventView:
    return EventView(sequence=event.sequence, at=event.at, kind=event.kind, data=event.data)


def job_of(session: Session, tenant_id: str, job_id: str) -> Job:
    """Raises Problem `not_found`, the same for another tenant's job."""
    found = job_rows.get(session, tenant_id, job_id)
    if found is None:
        raise not_found("job")
    return found


@router.get("/v1/jobs", openapi_extra=needs("jobs:read"))
def listed(
    services: Service,
    caller: Caller,
    state: State | None = None,
    kind: Kind | None = None,
    after: str | None = None,
    limit: PageSize = 50,
) -> JobList:
    """Jobs, the newest first."""
    cursor = decode_cursor(after)
    with services.sessions() as session:
        found = list(job_rows.listed(session, caller.tenant_id, state, kind, cursor, limit + 1))
    rows, more = page(found, limit)
    return JobList(items=[job_view(r) for r in rows], next=encode_cursor(rows[-1].created_at, rows[-1].id) if more else None)


@router.get("/v1/jobs/{job_id}", response_model=JobView, openapi_extra=needs("jobs:read"))
async def one(job_id: str, services: Service, caller: Caller) -> Response:
    """A job: state, progress, result or error."""
    row = await services.polls.get((caller.tenant_id, job_id))
    if row is None:
        raise not_found("job")
    view = job_view(row)
    return Response(view.model_dump_json(), media_type="application/json")  # polled often: validated once is enough


@router.post("/v1/jobs/{job_id}/cancel", status_code=202, openapi_extra=needs("jobs:write", NOTHING))
def cancel(job_id: str, services: Service, caller: Caller) -> JobView:
    """Ask a job to stop; it ends `cancelled` within 5 s. 409 when it has ended already."""
    with services.sessions.begin() as session:
        job = job_of(session, caller.tenant_id, job_id)
        job_states.ask_cancel(session, job)
        view = job_view(job)
    services.queue.cancel(job_id)
    return view


@router.get(
    "/v1/jobs/{job_id}/events",
    response_model=EventList,
    responses={200: {"content": {"text/event-stream": {}}}},
    openapi_extra=needs("jobs:read"),
)
async def events(
    job_id: str,
    services: Service,
    caller: Caller,
    after: Whole = 0,
    accept: Annotated[str, Header(max_length=1000)] = "*/*",
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """What happened to a job, in order; with `Accept: text/event-stream` as it happens."""
    items, _ = await run_sync(_read, services, caller, job_id, after)
    if "text/event-stream" not in accept:
        body = EventList(items=items, next=items[-1].sequence if len(items) == _EVENTS else None)
        return JSONResponse(body.model_dump(mode="json"))
    resume = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else after
    return StreamingResponse(_stream(services, caller, job_id, resume), media_type="text/event-stream")


def _read(services: Services, caller: Identity, job_id: str, after: int) -> tuple[list[EventView], bool]:
    """(events after a number, whether the job has ended)."""
    with services.sessions() as session:
        job = job_of(session, caller.tenant_id, job_id)
        ended = job.state in job_states.ENDED
        return [event_view(e) for e in job_states.events(session, job_id, after, _EVENTS)], ended


async def _stream(services: Services, caller: Identity, job_id: str, after: int) -> AsyncIterator[str]:
    """Events as they come, a comment now and then so that the line stays open, until the job has ended."""
    pinged = time.monotonic()
    while True:
        items, ended = await run_sync(_read, services, caller, job_id, after)
        for item in items:
            after = item.sequence
            yield _sse(item)
        if ended and len(items) < _EVENTS:
            return
        if time.monotonic() - pinged > _PING_S:
            pinged = time.monotonic()
            yield ": still here\n\n"
        await anyio.sleep(0 if items and len(items) == _EVENTS else _POLL_S)


def _sse(item: EventView) -> str:
    data: dict[str, Any] = item.model_dump(mode="json")
    return f"id: {item.sequence}\nevent: {item.kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
