"""Connections: one engine per process, SQLite made safe, PostgreSQL as it comes.

SQLite is opened with foreign keys on, a 10 s busy timeout and full synchronous writes. Below 3.51.3 the
rollback journal is used: write-ahead logging has a corruption race with several processes there.

Other rooms open transactions and hand their `Session` on; what a session is asked is written in this room
alone.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session, sessionmaker

__all__ = [
    "Engine",
    "Session",
    "Sessions",
    "check_answers",
    "create_db_engine",
    "session_factory",
]  # types that all rooms pass on

Sessions = sessionmaker[Session]
WAL_IS_SAFE = sqlite3.sqlite_version_info >= (3, 51, 3)
LONGEST_PAUSE_S = 30  # of a client within a transaction, on PostgreSQL
KEPT_OPEN = 32  # SQLite connections: one for each thread of the API; opening one costs ten reads
HAS_SUBSEC = sqlite3.sqlite_version_info >= (3, 42)


def _unixepoch(*arguments: str) -> float | int:
    return time.time() if arguments == ("subsec",) else int(time.time())


def prepare_sqlite(connection: Any) -> None:
    """Settings of one SQLite connection; also used for the connections that the job engine opens."""
    if not HAS_SUBSEC:  # the job engine asks for unixepoch('subsec')
        connection.create_function("unixepoch", -1, _unixepoch)
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA busy_timeout = 10000")
    # A commit that was acknowledged survives a power cut; NORMAL would lose the last ones.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA journal_mode = {'WAL' if WAL_IS_SAFE else 'DELETE'}")
    cursor.close()


@event.listens_for(Engine, "connect")
def _on_connect(connection: Any, _record: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        prepare_sqlite(connection)


def create_db_engine(url: str) -> Engine:
    """An engine for a SQLAlchemy URL (`sqlite:///FILE` or `postgresql+psycopg://…`)."""
    if url.startswith("sqlite"):
        return create_engine(
            url, pool_size=KEPT_OPEN, connect_args={"timeout": 10, "check_same_thread": False}
        )
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=10,
        max_overflow=10,
        pool_timeout=5,
        connect_args={"connect_timeout": 5},
    )
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(connection: Any, _record: object) -> None:
    """A host that is lost in the middle of a transaction must not keep its locks until TCP gives up, which
    takes hours."""
    connection.execute(f"SET idle_in_transaction_session_timeout = '{LONGEST_PAUSE_S}s'")
    connection.commit()


def session_factory(engine: Engine) -> Sessions:
    # Rows are read after their transaction, as values: asking for them again would open another one.
    return sessionmaker(engine, expire_on_commit=False)


def check_answers(session: Session) -> None:
    """Raises Fault where the database is away, or has none of our tables."""
    session.execute(text("SELECT 1 FROM tenants LIMIT 1"))
