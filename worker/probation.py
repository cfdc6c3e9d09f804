"""One at a time for jobs whose worker was lost: the one that kills its workers must not take the others into
quarantine.

A first loss is most often a machine's, and the whole of what ran there waits to go on: those jobs are patient
for a few seconds only. A job that was lost before is suspected, and stands in line for as long as it takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from worker.errors import WorkerStopping

LONGEST_S: Final = 30.0
PATIENCE_S: Final = 7.0  # with the time until a loss is noticed it must stay below the 90 s that are promised
_POLL_S: Final = 0.1


class Probation:
    """A place for one job of this worker. It is free again when the job ends, or after `longest_s`: then the
    job is trusted.

    Whoever is not suspected waits for it `patience_s` at most.
    """

    def __init__(
        self, stopping: threading.Event, longest_s: float = LONGEST_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._stopping = stopping
        self._longest_s, self._patience_s = longest_s, patience_s
        self._lock = threading.Lock()
        self._holder: tuple[str, float] | None = None

    @contextmanager
    def alone(self, job_id: str, *, suspected: bool) -> Iterator[None]:
        """Wait for the place and hold it. suspected: the job was lost before. Raises WorkerStopping."""
        begun = time.monotonic()
        # The time makes two attempts at one job distinct, so that the older one cannot free the newer one's
        # place.
        while not self._take(mine := (job_id, time.monotonic())):
            if not suspected and mine[1] - begun >= self._patience_s:
                break
            if self._stopping.wait(_POLL_S):
                raise WorkerStopping
        try:
            yield
        finally:
            with self._lock:
                if self._holder == mine:
                    self._holder = None

    def _take(self, mine: tuple[str, float]) -> bool:
        with self._lock:
            if self._holder is not None and mine[1] - self._holder[1] < self._longest_s:
                return False
            self._holder = mine
            return True
