"""The gate before every route: who asks, may they, how often, and what do they send.

A route says with `needs(...)` which scope it wants; one without that fails when it is made, so nothing is
open by oversight. Keys are checked before a body is read, and a body is counted while it comes in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from typing import Any, Final

import anyio
from anyio.to_thread import run_sync
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.http import browsers, strict_json
from service.http.auth import AGENT_SCOPE, PUBLIC, SCOPES, Identity
from service.http.dependencies import Services
from service.http.errors import Problem, error, not_found

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
JSON: Final = "json"
TABLE: Final = "table"
DEVICE_FILE: Final = "device_file"
AGENT_POST: Final = "agent_post"
NOTHING: Final = "nothing"
_SCOPE: Final = "x-scope"
_BODY: Final = "x-body"
_SLOWEST_BYTES_PER_S: Final = 32_768
_TYPES: Final = {
    JSON: ("application/json",),
    TABLE: ("application/json", "text/csv"),
    DEVICE_FILE: ("application/json",),
    AGENT_POST: ("application/json",),
    NOTHING: ("application/json",),
}


def needs(scope: str, body: str | None = None, **openapi: Any) -> dict[str, Any]:
    """What `openapi_extra` of a route must hold: the scope it needs and the kind of body it reads.

    NOTHING takes no body, or an empty JSON object.
    """
    security: list[dict[str, list[str]]] = [] if scope == PUBLIC else [{"key": []}]
    return {_SCOPE: scope, _BODY: body, "security": security, **openapi}


class GuardedRoute(APIRoute):
    """A route behind the gate. Raises RuntimeError where it does not say which scope it needs."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        self.scope_needed: str = extra.get(_SCOPE, "")
        self.body_kind: str | None = extra.get(_BODY)
        # At the start and not at the first request: nothing is open by oversight.
        if self.scope_needed not in (*SCOPES, AGENT_SCOPE, PUBLIC):
            raise RuntimeError(f"route {path} declares no scope; give it openapi_extra=needs(...)")
        super().__init__(path, endpoint, **options)
        self._parameters = {p.alias for p in self.dependant.query_params}

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            services: Services = request.app.state.services
            identity = await self._admit(request, services)
            request.state.identity = identity
            self._check_path(request)
            self._check_query(request)
            slot = nullcontext() if identity is None else services.limiter.concurrency.slot(identity.id)
            with slot:
                return await inner(await self._with_body(request, services))

        return handle

    async def _admit(self, request: Request, services: Services) -> Identity | None:
        if self.scope_needed == PUBLIC:
            return None
        identity = await identify(request, services)
        # Counted before the scope is looked at: trying scopes out costs as much as using them.
        services.limiter.count_request(identity.id)
        if self.scope_needed not in identity.scopes:
            detail = f"this call needs a key with the scope {self.scope_needed}"
            raise Problem("insufficient_scope", detail, scope=self.scope_needed)
        if identity.closed is not None:
            raise Problem("session_closed", f"the session is over ({identity.closed}); enrol the agent again")
        return identity

    def _check_path(self, request: Request) -> None:
        """PostgreSQL refuses NUL in text, so nothing has such a name; it must not reach a query that others
        share."""
        if any("\x00" in str(value) for value in request.path_params.values()):
            raise not_found("name or id")

    def _check_query(self, request: Request) -> None:
        names = [name for name, _ in request.query_params.multi_items()]
        if set(names) - self._parameters:
            known = f"; known are {', '.join(sorted(self._parameters))}" if self._parameters else ""
            raise Problem(
                "validation",
                f"an unknown query parameter{known}",
                errors=[error("query", "unknown_field", "unknown")],
            )
        if len(names) != len(set(names)):
            raise Problem(
                "validation", "a query parameter twice", errors=[error("query", "duplicate", "given twice")]
            )
        # Starlette puts U+FFFD where the query is not UTF-8.
        if any("\x00" in value or "\ufffd" in value for value in request.query_params.values()):
            raise Problem(
                "validation",
                "a query parameter is not text",
                errors=[error("query", "text", "not UTF-8, or NUL")],
            )

    async def _with_body(self, request: Request, services: Services) -> Request:
        if self.body_kind is None:
            return request
        if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            raise Problem("unsupported_media_type", "bodies are taken as they are, without Content-Encoding")
        if self.body_kind != NOTHING:
            self._check_media_type(request)
        data = await read_body(request, self._limit(services), services.settings.read_deadline_s)
        if self.body_kind == NOTHING:
            if data.strip() not in (b"", b"{}", b"null"):
                raise Problem("validation", "this call takes no body, or an empty JSON object")
            data = b""
        return _ReadRequest(request, data, parse=self.body_kind in (JSON, AGENT_POST))

    def _check_media_type(self, request: Request) -> None:
        types = _TYPES[self.body_kind or JSON]
        name, _, parameters = request.headers.get("content-type", "").partition(";")
        charset = parameters.strip().lower().replace('"', "")
        if name.strip().lower() not in types or charset not in ("", "charset=utf-8", "header=present"):
            raise Problem(
                "unsupported_media_type",
                f"the body must be {' or '.join(types)}, in UTF-8",
                accepted=list(types),
            )

    def _limit(self, services: Services) -> int:
        settings = services.settings
        large = dict.fromkeys((TABLE, DEVICE_FILE), settings.max_table_bytes)
        limits = {**large, AGENT_POST: settings.max_agent_post_bytes}
        return limits.get(self.body_kind or JSON, settings.max_body_bytes)


async def identify(request: Request, services: Services) -> Identity:
    """Who asks. Raises Problem `unauthenticated`; `rate_limited` for an address that tries keys out."""
    # A key that is shown wins: a page's cookie must not change what a program's key may do.
    halves = browsers.halves_of(services.settings, request)
    if halves is not None and "authorization" not in request.headers:
        return await _identify_browser(request, services, halves)
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    secret = secret.strip()
    if not secret or scheme.lower() != "bearer":
        raise unauthenticated(
            "send `Authorization: Bearer KEY`; the owner key lies in the server's data folder"
        )
    known, identity = services.authenticator.remembered(secret)
    if not known:
        identity = await run_sync(services.authenticator.look_up, secret)
    if identity is None:
        services.limiter.count_bad_key(request.client.host if request.client else "")
        raise unauthenticated("the key is not known here, has expired or was revoked")
    return identity


async def _identify_browser(request: Request, services: Services, halves: browsers.Halves) -> Identity:
    known, identity = browsers.known(services.authenticator, halves)
    if not known:
        identity = await run_sync(browsers.look_up, services.authenticator, halves)
    if identity is None:
        services.limiter.count_bad_key(request.client.host if request.client else "")
        raise unauthenticated("the browser's session is over; log in again with `bespoke open` or a key")
    return identity


def unauthenticated(detail: str) -> Problem:
    return Problem("unauthenticated", detail, headers={"WWW-Authenticate": 'Bearer realm="bespoke"'})


async def read_body(request: Request, limit_bytes: int, deadline_s: float) -> bytes:
    """The whole body. Raises Problem `payload_too_large` at the first byte too many, `read_timeout` when it
    trickles."""
    too_large = Problem(
        "payload_too_large", f"at most {limit_bytes} bytes are taken here", limit_bytes=limit_bytes
    )
    # Refused by what is announced, so that nobody sends a gigabyte to learn it; what comes is counted all the
    # same.
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit_bytes:
        raise too_large
    parts, size, started = [], 0, time.monotonic()
    try:
        with anyio.fail_after(deadline_s) as scope:
            async for part in request.stream():
                size += len(part)
                if size > limit_bytes:
                    raise too_large
                parts.append(part)
                # A large body may take longer, but not longer than a slow line would need.
                scope.deadline = (
                    anyio.current_time()
                    - (time.monotonic() - started)
                    + deadline_s
                    + size / _SLOWEST_BYTES_PER_S
                )
    except TimeoutError:
        raise Problem("read_timeout", "the body came too slowly") from None
    except ClientDisconnect:
        raise Problem("malformed_body", "the body ended too early") from None
    return b"".join(parts)


class _ReadRequest(Request):
    """A request whose body is here already; JSON is parsed strictly."""

    def __init__(self, request: Request, data: bytes, parse: bool) -> None:
        super().__init__(request.scope, request.receive)
        self._body = data
        if parse:
            self._json = strict_json.loads(data)
