"""Small reads that are asked for all the time, gathered: those that come while one is under way are answered
together.

A hop to a thread costs more than the query behind it, and threads by the dozen wait in line for the
interpreter's lock. So one thread answers whatever has come since it last looked; where nobody waits, a read
begins at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

Asked = TypeVar("Asked")
Found = TypeVar("Found")
_MOST: Final = 64


class Gathered(Generic[Asked, Found]):
    """Answers one question at a time through `read`, which takes several and answers them in order, in a
    thread.

    Used from one event loop. A `read` that raises fails all who were in it, and nobody else.
    """

    def __init__(self, read: Callable[[Sequence[Asked]], Sequence[Found]]) -> None:
        self._read = read
        self._waiting: list[tuple[Asked, asyncio.Future[Found]]] = []
        self._reader: asyncio.Task[None] | None = None
        self._thread = CapacityLimiter(1)  # its own, so that no slow work of others keeps it waiting

    async def get(self, asked: Asked) -> Found:
        """The answer, from a read that began after this was called. Raises what the read raised."""
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._answer_all())
        return await future

    async def _answer_all(self) -> None:
        while self._waiting:
            # Taken before the read begins, so that no answer is older than its question.
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            futures = [future for _, future in batch]
            try:
                answers = await run_sync(self._read, [asked for asked, _ in batch], limiter=self._thread)
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to those who asked
                for future in futures:
                    if not future.done():  # else whoever asked has gone
                        future.set_exception(error)
                continue
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
