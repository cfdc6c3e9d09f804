"""Gathered reads: together where they wait, each with its own answer, a failure for those alone who were in
it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from anyio.to_thread import current_default_thread_limiter

from service.jobs.polls import Gathered


class Source:
    """Squares numbers, in batches that it remembers; holds the first until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.held = threading.Event()

    def read(self, asked: Sequence[int]) -> list[int]:
        self.batches.append(list(asked))
        if len(self.batches) == 1:
            assert self.held.wait(30)
        if -1 in asked:
            raise OSError("no such number")
        return [number * number for number in asked]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 60))


async def begun(source: Source, batches: int) -> None:
    while len(source.batches) < batches:
        await asyncio.sleep(0.001)


def test_what_comes_during_a_read_is_answered_by_the_next() -> None:
    async def scenario() -> None:
        source = Source()
        gathered = Gathered(source.read)
        first = asyncio.create_task(gathered.get(2))
        await begun(source, 1)
        others = [asyncio.create_task(gathered.get(number)) for number in (3, 3, 4)]
        await asyncio.sleep(0.01)
        source.held.set()
        assert await asyncio.gather(first, *others) == [4, 9, 9, 16]
        assert source.batches == [[2], [3, 3, 4]], "three in one; an equal question later is read anew"

    run(scenario())


def test_a_failed_read_fails_those_who_were_in_it() -> None:
    async def scenario() -> None:
        source = Source()
        gathered = Gathered(source.read)
        bad = asyncio.create_task(gathered.get(-1))
        await begun(source, 1)
        good = asyncio.create_task(gathered.get(5))
        source.held.set()
        with pytest.raises(OSError, match="no such number"):
            await bad
        assert await good == 25
        assert await gathered.get(6) == 36, "and it goes on"

    run(scenario())


def test_who_has_gone_away_keeps_nobody_waiting() -> None:
    async def scenario() -> None:
        source = Source()
        gathered = Gathered(source.read)
        first, gone, stays = (asyncio.create_task(gathered.get(number)) for number in (2, 3, 4))
        await begun(source, 1)
        gone.cancel()
        source.held.set()
        assert await first == 4
        assert await stays == 16
        with pytest.raises(asyncio.CancelledError):
            await gone

    run(scenario())


def test_slow_work_of_others_does_not_hold_it_up() -> None:
    async def scenario() -> None:
        source = Source()
        source.held.set()
        limiter = current_default_thread_limiter()
        borrowers = [object() for _ in range(int(limiter.total_tokens))]
        for borrower in borrowers:
            limiter.acquire_on_behalf_of_nowait(borrower)
        assert await Gathered(source.read).get(7) == 49, "every thread of the pool is taken"

    run(scenario())


def test_a_long_line_is_read_in_batches_that_end() -> None:
    async def scenario() -> None:
        source = Source()
        gathered = Gathered(source.read)
        tasks = [asyncio.create_task(gathered.get(number)) for number in range(200)]
        await begun(source, 1)
        source.held.set()
        assert await asyncio.gather(*tasks) == [number * number for number in range(200)]
        assert max(map(len, source.batches)) <= 64

    run(scenario())
