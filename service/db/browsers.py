"""Queries about browser sessions and the one-time links that open them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from service.db.models import ApiKey, BrowserSession, LoginLink, new_id, now


def add_link(session: Session, key_id: str, digest: bytes, expires_at: datetime) -> None:
    """Remember a link; those of the key that nobody can use any more are forgotten."""
    session.execute(delete(LoginLink).where(LoginLink.key_id == key_id, LoginLink.expires_at < now()))
    session.add(LoginLink(digest=digest, key_id=key_id, expires_at=expires_at))


def spend_link(session: Session, digest: bytes) -> str | None:
    """Id of the key that a link stands for, once and in time; else None. Of two at the same moment one gets
    it."""
    usable = update(LoginLink).where(
        LoginLink.digest == digest, LoginLink.used_at.is_(None), LoginLink.expires_at > now()
    )
    return (
        session.connection()
        .execute(usable.values(used_at=now()).returning(LoginLink.key_id))
        .scalar_one_or_none()
    )


def add(session: Session, key_id: str, cookie: bytes, proof: bytes, expires_at: datetime) -> BrowserSession:
    """A new session; ended ones of the key are forgotten."""
    session.execute(
        delete(BrowserSession).where(BrowserSession.key_id == key_id, BrowserSession.expires_at < now())
    )
    row = BrowserSession(
        id=new_id("bro"), key_id=key_id, cookie_digest=cookie, proof_digest=proof, expires_at=expires_at
    )
    session.add(row)
    session.flush()
    return row


def with_key(session: Session, cookie: bytes) -> tuple[BrowserSession, ApiKey] | None:
    """The session of a cookie and the key that it acts for."""
    query = select(BrowserSession, ApiKey).join(ApiKey, ApiKey.id == BrowserSession.key_id)
    row = session.execute(query.where(BrowserSession.cookie_digest == cookie)).one_or_none()
    return None if row is None else (row[0], row[1])


def expires_at(session: Session, session_id: str) -> datetime | None:
    """When a session ends; None where there is none of that id."""
    return session.scalar(select(BrowserSession.expires_at).where(BrowserSession.id == session_id))


def end(session: Session, session_id: str) -> None:
    """End a session; ending it twice changes nothing."""
    statement = update(BrowserSession).where(BrowserSession.id == session_id)
    session.execute(statement.values(ended_at=func.coalesce(BrowserSession.ended_at, now())))


def open_of_keys(session: Session, key_ids: Sequence[str]) -> dict[str, int]:
    """How many open sessions each key has."""
    open_ = (BrowserSession.ended_at.is_(None), BrowserSession.expires_at > now())
    query = select(BrowserSession.key_id, func.count()).where(BrowserSession.key_id.in_(key_ids), *open_)
    return {row[0]: row[1] for row in session.execute(query.group_by(BrowserSession.key_id))}
