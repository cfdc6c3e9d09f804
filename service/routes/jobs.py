"""Jobs: list, poll, follow, cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.db import job_log, transitions
from service.db import jobs as job_rows
from service.db.documents import Fields, items
from service.db.jobs import JobFilter, PolledJob
from service.db.models import Job, JobEvent
from service.db.session import Session
from service.db.states import ENDED, JobKind, JobState
from service.http.auth import Identity
from service.http.dependencies import Caller, Service, Services, decode_cursor, encode_cursor, page
from service.http.errors import not_found
from service.http.event_stream import MOST_EVENTS, EventStream, job_events
from service.http.guard import JSON, NOTHING, GuardedRoute, needs
from service.http.problems import with_code
from service.jobs.submission import once, request_digest
from service.schemas.jobs import (
    EventList,
    EventView,
    JobList,
    JobRequest,
    JobView,
    LogLineView,
    LogList,
    Naming,
    Progress,
)
from service.schemas.strict import Id, LogSize, Name, PageSize, Position, Short, Strict, Whole

router = APIRouter(route_class=GuardedRoute, tags=["jobs"])
_LARGEST: Final = 2**31 - 1  # number of an event that every database takes


def job_view(job: Job | PolledJob) -> JobView:
    progress: Fields = job.progress or {}
    waiting = "waiting for a worker" if job.state == JobState.QUEUED else ""
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
        name=job.name,
        note=job.note,
        remarks=[]
        if isinstance(job, PolledJob)
        else list(items(job.request, "remarks")),  # said when it was handed in
    )


def handed_in(
    services: Services,
    caller: Identity,
    response: Response,
    key: str | None,
    path: str,
    body: Strict,
    action: Callable[[Session], Job],
) -> JobView:
    """The job that `action` makes, once for each Idempotency-Key; the answer says where it is."""
    digest = request_digest("POST", path, body.model_dump())
    job = once(services, caller, key, digest, action)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job_view(job)


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
    state: JobState | None = None,
    kind: JobKind | None = None,
    device: Name | None = None,
    supernet: Id | None = None,
    text: Short | None = None,
    after: str | None = None,
    limit: PageSize = 50,
) -> JobList:
    """Jobs, the newest first."""
    cursor, wanted = decode_cursor(after), JobFilter(state, kind, device, supernet, text)
    with services.sessions() as session:
        found = job_rows.listed(session, caller.tenant_id, wanted, cursor, limit + 1)
    rows, further = page(found, limit, lambda job: encode_cursor(job.created_at, job.id))
    return JobList(items=[job_view(row) for row in rows], next=further)


@router.get("/v1/jobs/{job_id}", response_model=JobView, openapi_extra=needs("jobs:read"))
async def one(job_id: str, services: Service, caller: Caller) -> Response:
    """A job: state, progress, result or error."""
    row = await services.polls.get((caller.tenant_id, job_id))
    if row is None:
        raise not_found("job")
    view = job_view(row)
    return Response(
        view.model_dump_json(), media_type="application/json"
    )  # polled often: validated once is enough


@router.get("/v1/jobs/{job_id}/request", openapi_extra=needs("jobs:read"))
def request_of(job_id: str, services: Service, caller: Caller) -> JobRequest:
    """What was asked for: the request as it is kept, with its tables pinned."""
    with services.sessions() as session:
        job = job_of(session, caller.tenant_id, job_id)
        return JobRequest(kind=job.kind, request=job.request)


@router.patch("/v1/jobs/{job_id}", openapi_extra=needs("jobs:write", JSON))
def name_it(job_id: str, body: Naming, services: Service, caller: Caller) -> JobView:
    """Give a job a name and a note."""
    with services.sessions.begin() as session:
        job = job_of(session, caller.tenant_id, job_id)
        job_rows.rename(session, job, body.model_dump(exclude_unset=True))
        return job_view(job)


@router.get("/v1/jobs/{job_id}/log", openapi_extra=needs("jobs:read"))
def log(
    job_id: str, services: Service, caller: Caller, after: Position = 0, limit: LogSize = 1000
) -> LogList:
    """What its worker and its child said, step by step: the last 2,000 lines, without secrets."""
    with services.sessions() as session:
        job_of(session, caller.tenant_id, job_id)
        found = job_log.listed(session, job_id, after, limit + 1)
    items = [
        LogLineView(position=r.position, at=r.at, step=r.step, source=r.source, text=r.text) for r in found
    ]
    return LogList(items=items[:limit], next=items[limit - 1].position if len(items) > limit else None)


@router.post("/v1/jobs/{job_id}/cancel", status_code=202, openapi_extra=needs("jobs:write", NOTHING))
def cancel(job_id: str, services: Service, caller: Caller) -> JobView:
    """Ask a job to stop; it ends `cancelled` within 5 s. 409 when it has ended already."""
    with services.sessions.begin() as session:
        job = job_of(session, caller.tenant_id, job_id)
        transitions.ask_cancel(session, job)
        view = job_view(job)
    # After the commit: a worker that takes it in between finds the wish and stops.
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
    request: Request,
    after: Whole = 0,
    accept: Annotated[str, Header(max_length=1000)] = "*/*",
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> Response:
    """What happened to a job, in order; with `Accept: text/event-stream` as it happens."""
    items, _ = await run_sync(_read, services, caller, job_id, after)
    if "text/event-stream" not in accept:
        body = EventList(items=items, next=items[-1].sequence if len(items) == MOST_EVENTS else None)
        return JSONResponse(body.model_dump(mode="json"))

    async def read(number: int) -> tuple[list[EventView], bool]:
        return await run_sync(_read, services, caller, job_id, number)

    given = last_event_id or ""
    # A browser that comes back sends the header by itself; it knows better than the address where it was.
    resume = min(int(given), _LARGEST) if given.isascii() and given.isdigit() else after
    stream = job_events(request, services, caller, "jobs:read", read, resume)
    return EventStream(stream, services.limiter.stream(caller.id, caller.tenant_id))


def _read(services: Services, caller: Identity, job_id: str, after: int) -> tuple[list[EventView], bool]:
    """(events after a number, whether the job has ended)."""
    with services.sessions() as session:
        job = job_of(session, caller.tenant_id, job_id)
        ended = job.state in ENDED
        return [event_view(e) for e in transitions.events(session, job_id, after, MOST_EVENTS)], ended
