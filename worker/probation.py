"""One at a time for jobs whose worker was lost: the one that kills its workers must not take the others into quarantine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from worker.steps import WorkerStopping

LONGEST_S: Final = 30.0
_POLL_S: Final = 0.1


class Probation:
    """A place for one job of this worker. It is free again when the job ends, or after `longest_s`: then the job is trusted."""

    def __init__(self, stopping: threading.Event, longest_s: float = LONGEST_S) -> None:
        self._stopping = stopping
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._holder: tuple[str, float] | None = None

    @contextmanager
    def alone(self, job_id: str) -> Iterator[None]:
        """Wait for the place and hold it. Raises WorkerStopping."""
        while not self._take(mine := (job_id, time.monotonic())):
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
