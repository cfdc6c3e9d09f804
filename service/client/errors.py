"""What can go wrong between a program and the service, and a job as both see it.

BespokeError (latency_tables/errors.py)
└── ClientError            what a client of the API can meet
    ├── NoServer           no address is known, or nothing answers there
    ├── NoKey              no key is known for the server
    ├── ApiProblem         the service said no (carries status, title, detail, errors and further members)
    ├── JobUnfinished      a job ended otherwise than `succeeded` (carries the job)
    ├── NotInstalled       something that this needs is not installed here
    └── DamagedDownload    the bytes that came are not those of the SHA-256 on the model card
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latency_tables.errors import BespokeError
from service.client.jobs import Job, Json


class ClientError(BespokeError):
    """Root of what can go wrong between a client and the service."""


class NoServer(ClientError):
    """No address is known, or nothing answers there."""


class NoKey(ClientError):
    """No key is known for the server."""


class ApiProblem(ClientError):
    """The service refused; all that its problem document says."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.status = int(problem.get("status") or 0)
        self.title = str(problem.get("title") or "the service refused")
        self.detail = str(problem.get("detail") or "")
        self.errors: list[Json] = [e for e in problem.get("errors") or [] if isinstance(e, dict)]
        self.reachable_ms: Json | None = problem.get("reachable_ms")
        super().__init__(
            self.title + (f": {self.detail}" if self.detail and self.detail != self.title else "")
        )


class JobUnfinished(ClientError):
    """A job ended failed, cancelled or quarantined."""

    def __init__(self, job: Job) -> None:
        self.job = job
        reason = (job.error or {}).get("detail") or (job.error or {}).get("title") or "no reason was recorded"
        super().__init__(f"job {job.id} ended {job.state}: {reason}")


class DamagedDownload(ClientError):
    """The bytes that came are not those of the SHA-256 that was promised."""


class NotInstalled(ClientError):
    """Something that a call needs is not installed here."""
