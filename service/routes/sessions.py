"""Logging in with a browser: sessions of two halves, and one-time links that open them."""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import version

from anyio.to_thread import run_sync
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.db import browsers as browser_rows
from service.db import keys as key_rows
from service.db.models import ApiKey
from service.db.session import Session
from service.http import browsers
from service.http.auth import PUBLIC, Identity
from service.http.browsers import Opened
from service.http.dependencies import Caller, Service, Services
from service.http.errors import Problem
from service.http.guard import JSON, NOTHING, GuardedRoute, identify, needs, unauthenticated
from service.schemas.sessions import LinkView, SessionIn, SessionOpened, SessionView

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])


@router.post("/v1/sessions", status_code=201, response_model=SessionOpened, openapi_extra=needs(PUBLIC, JSON))
async def open_(body: SessionIn, request: Request, services: Service) -> Response:
    """Log a browser in, with a key in `Authorization` or with the token of a one-time link."""
    if not browsers.same_origin(request):
        raise Problem("insufficient_scope", "a browser logs in from the service's own page only")
    identity = None if body.token is not None else await _by_key(request, services)
    made = await run_sync(_opened, services, body.token, identity)
    if made is None:
        services.limiter.count_bad_key(request.client.host if request.client else "")
        raise unauthenticated("the link was used or is older than a minute; make another with `bespoke open`")
    opened, view = made
    answer = JSONResponse(SessionOpened(**view.model_dump(), proof=opened.proof).model_dump(mode="json"), 201)
    secure = services.settings.tls_proxy
    answer.set_cookie(
        browsers.cookie_name(services.settings, request),
        opened.cookie,
        max_age=int(browsers.LONGEST.total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )
    return answer


async def _by_key(request: Request, services: Services) -> Identity:
    """The key that asks. Raises Problem for a browser session or an agent: neither begets sessions."""
    identity = await identify(request, services)
    services.limiter.count_request(identity.id)
    if identity.agent or identity.browser_id is not None:
        raise Problem("insufficient_scope", "only a key or a one-time link opens a session")
    return identity


def _opened(
    services: Services, token: str | None, identity: Identity | None
) -> tuple[Opened, SessionView] | None:
    with services.sessions.begin() as session:
        key = (
            browsers.key_of_link(session, token or "")
            if identity is None
            else key_rows.by_id(session, identity.id)
        )
        if key is None:
            return None
        opened = browsers.open_session(session, key)
        return opened, _view(session, key, opened.expires_at)


def _view(session: Session, key: ApiKey, expires_at: datetime | None) -> SessionView:
    return SessionView(
        tenant=key_rows.tenant_name(session, key),
        key_id=key.id,
        key_name=key.name,
        scopes=list(key.scopes),
        expires_at=expires_at,
        version=version("bespoke-nas"),
    )


@router.post("/v1/sessions/links", status_code=201, openapi_extra=needs("catalog:read", NOTHING))
def link(services: Service, caller: Caller) -> LinkView:
    """A one-time link, good for a minute, that logs a browser in for the key that asks."""
    if caller.browser_id is not None:
        raise Problem("insufficient_scope", "a browser's session makes no links; ask with a key")
    with services.sessions.begin() as session:
        token = browsers.open_link(session, caller.id)
    return LinkView(token=token, expires_in_s=int(browsers.LINK_TTL.total_seconds()))


@router.get("/v1/sessions/current", openapi_extra=needs("catalog:read"))
def current(services: Service, caller: Caller) -> SessionView:
    """Whom the session, or the key, acts for: tenant, name of the key, scopes, expiry."""
    with services.sessions() as session:
        key = key_rows.by_id(session, caller.id)
        if key is None:
            raise unauthenticated("the key is not known here any more")
        browser_id = caller.browser_id
        return _view(
            session,
            key,
            key.expires_at if browser_id is None else browser_rows.expires_at(session, browser_id),
        )


@router.delete(
    "/v1/sessions/current", status_code=204, response_class=Response, openapi_extra=needs("catalog:read")
)
def log_out(request: Request, services: Service, caller: Caller) -> Response:
    """End the browser's session; its cookie and storage are cleared."""
    if caller.browser_id is None:
        raise Problem("conflict", "a key has no session; revoke the key to end it")
    with services.sessions.begin() as session:
        browser_rows.end(session, caller.browser_id)
    services.authenticator.forget()
    answer = Response(status_code=204, headers={"Clear-Site-Data": '"storage"'})
    answer.delete_cookie(
        browsers.cookie_name(services.settings, request), path="/", httponly=True, samesite="strict"
    )
    return answer
