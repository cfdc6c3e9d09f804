"""Databases for every test that needs one: SQLite files and PostgreSQL databases of a random name, both
migrated.

PostgreSQL is looked for at BESPOKE_TEST_POSTGRES_URL, else on 127.0.0.1. Without a server these tests are
skipped, loudly; with CI=true they fail.
"""

from __future__ import annotations

import getpass
import math
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

HERE = Path(__file__).parent

# Threads that wait must not spin: tests start many processes on few cores (worker/compute/child.py says the
# same of children).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# A process for each core already, with test files of their own: threads of torch would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests run beside each other, so no agent finds a quiet device: it need not look for one as long as it does
# for users.
os.environ.setdefault("BESPOKE_AGENT_SESSION_S", "3")


WAITING = ("ui", "reliability", "end_to_end")
"""Folders whose tests take long and mostly wait for other processes."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Half as many processes again as there are cores: while one waits for a browser, a database or a process
    that it has killed, another computes."""
    return max(2, math.ceil(1.5 * len(os.sched_getaffinity(0))))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests may take long where the machine does other things too; what they assert is no time. Files
    that wait begin first, so that none of them is left alone at the end."""
    items.sort(key=lambda item: item.path.relative_to(HERE).parts[0] not in WAITING)
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3600))


def admin(url: URL, statement: str) -> None:
    """Run a statement outside of any transaction."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3})
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> URL:
    """A server on which databases may be made; its `postgres` database."""
    given = os.environ.get("BESPOKE_TEST_POSTGRES_URL", "")
    given = given.replace("postgresql://", "postgresql+psycopg://", 1)
    users = dict.fromkeys(("postgres", getpass.getuser()))
    candidates = (
        [given] if given else [f"postgresql+psycopg://{user}@127.0.0.1:5432/postgres" for user in users]
    )
    reasons = []
    for candidate in candidates:
        try:
            admin(make_url(candidate), "SELECT 1")
        except OperationalError as error:
            reasons.append(str(error.orig).strip().splitlines()[0])
        else:
            return make_url(candidate)
    message = f"no PostgreSQL server for the tests ({'; '.join(reasons)}); set BESPOKE_TEST_POSTGRES_URL"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def _url(server: URL, name: str) -> str:
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: URL) -> Iterator[str]:
    """Name of a migrated, empty database that others are copied from."""
    name = f"bespoke_template_{secrets.token_hex(6)}"
    admin(postgres_server, f"CREATE DATABASE {name}")
    try:
        _migrate(_url(postgres_server, name))
        yield name
    finally:
        admin(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file that others are copied from."""
    place = tmp_path_factory.mktemp("template") / "bespoke.db"
    _migrate(f"sqlite:///{place}")
    return place


def _migrate(url: str) -> None:
    from service.db.migrate import upgrade
    from service.db.session import create_db_engine
    from service.jobs.queue import migrate_engine_tables

    engine = create_db_engine(url)
    upgrade(engine)
    engine.dispose()
    migrate_engine_tables(url)


@pytest.fixture
def empty_postgres(postgres_server: URL) -> Iterator[str]:
    """URL of a PostgreSQL database with nothing in it."""
    name = f"bespoke_test_{secrets.token_hex(6)}"
    admin(postgres_server, f"CREATE DATABASE {name}")
    yield _url(postgres_server, name)
    admin(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def migrated_postgres(postgres_server: URL, postgres_template: str) -> Iterator[str]:
    """URL of a migrated PostgreSQL database of its own."""
    name = f"bespoke_test_{secrets.token_hex(6)}"
    admin(postgres_server, f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    yield _url(postgres_server, name)
    admin(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def migrated_sqlite(sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a migrated SQLite file of its own."""
    place = tmp_path / "bespoke.db"
    shutil.copyfile(sqlite_template, place)
    return f"sqlite:///{place}"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Both databases, migrated and empty; a test with this fixture runs on each."""
    url: str = request.getfixturevalue(
        "migrated_sqlite" if request.param == "sqlite" else "migrated_postgres"
    )
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases, without any table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    url: str = request.getfixturevalue("empty_postgres")
    return url
