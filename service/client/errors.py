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
from urllib.parse import unquote

from latency_tables.errors import BespokeError
from service.client.jobs import Job, Json


class ClientError(BespokeError):
    """Root of what can go wrong between a client and the service."""


class NoServer(ClientError):
    """No address is known, or nothing answers there."""


class NoKey(ClientError):
    """No key is known for the server."""


class ApiProblem(ClientError):
    """The service refused; all that its problem document says.

    path, query: of the request, with the names that the service never repeats: it says that there
    is no such device, we say which.
    """

    def __init__(
        self, problem: Mapping[str, Any], path: str = "", query: Mapping[str, Any] | None = None
    ) -> None:
        self.problem = dict(problem)
        self.status = int(problem.get("status") or 0)
        self.title = str(problem.get("title") or "the service refused")
        self.detail = str(problem.get("detail") or "")
        self.errors: list[Json] = [e for e in problem.get("errors") or [] if isinstance(e, dict)]
        self.reachable_ms: Json | None = problem.get("reachable_ms")
        self.kind, self.name = _named(self.detail, path, query or {}) if self.status == 404 else ("", "")
        if self.name:
            super().__init__(f"no such {self.kind}: {self.name}")
        else:
            super().__init__(
                self.title + (f": {self.detail}" if self.detail and self.detail != self.title else "")
            )


def _named(detail: str, path: str, query: Mapping[str, Any]) -> tuple[str, str]:
    """What is not there and the name by which it was asked for: of `/v1/devices/phone/tables` the device
    `phone`."""
    parts = [unquote(part) for part in path.split("/")[2:]]
    asked = {
        **query,
        **{kind.removesuffix("s"): name for kind, name in zip(parts[::2], parts[1::2], strict=False)},
    }
    kind = detail.removeprefix("no such ").partition(";")[0]
    return (kind, str(asked[kind])) if kind in asked else ("", "")


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
