"""Browser sessions: a person who has shown a key, or a one-time link, goes on with two halves that are
worthless alone.

One half is a cookie that scripts cannot read; cookies are not kept apart by port, so other servers on this
host get it. The other is a proof in the page's storage, which is kept apart by port, sent in a header of our
own that no other origin can send. The key itself is never kept in the browser.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from service.db import browsers as rows
from service.db import keys as key_rows
from service.db.models import ApiKey, now
from service.db.session import Session
from service.http.auth import Authenticator, Identity, digest_of, valid
from service.settings import Settings

PROOF_HEADER: Final = "x-bespoke-proof"
LONGEST: Final = timedelta(hours=12)
LINK_TTL: Final = timedelta(seconds=60)
_LONGEST_HALF: Final = 64
_SAFE: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Opened:
    """A session just opened; `cookie` and `proof` are shown here and never again."""

    cookie: str
    proof: str
    expires_at: datetime
    key: ApiKey


@dataclass(frozen=True)
class Halves:
    """What a browser shows."""

    cookie: str
    proof: str

    @property
    def secret(self) -> str:
        """Both as one text, for remembering who it was."""
        return f"{self.cookie}.{self.proof}"


def cookie_name(settings: Settings, request: Request) -> str:
    """`__Host-bespoke` behind TLS; else with the port in it, since servers on one host share their
    cookies."""
    if settings.tls_proxy:
        return "__Host-bespoke"
    server = request.scope.get("server")
    return f"bespoke-{server[1] if server else settings.port}"


def halves_of(settings: Settings, request: Request) -> Halves | None:
    """Both halves of a request, where it may use them at all: sent by our own page, to us."""
    cookie = request.cookies.get(cookie_name(settings, request))
    proof = request.headers.get(PROOF_HEADER)
    if not cookie or not proof or max(len(cookie), len(proof)) > _LONGEST_HALF:
        return None
    return Halves(cookie, proof) if same_origin(request) else None


def same_origin(request: Request) -> bool:
    """Whether the browser says that our own page asks; what it does not say is not held against it."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("origin")
    return (
        request.method in _SAFE
        or origin is None
        or urlsplit(origin).netloc == request.headers.get("host", "")
    )


def open_link(session: Session, key_id: str) -> str:
    """A token for one log-in within a minute."""
    token = secrets.token_urlsafe(32)
    rows.add_link(session, key_id, digest_of(token), now() + LINK_TTL)
    return token


def key_of_link(session: Session, token: str) -> ApiKey | None:
    """The key that a token stands for, which is spent by asking; None for one that is used, late or
    unknown."""
    # Spent even where the key turns out to be bad: a link is good for one try.
    key_id = rows.spend_link(session, digest_of(token))
    row = None if key_id is None else key_rows.by_id(session, key_id)
    return row if row is not None and valid(row) else None


def open_session(session: Session, key: ApiKey) -> Opened:
    """A session in the name of a key, no longer than the key itself."""
    cookie, proof = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    expires_at = now() + LONGEST
    if key.expires_at is not None:
        expires_at = min(expires_at, key.expires_at)
    rows.add(session, key.id, digest_of(cookie), digest_of(proof), expires_at)
    return Opened(cookie, proof, expires_at, key)


def known(authenticator: Authenticator, halves: Halves) -> tuple[bool, Identity | None]:
    """(whether the answer is known without the database, the answer)."""
    return authenticator.known(digest_of(halves.secret))


def look_up(authenticator: Authenticator, halves: Halves) -> Identity | None:
    """Who a browser acts for. None where a half is wrong, the session is over or the key was revoked."""
    with authenticator.sessions.begin() as session:
        identity = _identity(session, halves)
    # Under both halves: one of them alone must never find the answer.
    return authenticator.remember(digest_of(halves.secret), identity)


def _identity(session: Session, halves: Halves) -> Identity | None:
    found = rows.with_key(session, digest_of(halves.cookie))
    if found is None:
        return None
    row, key = found
    if not hmac.compare_digest(row.proof_digest, digest_of(halves.proof)):
        return None
    if row.ended_at is not None or row.expires_at <= now() or not valid(key):
        return None
    key_rows.touch_seldom(session, key)
    return Identity(key.id, key.tenant_id, frozenset(key.scopes), browser_id=row.id, name=key.name)
