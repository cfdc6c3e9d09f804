"""Probation: lost jobs one at a time; those lost for the first time wait a few seconds only, suspected ones
for their turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from worker.errors import WorkerStopping
from worker.probation import Probation


class Line:
    """Jobs that ask for the place, each in a thread of its own, and keep it until they are let go."""

    def __init__(self, **limits: float) -> None:
        self.stopping = threading.Event()
        self.probation = Probation(self.stopping, **limits)
        self.running: list[str] = []
        self.refused: list[str] = []
        self._ends: dict[str, threading.Event] = {}
        self._threads: list[threading.Thread] = []

    def ask(self, job_id: str, *, suspected: bool) -> None:
        self._ends[job_id] = threading.Event()
        thread = threading.Thread(target=self._job, args=(job_id, suspected), daemon=True)
        thread.start()
        self._threads.append(thread)

    def end(self, job_id: str) -> None:
        self._ends[job_id].set()

    def _job(self, job_id: str, suspected: bool) -> None:
        try:
            with self.probation.alone(job_id, suspected=suspected):
                self.running.append(job_id)
                assert self._ends[job_id].wait(60)
        except WorkerStopping:
            self.refused.append(job_id)

    def close(self) -> None:
        self.stopping.set()
        for end in self._ends.values():
            end.set()
        for thread in self._threads:
            thread.join(30)


@pytest.fixture
def line_of(request: pytest.FixtureRequest) -> Callable[..., Line]:
    def make(**limits: float) -> Line:
        line = Line(**limits)
        request.addfinalizer(line.close)
        return line

    return make


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_jobs_lost_for_the_first_time_do_not_wait_for_one_that_takes_long(
    line_of: Callable[..., Line],
) -> None:
    line = line_of(longest_s=1000, patience_s=0.5)
    for number in range(5):
        line.ask(f"job-{number}", suspected=False)
    until(lambda: len(line.running) == 1)
    until(lambda: len(line.running) == 5)  # the patience is that of all together, not of one after the other


def test_a_suspected_job_waits_for_its_turn(line_of: Callable[..., Line]) -> None:
    line = line_of(longest_s=1000, patience_s=0.2)
    line.ask("first", suspected=True)
    until(lambda: line.running == ["first"])
    line.ask("second", suspected=True)
    time.sleep(0.6)
    assert line.running == ["first"]
    line.end("first")
    until(lambda: line.running == ["first", "second"])


def test_after_a_while_a_job_is_trusted_and_the_next_has_its_turn(line_of: Callable[..., Line]) -> None:
    line = line_of(longest_s=0.3, patience_s=1000)
    line.ask("first", suspected=True)
    until(lambda: line.running == ["first"])
    line.ask("second", suspected=True)
    until(lambda: line.running == ["first", "second"])


def test_a_job_without_the_place_does_not_free_it(line_of: Callable[..., Line]) -> None:
    line = line_of(longest_s=1000, patience_s=0.1)
    line.ask("holder", suspected=True)
    until(lambda: line.running == ["holder"])
    line.ask("impatient", suspected=False)
    until(lambda: line.running == ["holder", "impatient"])
    line.end("impatient")
    line.ask("suspected", suspected=True)
    time.sleep(0.5)
    assert line.running == ["holder", "impatient"]


def test_a_worker_that_stops_lets_nobody_begin(line_of: Callable[..., Line]) -> None:
    line = line_of(longest_s=1000, patience_s=1000)
    line.ask("first", suspected=False)
    until(lambda: line.running == ["first"])
    line.ask("second", suspected=False)
    line.stopping.set()
    until(lambda: line.refused == ["second"])
