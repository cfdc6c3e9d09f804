"""What happens in the tenants, as it happens: one reader of the database for all listeners of a process.

It reads while somebody listens. On PostgreSQL a lower position may be committed after a higher one, so
positions that are absent are looked for again for a while; a listener who comes back says up to where nothing
was absent.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from service.db import agents as agent_rows
from service.db import happenings as rows
from service.db.documents import Document
from service.db.faults import Fault
from service.db.models import Happening, now
from service.db.session import Sessions
from service.db.states import HappeningKind

POLL_S: Final = 0.4
PRESENCE_S: Final = 2.0
IDENTITY_S: Final = 0.9  # a stream ends within a second of its key
PING_S: Final = 15.0
LATE_S: Final = 60.0  # far longer than any transaction between taking a position and its commit
LOOK_BACK: Final = 1000  # positions that are looked for again at most
BACKLOG: Final = 1000
_ROOM: Final = 2000


@dataclass(frozen=True)
class Told:
    """One thing that happened. position: None where nothing was written down (an agent comes and goes).

    settled: no position up to this one is still to come; what a listener who comes back asks from.
    """

    tenant_id: str
    kind: HappeningKind
    subject: str
    data: Document
    at: datetime
    position: int | None = None
    settled: int | None = None


class Signal(Enum):
    """What a listener hears besides what happened."""

    PING = "ping"  # nothing happened for a while; the line is to be kept open
    END = "end"  # its key is no longer good, or the process ends


Admitted = Callable[[], Awaitable[bool]]


async def _always() -> bool:
    return True


@dataclass(eq=False)
class Listener:
    """One stream. `lost`: it was too slow and must ask again from where it was.

    holder: whose key it is; `admitted` is asked once a second for all streams of a holder, so that many quiet
    streams cost nothing.
    """

    tenant_id: str
    holder: Hashable = None
    admitted: Admitted = _always
    queue: asyncio.Queue[Told | Signal] = field(default_factory=lambda: asyncio.Queue(_ROOM))
    lost: bool = False

    def tell(self, told: Told | Signal) -> None:
        try:
            self.queue.put_nowait(told)
        except asyncio.QueueFull:
            self.lost = True


class Bulletin:
    """Tells listeners what happens. Used from one event loop."""

    def __init__(self, sessions: Sessions, present_s: float, ending: threading.Event | None = None) -> None:
        """ending: set when the process is told to end; listeners then are, too."""
        self._sessions = sessions
        self._ending = ending or threading.Event()
        self._present = timedelta(seconds=present_s)
        self._listeners: set[Listener] = set()
        self._reader: asyncio.Task[None] | None = None
        self._thread = CapacityLimiter(1)
        self._position = 0
        self._absent: dict[int, float] = {}
        self._agents: dict[tuple[str, str], bool] | None = None
        self._started = asyncio.Event()

    @asynccontextmanager
    async def listen(
        self, tenant_id: str, holder: Hashable = None, admitted: Admitted = _always
    ) -> AsyncIterator[Listener]:
        """A listener who hears everything committed from now on, until its holder is admitted no more."""
        listener = Listener(tenant_id, holder, admitted)
        self._listeners.add(listener)
        try:
            if self._reader is None or self._reader.done():
                self._started = asyncio.Event()
                self._reader = asyncio.create_task(self._read())
            await self._started.wait()
            yield listener
        finally:
            self._listeners.discard(listener)

    @property
    def settled(self) -> int:
        """No position up to this one is still to come."""
        return min(self._absent, default=self._position + 1) - 1

    async def backlog(self, tenant_id: str, position: int) -> tuple[list[Told], bool]:
        """(what a tenant's listener missed since a position, whether that is all of it)."""

        def read() -> tuple[list[Told], bool]:
            with self._sessions() as session:
                kept = position >= rows.oldest(session) - 1
                found = rows.of_tenant(session, tenant_id, position, BACKLOG + 1)
            return [_told(row, min(row.position, self.settled)) for row in found], kept and len(
                found
            ) <= BACKLOG

        return await run_sync(read)

    async def _read(self) -> None:
        """Reads until nobody listens; an outage of the database is waited out."""
        fresh, looked, asked, pinged = True, 0.0, time.monotonic(), time.monotonic()
        while self._listeners:
            # An outage is not told to anybody: listeners hear the rest when it is over.
            with suppress(Fault):
                if fresh:
                    await self._on_thread(self._begin)
                    fresh = False
                for row in await self._on_thread(self._new_rows):
                    self._tell(_told(row, self.settled))
                if time.monotonic() - looked > PRESENCE_S:
                    looked = time.monotonic()
                    for told in await self._on_thread(self._presence):
                        self._tell(told)
            self._started.set()
            if time.monotonic() - asked >= IDENTITY_S:
                asked = time.monotonic()
                with suppress(Fault):  # nobody is sent away because the database is
                    await self._end_strangers()
            if time.monotonic() - pinged >= PING_S:
                pinged = time.monotonic()
                for listener in self._listeners:
                    listener.tell(Signal.PING)
            if self._ending.is_set():
                for listener in self._listeners:
                    listener.tell(Signal.END)
            await asyncio.sleep(POLL_S)

    async def _end_strangers(self) -> None:
        """Tell the listeners to end whose key would not be let in any more; each key is looked at once."""
        holders = {listener.holder: listener.admitted for listener in self._listeners}
        for holder, admitted in holders.items():
            if not await admitted():
                for listener in [one for one in self._listeners if one.holder == holder]:
                    listener.tell(Signal.END)

    async def _on_thread(self, work: Any) -> Any:
        return await run_sync(work, limiter=self._thread)

    def _tell(self, told: Told) -> None:
        for listener in self._listeners:
            if listener.tenant_id == told.tenant_id:
                listener.tell(told)

    def _begin(self) -> None:
        with self._sessions() as session:
            self._position = rows.newest(session)
            low = max(1, self._position - LOOK_BACK)
            self._absent = dict.fromkeys(rows.absent(session, low, self._position), time.monotonic())
        self._agents = None

    def _new_rows(self) -> list[Happening]:
        # A position that nobody commits for a minute was rolled back: it is waited for no longer.
        late = [p for p, since in self._absent.items() if time.monotonic() - since < LATE_S]
        self._absent = {p: self._absent[p] for p in late}
        with self._sessions() as session:
            found = list(rows.after(session, self._position, late))
        for row in found:
            self._absent.pop(row.position, None)
            skipped = range(max(self._position + 1, row.position - LOOK_BACK), row.position)
            self._absent.update(dict.fromkeys(skipped, time.monotonic()))
            self._position = max(self._position, row.position)
        return found

    def _presence(self) -> list[Told]:
        """Agents that came or went since this was last asked."""
        seen = now() - self._present
        with self._sessions() as session:
            found = agent_rows.heard_of(session)
        here = {(tenant, name): at is not None and at > seen for tenant, name, at in found}
        # The first look says who is there; only changes after it are news.
        before, self._agents = self._agents, here
        if before is None:
            return []
        changed = [key for key in {*here, *before} if here.get(key, False) != before.get(key, False)]
        return [
            Told(t, HappeningKind.AGENT, name, {"present": here.get((t, name), False)}, now())
            for t, name in sorted(changed)
        ]


def _told(row: Happening, settled: int) -> Told:
    return Told(row.tenant_id, HappeningKind(row.kind), row.subject, row.data, row.at, row.position, settled)
