"""Keys and tenants."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from service.schemas.strict import Answer, Name, Short, Strict, Time


class KeyIn(Strict):
    name: Short
    scopes: Annotated[list[Annotated[str, Field(max_length=32)]], Field(min_length=1, max_length=16)]
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None


class KeyView(Answer):
    """sessions: browsers that are logged in with the key."""

    id: str
    name: str
    scopes: list[str]
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None
    sessions: int = 0


class KeyCreated(KeyView):
    """`key` is shown here and never again."""

    key: str


class KeyList(Answer):
    items: list[KeyView]
    next: None = None


class TenantIn(Strict):
    name: Name


class TenantView(Answer):
    id: str
    name: str
    created_at: Time


class TenantCreated(TenantView):
    """With the tenant's first key, which is shown here and never again."""

    key: str


class TenantList(Answer):
    items: list[TenantView]
    next: None = None
