"""Handing a job over: quotas, the job row, the queue and the Idempotency-Key, all in one transaction."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from service.db import jobs as job_rows
from service.db.documents import Fields
from service.db.faults import Conflict
from service.db.models import Job
from service.db.session import Engine, Session
from service.db.transitions import create_job
from service.failpoints import failpoint
from service.http.auth import Identity
from service.http.dependencies import Services
from service.http.errors import Problem
from service.settings import Settings

MOST_KEY: Final = 255
_TRIES: Final = 3
_LONGEST_WAIT_S: Final = 10.0
_writing: Final = threading.Lock()
_RETRY: Final = {"Retry-After": "10"}


def request_digest(method: str, path: str, body: Any) -> str:
    """Hash of what was asked, so that a key is not used for two different requests."""
    text = json.dumps([method, path, body], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def one_writer(engine: Engine) -> Iterator[None]:
    """Let this process's writers to SQLite wait in line: left to its own polling, SQLite makes the unlucky
    wait for seconds.

    Raises Problem `db_busy` after ten seconds in line.
    """
    # PostgreSQL lets writers in side by side; a line would only cost.
    if engine.dialect.name != "sqlite":
        yield
        return
    if not _writing.acquire(timeout=_LONGEST_WAIT_S):
        raise Problem("db_busy", "many requests write at once; try again in a moment", headers=_RETRY)
    try:
        yield
    finally:
        _writing.release()


def check_key(key: str | None) -> None:
    """Raises Problem `bad_header` for an Idempotency-Key that cannot be one."""
    if key is not None and not (1 <= len(key) <= MOST_KEY and key.isascii() and key.isprintable()):
        raise Problem("bad_header", f"Idempotency-Key must be 1 to {MOST_KEY} printable ASCII characters")


def check_quota(session: Session, tenant_id: str, settings: Settings) -> None:
    """Raises Problem `quota` or `queue_full`."""
    if job_rows.count_active(session, tenant_id) >= settings.max_active_jobs:
        detail = (
            f"at most {settings.max_active_jobs} jobs may be queued or running; wait for one to end, or "
            "cancel one"
        )
        raise Problem("quota", detail, headers=_RETRY)
    if job_rows.count_active(session) >= settings.max_active_jobs_in_all:
        raise Problem("queue_full", "try again later", headers=_RETRY)


def submit(services: Services, session: Session, tenant_id: str, kind: str, request: Fields) -> Job:
    """A queued job in the caller's transaction. Raises Problem `quota` or `queue_full`."""
    check_quota(session, tenant_id, services.settings)
    job = create_job(session, tenant_id=tenant_id, kind=kind, request=request)
    services.queue.submit(session, job)
    return job


def once(
    services: Services, caller: Identity, key: str | None, digest: str, action: Callable[[Session], Job]
) -> Job:
    """Do `action` in a transaction, once for each Idempotency-Key: the same key gives the same job for 24
    hours.

    Raises Problem `key_reused` where the key came with another request before.
    """
    check_key(key)
    for attempt in range(_TRIES):
        try:
            # The key is written in the same transaction as the job: a crash leaves both or neither.
            with one_writer(services.engine), services.sessions.begin() as session:
                known = None if key is None else _known(session, caller.tenant_id, key, digest)
                if known is not None:
                    return known
                job = action(session)
                if key is not None:
                    job_rows.remember(session, caller.tenant_id, key, digest, job.id)
                failpoint("request.written")
            failpoint("request.committed")
            return job
        except Conflict:
            # Another request with this key was faster; the next round finds its job.
            if key is None or attempt == _TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _known(session: Session, tenant_id: str, key: str, digest: str) -> Job | None:
    answered = job_rows.answered(session, tenant_id, key)
    if answered is None:
        return None
    if answered.request_digest != digest:
        raise Problem("key_reused", "take a new key for a new request")
    return job_rows.get(session, tenant_id, answered.job_id)
