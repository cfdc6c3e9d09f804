"""Keys, scopes and identities.

A secret is `bespoke_<kind>_` + 43 characters (256 random bits) + 6 characters of checksum. The database holds
its SHA-256 only; a fast hash is right for random secrets of that length. The checksum refuses typing errors
and noise before the database is asked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Literal

from service.db import agents as agent_rows
from service.db import keys as key_rows
from service.db.models import AgentSession, ApiKey, now
from service.db.session import Session, Sessions

Kind = Literal["key", "agent", "enrol"]
SCOPES: Final[dict[str, str]] = {
    "catalog:read": "search spaces, data sets, limits",
    "devices:read": "devices, latency tables, probe plans",
    "devices:write": "register devices, tables, probes; enrol agents; profile",
    "jobs:read": "jobs and their events, supernets, fronts",
    "jobs:write": "train supernets, search, cancel",
    "models:read": "model cards and ONNX files",
    "keys:write": "list, create and revoke keys of the tenant",
    "tenants:write": "create and list tenants",
    "metrics:read": "figures of the whole service for Prometheus",
}
OPERATOR_SCOPES: Final = ("tenants:write", "metrics:read")
TENANT_SCOPES: Final = tuple(s for s in SCOPES if s not in OPERATOR_SCOPES)
AGENT_SCOPE: Final = "agent"
PUBLIC: Final = "public"
REVOKED: Final = "revoked"
_FORM: Final = re.compile(r"bespoke_(key|agent|enrol)_([A-Za-z0-9_-]{43})([A-Za-z0-9_-]{6})", re.ASCII)
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_CACHE_S: Final = 1.0
_CACHED: Final = 4096


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    return "".join(_ALPHABET[(number >> shift) & 63] for shift in range(0, 36, 6))


def new_secret(kind: Kind) -> str:
    """A secret with 256 random bits."""
    body = f"bespoke_{kind}_{secrets.token_urlsafe(32)}"
    return body + _checksum(body)


def kind_of(secret: str) -> str | None:
    """Kind of a secret whose form and checksum are right, else None. Asks nothing but the text."""
    match = _FORM.fullmatch(secret)
    if match is None or not hmac.compare_digest(_checksum(secret[:-6]).encode(), match[3].encode()):
        return None
    return match[1]


def digest_of(secret: str) -> bytes:
    # No slow hash: these are 256 random bits, which no dictionary holds.
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True)
class Identity:
    """Who asks. `session_id` and `device_id` are an agent's; `closed` says why its session is over; `name`:
    of the key.

    `browser_id` is the session of a browser that acts for the key.
    """

    id: str
    tenant_id: str
    scopes: frozenset[str]
    device_id: str | None = None
    session_id: str | None = None
    closed: str | None = None
    name: str | None = None
    browser_id: str | None = None

    @property
    def agent(self) -> bool:
        return self.session_id is not None


@dataclass
class Authenticator:
    """Turns a presented secret into an identity. What it found is remembered for one second, so that a
    revoked key stops within one second on every process; `forget` makes that at once on this one.
    Thread-safe."""

    sessions: Sessions
    clock: Callable[[], float] = time.monotonic
    _known: dict[bytes, tuple[float, Identity | None]] = field(default_factory=dict)

    def remembered(self, secret: str) -> tuple[bool, Identity | None]:
        """(whether the answer is known without the database, the answer)."""
        # Typing errors and noise end here, without the database.
        if kind_of(secret) not in ("key", "agent"):
            return True, None
        return self.known(digest_of(secret))

    def look_up(self, secret: str) -> Identity | None:
        """Ask the database. None for a key that is unknown, expired or revoked."""
        digest = digest_of(secret)
        with self.sessions.begin() as session:
            identity = _agent(session, digest) if kind_of(secret) == "agent" else _key(session, digest)
        return self.remember(digest, identity)

    def known(self, digest: bytes) -> tuple[bool, Identity | None]:
        """(whether an answer is remembered for a digest, the answer)."""
        found = self._known.get(digest)
        if found is not None and self.clock() - found[0] < _CACHE_S:
            return True, found[1]
        return False, None

    def remember(self, digest: bytes, identity: Identity | None) -> Identity | None:
        """Keep an answer for a second."""
        # Cleared as a whole: it is right for a second only, and wrong keys must not fill the memory.
        if len(self._known) >= _CACHED:
            self._known.clear()
        self._known[digest] = (self.clock(), identity)
        return identity

    def forget(self) -> None:
        self._known.clear()


def _key(session: Session, digest: bytes) -> Identity | None:
    row = key_rows.by_digest(session, digest)
    if row is None or not hmac.compare_digest(row.digest, digest) or not valid(row):
        return None
    key_rows.touch_seldom(session, row)
    return Identity(row.id, row.tenant_id, frozenset(row.scopes), name=row.name)


def valid(row: ApiKey) -> bool:
    """Whether a key is good now."""
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now())


def _agent(session: Session, digest: bytes) -> Identity | None:
    # A closed session is still an identity, so that its agent is told why and not "unknown key".
    row = agent_rows.session_by_digest(session, digest)
    if row is None or not hmac.compare_digest(row.key_digest, digest) or row.closed_reason == REVOKED:
        return None
    return Identity(row.id, row.tenant_id, frozenset({AGENT_SCOPE}), row.device_id, row.id, _closed(row))


def _closed(row: AgentSession) -> str | None:
    if row.closed_at is not None:
        return row.closed_reason or "closed"
    return "expired" if row.expires_at <= now() else None


def create_key(
    session: Session, tenant_id: str, name: str, scopes: frozenset[str], expires_in: timedelta | None = None
) -> tuple[ApiKey, str]:
    """A new key: its row and the secret, which is never shown again."""
    secret = new_secret("key")
    expires_at = None if expires_in is None else now() + expires_in
    row = key_rows.add(session, tenant_id, name, digest_of(secret), sorted(scopes), expires_at)
    return row, secret
