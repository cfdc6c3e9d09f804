"""Migrations: run at start-up by whichever process comes first, API or worker.

A lock keeps two processes from migrating at once. The job engine keeps its tables in the same database and
migrates them itself; `ours` hides them from Alembic, which would otherwise want to drop them.

A new migration: `python -m service.db.migrate "what changes"` writes it against an empty database; read it
before use.
"""

from __future__ import annotations

import fcntl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Engine, text

from service.db.models import Base
from service.db.session import create_db_engine

if TYPE_CHECKING:
    from alembic.config import Config

_FOLDER: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x6265_7370_6F6B_65  # any number, the same in every process: an advisory lock of PostgreSQL


def ours(name: str | None, kind: str, _parents: Any) -> bool:
    """Whether Alembic may see this: our own tables, and what belongs to them."""
    if kind == "schema":
        return name is None
    return kind != "table" or name in Base.metadata.tables


def upgrade(engine: Engine) -> None:
    """Bring the database to the newest version. Safe when several processes start at once."""
    from alembic import command  # noqa: PLC0415 - only at start-up

    with _locked(engine) as connection:
        command.upgrade(_config(connection), "head")


def differences(engine: Engine) -> list[Any]:
    """What the database has otherwise than the declared tables; empty when all is well."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415
    from alembic.migration import MigrationContext  # noqa: PLC0415

    with engine.connect() as connection:
        options = {"include_name": ours, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata))


def current(engine: Engine) -> str | None:
    """Version of the database, None before the first migration."""
    from alembic.migration import MigrationContext  # noqa: PLC0415

    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest() -> str | None:
    """Version that this code needs."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return ScriptDirectory(str(_FOLDER)).get_current_head()


def _config(connection: Connection | None = None) -> Config:
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


@contextmanager
def _locked(engine: Engine) -> Iterator[Connection]:
    """A connection in a transaction that no other migrating process has at the same time."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield connection
        return
    # SQLite has no advisory locks, and its own would be released by each change of a table.
    with Path(f"{engine.url.database}.migrating").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "BEGIN IMMEDIATE"
            )  # else the driver commits every change of a table by itself
            yield connection


def write_migration(message: str) -> None:
    """Write the next migration from what the declared tables have more than all migrations so far."""
    from alembic import command  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        engine = create_db_engine(f"sqlite:///{folder}/empty.db")
        upgrade(engine)
        number = len(list((_FOLDER / "versions").glob("[0-9]*.py"))) + 1
        with engine.begin() as connection:
            command.revision(_config(connection), message, autogenerate=True, rev_id=f"{number:04d}")
        engine.dispose()


if __name__ == "__main__":
    write_migration(sys.argv[1])
