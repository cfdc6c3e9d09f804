"""Queries about tenants and keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.db.models import ApiKey, Tenant, new_id, now

_USED_EVERY: Final = timedelta(minutes=1)


def by_id(session: Session, key_id: str) -> ApiKey | None:
    return session.get(ApiKey, key_id)


def tenant_name(session: Session, key: ApiKey) -> str:
    return session.get_one(Tenant, key.tenant_id).name


def by_digest(session: Session, digest: bytes) -> ApiKey | None:
    return session.scalar(select(ApiKey).where(ApiKey.digest == digest))


def touch_seldom(session: Session, row: ApiKey) -> None:
    """Note that a key was used, at most once a minute: a write for each request would cost more than the
    request."""
    if row.last_used_at is None or now() - row.last_used_at > _USED_EVERY:
        session.execute(update(ApiKey).where(ApiKey.id == row.id).values(last_used_at=now()))


def add(
    session: Session,
    tenant_id: str,
    name: str,
    digest: bytes,
    scopes: Sequence[str],
    expires_at: datetime | None,
) -> ApiKey:
    row = ApiKey(
        id=new_id("key"),
        tenant_id=tenant_id,
        name=name,
        digest=digest,
        scopes=list(scopes),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row


def of_tenant(session: Session, tenant_id: str) -> Sequence[ApiKey]:
    return session.scalars(
        select(ApiKey).where(ApiKey.tenant_id == tenant_id).order_by(ApiKey.created_at, ApiKey.id)
    ).all()


def get(session: Session, tenant_id: str, key_id: str) -> ApiKey | None:
    return session.scalar(select(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id))


def revoke(session: Session, tenant_id: str, key_id: str) -> bool:
    """Whether there was such a key; revoking twice changes nothing."""
    statement = update(ApiKey).where(ApiKey.tenant_id == tenant_id, ApiKey.id == key_id)
    return (
        session.connection()
        .execute(statement.values(revoked_at=func.coalesce(ApiKey.revoked_at, now())))
        .rowcount
        == 1
    )


def add_tenant(session: Session, name: str) -> Tenant:
    row = Tenant(id=new_id("ten"), name=name)
    session.add(row)
    session.flush()
    return row


def tenants(session: Session) -> Sequence[Tenant]:
    return session.scalars(select(Tenant).order_by(Tenant.created_at, Tenant.id)).all()


def tenant_named(session: Session, name: str) -> Tenant | None:
    return session.scalar(select(Tenant).where(Tenant.name == name))
