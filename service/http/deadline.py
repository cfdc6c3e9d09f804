"""Uvicorn's HTTP/1.1 with a deadline for the headers of a request; without one, a slow client holds its
connection for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class DeadlineProtocol(H11Protocol):
    """Closes a connection whose request headers are not complete `head_deadline_s` after their first byte."""

    head_deadline_s = 15.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits_for_headers():
            self._arm()
        else:
            self._disarm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def _waits_for_headers(self) -> bool:
        # Between two requests of a kept-alive connection the next headers are awaited again.
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        # Not restarted by each byte: a client that trickles must not gain time by it.
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_deadline_s, self._expired)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expired(self) -> None:
        self._timer = None
        if self._waits_for_headers() and not self.transport.is_closing():
            self.transport.close()


def with_deadline(seconds: float) -> type[DeadlineProtocol]:
    """The protocol with that deadline, for `uvicorn.Config(http=…)`."""
    return type("HeadDeadline", (DeadlineProtocol,), {"head_deadline_s": seconds})
