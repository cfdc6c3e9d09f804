"""Keys and tenants. A key is shown once; what is kept is its SHA-256."""

from __future__ import annotations

from datetime import timedelta

from fastapi import APIRouter
from starlette.responses import Response

from service.db import browsers as browser_rows
from service.db import keys as key_rows
from service.db.faults import Conflict
from service.db.models import ApiKey
from service.http.auth import SCOPES, TENANT_SCOPES, create_key
from service.http.dependencies import Caller, Service
from service.http.errors import Problem, invalid, not_found
from service.http.guard import JSON, GuardedRoute, needs
from service.schemas.keys import (
    KeyCreated,
    KeyIn,
    KeyList,
    KeyView,
    TenantCreated,
    TenantIn,
    TenantList,
    TenantView,
)

router = APIRouter(route_class=GuardedRoute, tags=["keys"])


@router.post("/v1/keys", status_code=201, openapi_extra=needs("keys:write", JSON))
def create(body: KeyIn, services: Service, caller: Caller) -> KeyCreated:
    """A new key of the tenant, with some of the scopes of the key that asks."""
    scopes = frozenset(body.scopes)
    if not scopes <= set(SCOPES):
        raise invalid("/scopes", "unknown_scope", f"known scopes are {', '.join(SCOPES)}")
    # A key can hand on what it has, never more.
    if not scopes <= caller.scopes:
        lacking = sorted(scopes - caller.scopes)
        raise Problem(
            "insufficient_scope", f"the key that asks lacks {', '.join(lacking)} itself", scope=lacking[0]
        )
    expires_in = None if body.expires_in_days is None else timedelta(days=body.expires_in_days)
    with services.sessions.begin() as session:
        row, secret = create_key(session, caller.tenant_id, body.name, scopes, expires_in)
        return KeyCreated(**_view(row).model_dump(), key=secret)


@router.get("/v1/keys", openapi_extra=needs("keys:write"))
def listed(services: Service, caller: Caller) -> KeyList:
    """The tenant's keys, revoked ones too; never the secrets."""
    with services.sessions() as session:
        rows = key_rows.of_tenant(session, caller.tenant_id)
        browsers = browser_rows.open_of_keys(session, [row.id for row in rows])
        return KeyList(items=[_view(row, browsers.get(row.id, 0)) for row in rows])


@router.delete(
    "/v1/keys/{key_id}", status_code=204, response_class=Response, openapi_extra=needs("keys:write")
)
def revoke(key_id: str, services: Service, caller: Caller) -> Response:
    """Revoke a key: it stops within a second, for good."""
    with services.sessions.begin() as session:
        if not key_rows.revoke(session, caller.tenant_id, key_id):
            raise not_found("key")
    # At once here; other processes ask again within a second.
    services.authenticator.forget()
    return Response(status_code=204)


@router.post("/v1/tenants", status_code=201, openapi_extra=needs("tenants:write", JSON))
def create_tenant(body: TenantIn, services: Service) -> TenantCreated:
    """A new tenant with its first key, which has every scope a tenant can have."""
    try:
        with services.sessions.begin() as session:
            tenant = key_rows.add_tenant(session, body.name)
            _, secret = create_key(session, tenant.id, "first", frozenset(TENANT_SCOPES))
    except Conflict:
        raise Problem("already_exists", "a tenant of that name exists; take another name") from None
    return TenantCreated(id=tenant.id, name=tenant.name, created_at=tenant.created_at, key=secret)


@router.get("/v1/tenants", openapi_extra=needs("tenants:write"))
def tenants(services: Service) -> TenantList:
    """All tenants."""
    with services.sessions() as session:
        rows = key_rows.tenants(session)
    return TenantList(items=[TenantView(id=t.id, name=t.name, created_at=t.created_at) for t in rows])


def _view(row: ApiKey, sessions: int = 0) -> KeyView:
    return KeyView(
        id=row.id,
        name=row.name,
        scopes=row.scopes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        sessions=sessions,
    )
