"""A seeded killer: workers under a stream of jobs die at random moments, and are replaced at once."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import Any

from service.db.models import Job
from service.db.states import ACTIVE, ENDED, JobState
from tests.reliability.machinery.history import History, check
from tests.reliability.machinery.lab import REPOSITORY, Lab, lives
from tests.reliability.machinery.zygote import Zygote

WORKERS = 2
ACTIVE_JOBS = 8
# of the kills: first frozen for longer than `dead_after_s`, woken, and killed if it has not ended by itself
SHARE_FROZEN = 0.02


class Killer:
    """Kills workers of a laboratory. The same seed gives the same jobs and the same sequence of victims and
    delays."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab = lab
        self.random = random.Random(seed)
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.kills: list[tuple[float, int]] = []
        self.fenced = 0
        self.requeued = 0
        self._zygote = Zygote(REPOSITORY)
        self._living: list[int] = []

    def run(self, kills: int, until: float = float("inf")) -> History:
        """Kill that often, or until that monotonic time; then let everything finish and check it all."""
        try:
            while len(self.kills) < kills and time.monotonic() < until:
                self._refill()
                time.sleep(self.random.uniform(0.02, 1.0))
                self._strike()
            self._settle()
        finally:
            for pid in self._living:
                _signal(pid, signal.SIGKILL)
            self._zygote.close()
        return check(self.lab, self.acknowledged, self.kills)

    def _refill(self) -> None:
        while len(self._living) < WORKERS:
            self._living.append(self._zygote.worker(self.lab.environment(), self.lab.log))
        states = self.lab.states()
        self._requeue_all(states)
        active = [job for job, state in states.items() if state in ACTIVE]
        for _ in range(ACTIVE_JOBS - len(active)):
            number = len(self.acknowledged)
            request = {
                "seed": number % 20,
                "private": number,
                "steps": self.random.randint(2, 5),
                "step_s": 0.02,
            }
            self.acknowledged[self.lab.submit(**request)] = request

    def _strike(self) -> None:
        victim = self._living.pop(self.random.randrange(len(self._living)))
        if self.random.random() < SHARE_FROZEN:
            _signal(victim, signal.SIGSTOP)
            time.sleep(self.lab.settings.dead_after_s + 3 * self.lab.settings.heartbeat_s)
            _signal(victim, signal.SIGCONT)
            time.sleep(2 * self.lab.settings.heartbeat_s)
            self.fenced += not lives(victim)
        _signal(victim, signal.SIGKILL)
        self.kills.append((time.monotonic(), victim))

    def _settle(self, timeout_s: float = 180) -> None:
        """All jobs to their end. What three crashes quarantined, an operator queues once more."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            while len(self._living) < WORKERS:
                self._living.append(self._zygote.worker(self.lab.environment(), self.lab.log))
            states = self.lab.states()
            self._requeue_all(states)
            if all(state in ENDED and state != JobState.QUARANTINED for state in states.values()):
                return
            time.sleep(0.2)

    def _requeue_all(self, states: dict[str, str]) -> None:
        for job_id in [job for job, state in states.items() if state == JobState.QUARANTINED]:
            self._requeue(job_id)

    def _requeue(self, job_id: str) -> None:
        with self.lab.sessions.begin() as session:
            job = session.get(Job, job_id)
            assert job is not None
            self.lab.queue.requeue(session, job)
        self.requeued += 1


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
