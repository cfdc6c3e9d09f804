"""HTTP to the service: bounded answers, no redirects, endless patience with a network that is away."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import httpx

from latency_tables.agent import protocol
from latency_tables.agent.connection import by_proxy, open_client
from latency_tables.agent.errors import (
    DeviceChanged,
    HostileServer,
    Refused,
    SessionClosed,
    StaleTask,
    UnknownField,
    Unreachable,
)

MAX_JSON_BYTES: Final = 4 * 2**20
DOWNLOAD_S: Final = 600.0
UNKNOWN_FIELD: Final = "unknown_field"
_AWAY: Final = (408, 425, 429, 500, 502, 503, 504)


class Client:
    """One service. Every call is retried with jittered back-off until `patience_s` is over (None: for
    ever)."""

    def __init__(
        self,
        server: str,
        agent_key: str | None = None,
        patience_s: float | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not server.startswith(("http://", "https://")):
            raise Refused("the service's URL must begin with http:// or https://")
        self._http = open_client(server, follow_redirects=False, timeout=30.0, transport=transport)
        self._way = by_proxy(server)
        self._patience_s, self._sleep, self._report = patience_s, sleep, report
        self.agent_key = agent_key

    def close(self) -> None:
        self._http.close()

    def enrol(
        self, token: str, context: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> protocol.Enrolment:
        """Spend the one-time token; afterwards this client is the agent of that device."""
        body = {"token": token, "context": dict(context), "environment": dict(environment)}
        enrolment = protocol.enrolment_from(self._json("POST", "/v1/agent/enrol", body))
        self.agent_key = enrolment.agent_key
        return enrolment

    def plan(self, limit: int) -> protocol.Plan:
        """The next tasks; also the sign of life."""
        return protocol.plan_from(self._json("GET", f"/v1/agent/tasks?limit={limit}", None))

    def alive(self) -> None:
        """A sign of life while measuring: tried once, and a service that is away does not matter."""
        try:
            self._once("GET", "/v1/agent/tasks?limit=1", None, MAX_JSON_BYTES, 5.0)
        except Unreachable:
            return

    def post(self, body: Mapping[str, Any]) -> int:
        """Post results; the same body may be posted again. Returns how many were accepted."""
        answer = self._json("POST", "/v1/agent/measurements", body)
        accepted = answer.get("accepted") if isinstance(answer, dict) else None
        if type(accepted) is not int:
            raise HostileServer("the service did not say how many results it accepted")
        return accepted

    def download(self, file: protocol.File) -> bytes:
        """The bytes of a file. Raises HostileServer where size or hash is not what was announced."""
        data = self._retrying("GET", f"/v1/agent/files/{file.sha256}", None, file.size_bytes, DOWNLOAD_S)
        if len(data) != file.size_bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            raise HostileServer(
                "a file is not the one that was announced (its SHA-256 differs); nothing of it was opened"
            )
        return data

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        data = self._retrying(method, path, body, MAX_JSON_BYTES, 60.0)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise HostileServer(
                "the service's answer is not JSON; is the URL that of a bespoke service?"
            ) from None

    def _retrying(
        self, method: str, path: str, body: Mapping[str, Any] | None, most_bytes: int, most_s: float
    ) -> bytes:
        waited, attempt = 0.0, 0
        while True:
            try:
                return self._once(method, path, body, most_bytes, most_s)
            except Unreachable as error:
                if self._patience_s is not None and waited >= self._patience_s:
                    raise
                # Jittered: a service that comes back must not meet all of its agents in the same second.
                pause = random.uniform(0.5, 1.0) * min(30.0, 0.5 * 2**attempt)
                if attempt in (1, 4) or attempt % 20 == 19:
                    self._report(f"the service is away ({error}); trying again")
                self._sleep(pause)
                waited, attempt = waited + pause, attempt + 1

    def _once(
        self, method: str, path: str, body: Mapping[str, Any] | None, most_bytes: int, most_s: float
    ) -> bytes:
        headers = (
            {"Accept": "*/*"} if self.agent_key is None else {"Authorization": f"Bearer {self.agent_key}"}
        )
        deadline = time.monotonic() + most_s
        try:
            with self._http.stream(method, path, json=body, headers=headers) as response:
                # What was announced bounds the file; a problem that comes in its place has a size of its own.
                data = _read(response, most_bytes if response.is_success else MAX_JSON_BYTES, deadline)
        except httpx.TransportError as error:
            raise Unreachable(type(error).__name__ + self._way) from error
        except httpx.DecodingError:
            raise HostileServer("the service's answer cannot be decoded") from None
        if not response.is_success:
            _raise_for(response.status_code, data)
        return data


def _read(response: httpx.Response, most_bytes: int, deadline: float) -> bytes:
    """The body, never more than `most_bytes` (decoded, so that a compressed answer cannot blow up)."""
    chunks, size = [], 0
    for chunk in response.iter_bytes(65_536):
        size += len(chunk)
        if size > most_bytes:
            raise HostileServer("the service sent more bytes than were announced")
        if time.monotonic() > deadline:
            raise Unreachable("too slow")
        chunks.append(chunk)
    return b"".join(chunks)


def _raise_for(status: int, data: bytes) -> NoReturn:
    if 300 <= status < 400:
        raise HostileServer(
            "the service redirects; the agent follows no redirects, give it the service's own URL"
        )
    if status in _AWAY:
        raise Unreachable(f"status {status}")
    kind, detail, codes = _problem(data)
    if kind.endswith("session_closed"):
        raise SessionClosed("the session is over; ask for a new enrolment token and start the agent with it")
    if kind.endswith("device_changed"):
        raise DeviceChanged("the service saw that the device changed; ask for a new enrolment token")
    if kind.endswith(("nonce", "wrong_task")):
        raise StaleTask("the tasks were issued anew, answered or withdrawn meanwhile")
    if UNKNOWN_FIELD in codes:
        raise UnknownField(f"the service does not know a field that was sent. {detail}".strip())
    if status in (401, 403):
        raise Refused(f"the service does not know this agent, or its key was revoked. {detail}".strip())
    raise Refused(f"the service refused with status {status}. {detail}".strip())


def _problem(data: bytes) -> tuple[str, str, set[str]]:
    """(type, detail, codes of its errors)"""
    try:
        problem = json.loads(data)
    except (ValueError, RecursionError):
        return "", "", set()
    if not isinstance(problem, dict):
        return "", "", set()
    errors = problem.get("errors")
    codes = {str(e.get("code")) for e in errors if isinstance(e, dict)} if isinstance(errors, list) else set()
    detail = "".join(c if c.isprintable() else " " for c in str(problem.get("detail", "")))
    return str(problem.get("type", "")), detail[:500], codes
