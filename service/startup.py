"""What happens when the API starts: refuse unsafe settings, migrate, make the owner key, open everything."""

from __future__ import annotations

import os
import re
import stat
import threading
from functools import partial
from pathlib import Path
from typing import Final

from latency_tables.errors import BespokeError
from latency_tables.files import whole
from service.artifacts import ArtifactStore
from service.bulletin import Bulletin
from service.db import jobs as job_rows
from service.db import keys as key_rows
from service.db.faults import Fault
from service.db.migrate import upgrade
from service.db.session import Session, Sessions, check_answers, create_db_engine, session_factory
from service.devices.price_book import PriceBook
from service.http.auth import SCOPES, Authenticator, create_key, digest_of, kind_of
from service.http.dependencies import Services
from service.http.limits import Limiter
from service.jobs.polls import Gathered
from service.jobs.queue import JobQueue
from service.settings import Settings

_PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]{1,100}){0,8}", re.ASCII)
OWNER: Final = "owner"
OWNER_KEY: Final = "owner.key"


class UnsafeSettings(BespokeError):
    """The settings would leave the service open, or cannot work; the message says what to change."""


def check_settings(settings: Settings) -> None:
    """Raises UnsafeSettings."""
    if not settings.loopback:
        if not settings.tls_proxy:
            raise UnsafeSettings(
                f"BESPOKE_HOST={settings.host} can be reached from other machines, and keys would travel in "
                "the clear: put a proxy that ends TLS before the API and set BESPOKE_TLS_PROXY=true, or bind "
                "127.0.0.1"
            )
        if not settings.allowed_hosts:
            raise UnsafeSettings(
                'set BESPOKE_ALLOWED_HOSTS to the names the API is called by, e.g. ["bespoke.example.org"]'
            )
    if any(not name or "*" in name for name in settings.allowed_hosts):
        raise UnsafeSettings("BESPOKE_ALLOWED_HOSTS takes whole names, no wildcards")
    if not _PREFIX.fullmatch(settings.root_path):
        raise UnsafeSettings(
            "BESPOKE_ROOT_PATH must begin with / and not end with it, in plain characters, such as /nas"
        )
    if "*" in settings.trusted_proxies:
        raise UnsafeSettings("BESPOKE_TRUSTED_PROXIES must name the proxies, not *")
    url = settings.resolved_database_url
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise UnsafeSettings("BESPOKE_DATABASE_URL must be sqlite:///FILE or postgresql://USER@HOST/NAME")


def check_data_dir(folder: Path) -> None:
    """Make the data folder, 0700. Raises UnsafeSettings where others may write to it or read the owner
    key."""
    # For every file that is ever made here: keys, the database, artifacts.
    os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UnsafeSettings(
            f"the data folder {folder} cannot be made ({error.strerror}); set BESPOKE_DATA_DIR"
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnsafeSettings(
            f"the data folder {folder} cannot be written; give it to the user that runs the service"
        )
    if folder.stat().st_mode & stat.S_IWOTH:
        raise UnsafeSettings(f"everybody may write to the data folder {folder}; run `chmod 700 {folder}`")
    key = folder / OWNER_KEY
    if key.exists() and key.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UnsafeSettings(
            f"others may read the owner key {key}; run `chmod 600 {key}`, and revoke it if they did"
        )


def open_services(settings: Settings) -> Services:
    """Everything the routes work with. Raises UnsafeSettings; the database is migrated and has an owner."""
    check_settings(settings)
    check_data_dir(settings.data_dir)
    engine = create_db_engine(settings.resolved_database_url)
    try:
        upgrade(engine)
        sessions = session_factory(engine)
        queue = JobQueue(settings.resolved_database_url)
    except (Fault, OSError) as error:
        engine.dispose()
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise UnsafeSettings(
            f"the database cannot be opened or migrated: {reason}; check BESPOKE_DATABASE_URL"
        ) from error
    with sessions.begin() as session:
        ensure_owner(session, settings.data_dir / OWNER_KEY)
    ending = threading.Event()
    return Services(
        settings=settings,
        engine=engine,
        sessions=sessions,
        store=ArtifactStore(settings.data_dir / "artifacts"),
        queue=queue,
        prices=PriceBook(),
        authenticator=Authenticator(sessions),
        limiter=Limiter.of(settings),
        polls=Gathered(partial(job_rows.polled, engine)),
        bulletin=Bulletin(sessions, settings.agent_present_s, ending),
        ending=ending,
    )


def close_services(services: Services) -> None:
    services.queue.close()
    services.engine.dispose()


def ensure_owner(session: Session, place: Path) -> None:
    """The owner's tenant and key. A key file that is gone, or not of this database, gets a new key; the old
    ones are revoked."""
    tenant = key_rows.tenant_named(session, OWNER) or key_rows.add_tenant(session, OWNER)
    if place.exists():
        secret = place.read_text(encoding="ascii", errors="replace").strip()
        row = key_rows.by_digest(session, digest_of(secret)) if kind_of(secret) == "key" else None
        if row is not None and row.revoked_at is None:
            return
    # A key file that is gone may be in wrong hands.
    for old in key_rows.of_tenant(session, tenant.id):
        if old.name == OWNER and old.revoked_at is None:
            key_rows.revoke(session, tenant.id, old.id)
    _, secret = create_key(session, tenant.id, OWNER, frozenset(SCOPES))
    with whole(place) as file:
        file.write(f"{secret}\n".encode("ascii"))


def ready_checks(sessions: Sessions, store: ArtifactStore) -> dict[str, str]:
    """What `GET /readyz` shows: `ok` or what is wrong, for database and artifact store."""
    checks = {"database": "ok", "artifacts": "ok"}
    try:
        with sessions() as session:
            check_answers(session)
    except Fault:
        checks["database"] = "not reachable"
    if not os.access(store.root, os.W_OK | os.X_OK):
        checks["artifacts"] = "not writable"
    return checks
