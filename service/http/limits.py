"""Rate limits: token buckets in memory, one table per process. Time comes from a clock that can be
replaced."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.http.errors import Problem
from service.settings import Settings

_MOST_NAMES = 50_000


@dataclass
class TokenBuckets:
    """A bucket for each name: `burst` tokens at most, `per_s` new ones a second. Thread-safe."""

    per_s: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, name: str) -> float:
        """Take a token. 0 when there was one, else the seconds until there is."""
        with self._lock:
            at = self.clock()
            tokens, before = self._buckets.get(name, (self.burst, at))
            tokens = min(self.burst, tokens + (at - before) * self.per_s)
            # Whoever sends from very many addresses gives everybody a full bucket, and fills no memory.
            if len(self._buckets) > _MOST_NAMES:
                self._buckets.clear()
            if tokens >= 1:
                self._buckets[name] = (tokens - 1, at)
                return 0.0
            self._buckets[name] = (tokens, at)
            return (1 - tokens) / self.per_s


@dataclass
class Concurrency:
    """How many requests (or streams) of each name are in work. Used from the event loop alone."""

    most: int
    what: str = "requests of a key"
    _running: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """One slot for the time of a request. Raises Problem `rate_limited` when there is none."""
        if self._running[name] >= self.most:
            raise Problem(
                "rate_limited", f"at most {self.most} {self.what} at once", headers={"Retry-After": "1"}
            )
        self._running[name] += 1
        try:
            yield
        finally:
            self._running[name] -= 1
            if not self._running[name]:
                del self._running[name]


@dataclass
class Limiter:
    """All limits of one API process."""

    requests: TokenBuckets
    bad_keys: TokenBuckets
    concurrency: Concurrency
    tenant_streams: Concurrency
    all_streams: Concurrency

    @classmethod
    def of(cls, settings: Settings) -> Limiter:
        return cls(
            TokenBuckets(settings.rate_per_s, settings.rate_burst),
            TokenBuckets(settings.bad_keys_per_s, settings.bad_keys_burst),
            Concurrency(settings.max_concurrent_requests),
            Concurrency(settings.max_streams, "event streams of a tenant"),
            # Half of the connections are for requests that end, whoever streams.
            Concurrency(settings.max_connections // 2, "event streams in all"),
        )

    @contextmanager
    def stream(self, key_id: str, tenant_id: str) -> Iterator[None]:
        """A place for an open stream: it is one of its key's requests and one of its tenant's streams.

        Raises Problem `rate_limited`.
        """
        # Of its key too: else one key with requests to spare could hold all of its tenant's streams.
        with self.concurrency.slot(key_id), self.tenant_streams.slot(tenant_id), self.all_streams.slot("all"):
            yield

    def count_request(self, key_id: str) -> None:
        """Raises Problem `rate_limited` with Retry-After."""
        wait_s = self.requests.take(key_id)
        if wait_s:
            raise _limited("this key asks too often", wait_s)

    def count_bad_key(self, address: str) -> None:
        """Raises Problem `rate_limited` for an address that tries keys out."""
        wait_s = self.bad_keys.take(address)
        if wait_s:
            raise _limited("too many wrong keys from this address", wait_s)


def _limited(detail: str, wait_s: float) -> Problem:
    return Problem("rate_limited", detail, headers={"Retry-After": str(max(1, math.ceil(wait_s)))})


def published(settings: Settings) -> dict[str, int | float]:
    """The limits that concern a caller, as `GET /v1/limits` shows them."""
    names = (
        "max_body_bytes",
        "max_table_bytes",
        "max_agent_post_bytes",
        "max_active_jobs",
        "max_concurrent_requests",
        "max_streams",
        "rate_per_s",
        "rate_burst",
        "read_deadline_s",
        "enrolment_ttl_s",
        "agent_session_ttl_s",
    )
    fixed = {
        "max_table_rows": 1_000_000,
        "max_targets": 64,
        "max_budget_ms": 1e6,
        "max_page": 200,
        "max_json_depth": 32,
    }
    return {**{name: getattr(settings, name) for name in names}, **fixed}
