"""The outermost layer: request ids, host names, security headers, one log line and one count for each
request."""

from __future__ import annotations

import random
import re
import time
from typing import Any, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.errors import Problem, problem_of, problem_response
from service.settings import LOOPBACK, Settings
from service.telemetry import log, shown

_HOST: Final = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[^:\[\]]{1,255})(?::\d{1,5})?", re.ASCII)
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Gateway:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._hosts = {*LOOPBACK, "[::1]", *(name.lower() for name in settings.allowed_hosts)}
        self._hsts = settings.tls_proxy
        self._prefix = settings.root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        await _Call(self, scope, receive, send).run()

    def host_is_ours(self, headers: Headers) -> bool:
        """Whether the Host header names this service; anything else may be DNS rebinding."""
        match = _HOST.fullmatch(headers.get("host", "").lower())
        return match is not None and match[1] in self._hosts

    def dress(self, headers: MutableHeaders, request_id: str) -> None:
        """Headers that every answer has."""
        for name, value in _HEADERS.items():
            # Routes may say otherwise: the pages need scripts, files may be cached.
            headers.setdefault(name, value)
        if self._hsts:
            headers["Strict-Transport-Security"] = "max-age=31536000"
        headers["X-Request-Id"] = request_id
        location = headers.get("location", "")
        if self._prefix and location.startswith(
            "/"
        ):  # routes know their own paths; a caller needs the gateway's
            headers["Location"] = self._prefix + location


class _Call:
    """One request and its answer."""

    def __init__(self, gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
        self.gateway, self.scope, self.receive, self._send = gateway, scope, receive, send
        self.headers = Headers(scope=scope)
        asked = self.headers.get("x-request-id", "")
        # A name, not a secret: it needs no entropy of the system's, and no system call.
        self.request_id = asked if _REQUEST_ID.fullmatch(asked) else f"{random.getrandbits(64):016x}"
        self.status = 0
        self.started = time.perf_counter()

    async def run(self) -> None:
        state = self.scope.setdefault("state", {})
        state["request_id"] = self.request_id
        with structlog.contextvars.bound_contextvars(request_id=self.request_id):
            try:
                # Before anything else: a page of another site may have its name resolve to this address.
                if not self.gateway.host_is_ours(self.headers):
                    await self._refuse(
                        Problem("bad_host", "set BESPOKE_ALLOWED_HOSTS if this is the service's name")
                    )
                else:
                    await self.gateway.app(self.scope, self.receive, self.send)
            except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets a problem and the log the reason
                problem = problem_of(error)
                unforeseen = problem.code == "internal"
                log().error("failed", problem=problem.code, kind=type(error).__name__, exc_info=unforeseen)
                # An answer that has begun cannot become a problem; its connection breaks off.
                if not self.status:
                    await self._refuse(problem)
            finally:
                self._record()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.gateway.dress(MutableHeaders(scope=message), self.request_id)
        await self._send(message)

    async def _refuse(self, problem: Problem) -> None:
        await problem_response(problem, self.request_id)(self.scope, self.receive, self.send)

    def _record(self) -> None:
        seconds = time.perf_counter() - self.started
        route: Any = self.scope.get("route")
        # The pattern of the route, never the path: that is the caller's text, and one series for each in
        # Prometheus.
        path = getattr(route, "path", "unknown")
        state = self.scope["state"]
        identity = state.get("identity")
        services = getattr(self.scope["app"].state, "services", None) if "app" in self.scope else None
        if services is not None:
            services.telemetry.answered(self.scope["method"][:16], path, self.status, seconds)
        log().info(
            "request",
            method=shown(self.scope["method"]),
            route=path,
            status=self.status,
            ms=round(seconds * 1e3, 2),
            tenant=identity.tenant_id if identity else None,
            key=identity.id if identity else None,
            user_agent=shown(self.headers.get("user-agent", "")),
        )
