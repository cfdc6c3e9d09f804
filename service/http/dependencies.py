"""What the routes share, built once when the API starts, and the small things every route takes from a
request."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, TypeVar

from fastapi import Depends, Header
from starlette.requests import Request

from service.artifacts import ArtifactStore
from service.bulletin import Bulletin
from service.db.jobs import PolledJob
from service.db.session import Engine, Sessions
from service.devices.price_book import PriceBook
from service.http.auth import Authenticator, Identity
from service.http.errors import invalid
from service.http.limits import Limiter
from service.jobs.polls import Gathered
from service.jobs.queue import JobQueue
from service.settings import Settings
from service.telemetry import Telemetry

Row = TypeVar("Row")


@dataclass(frozen=True)
class Services:
    """Everything the routes work with. `polls` reads a job as (tenant, job). ending: set when the process is
    told to end: streams end then, which would hold it up for as long as requests may go on."""

    settings: Settings
    engine: Engine
    sessions: Sessions
    store: ArtifactStore
    queue: JobQueue
    prices: PriceBook
    authenticator: Authenticator
    limiter: Limiter
    polls: Gathered[tuple[str, str], PolledJob | None]
    bulletin: Bulletin
    telemetry: Telemetry = field(default_factory=Telemetry)
    ending: threading.Event = field(default_factory=threading.Event)


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def _identity(request: Request) -> Identity:
    found: Identity = request.state.identity
    return found


# Async on purpose: a sync dependency would cost a hop to a thread of its own.
async def _services_dependency(request: Request) -> Services:
    return _services(request)


async def _identity_dependency(request: Request) -> Identity:
    return _identity(request)


Service = Annotated[Services, Depends(_services_dependency)]
Caller = Annotated[Identity, Depends(_identity_dependency)]
IdempotencyKey = Annotated[str | None, Header(max_length=1000)]


def encode_cursor(at: datetime, row_id: str) -> str:
    """An opaque place in a list: the time and id of the last row that was shown."""
    return base64.urlsafe_b64encode(f"{at.isoformat()}|{row_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """Raises Problem `validation` for anything that `encode_cursor` did not make."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        at, _, row_id = text.partition("|")
        moment = datetime.fromisoformat(at)
    except (ValueError, binascii.Error):
        raise invalid("query/after", "cursor", "not a cursor; take `next` of the page before") from None
    if (
        moment.tzinfo is None
        or not row_id.isascii()
        or not row_id.isprintable()
        or encode_cursor(moment, row_id) != cursor
    ):
        raise invalid("query/after", "cursor", "not a cursor; take `next` of the page before")
    return moment, row_id


def page(rows: Sequence[Row], limit: int, place: Callable[[Row], str]) -> tuple[list[Row], str | None]:
    """(rows of a page, `next`). One row more than `limit` is read: it says whether another page is there."""
    shown = list(rows[:limit])
    return shown, place(shown[-1]) if len(rows) > limit else None
