"""The real application over a real database, called in-process; nothing of it is replaced."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.engine import URL

from service.settings import Settings
from tests.conftest import admin
from tests.service.api import Api, open_api


@pytest.fixture
def make_api(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Api]]:
    """Makes servers. `database_url` is a SQLite file of its own unless given."""
    with ExitStack() as stack:

        def make(database_url: str | None = None, **settings: Any) -> Api:
            url = database_url or request.getfixturevalue("migrated_sqlite")
            made = Settings(data_dir=tmp_path / "data", database_url=url, log_level="error", **settings)
            return stack.enter_context(open_api(made))

        yield make


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """A server over SQLite."""
    return make_api()


@pytest.fixture(scope="session")
def shared_postgres(postgres_server: URL, postgres_template: str) -> Iterator[str]:
    """A database that is emptied, not made anew, for each test: making one takes seconds on a busy
    machine."""
    name = f"bespoke_shared_{secrets.token_hex(6)}"
    admin(postgres_server, f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    yield postgres_server.set(database=name).render_as_string(hide_password=False)
    admin(postgres_server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Both databases, migrated and empty; no other process may use them when the test ends."""
    if request.param == "sqlite":
        url: str = request.getfixturevalue("migrated_sqlite")
        return url
    url = request.getfixturevalue("shared_postgres")
    _empty(url)
    return url


def _empty(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        found = inspect(connection)
        tables = [f'"{name}"' for name in found.get_table_names() if name != "alembic_version"]
        tables += [
            f'dbos."{name}"' for name in found.get_table_names(schema="dbos") if "migrations" not in name
        ]
        connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE"))
    engine.dispose()


@pytest.fixture
def both(make_api: Callable[..., Api], database_url: str) -> Api:
    """A server over SQLite, then one over PostgreSQL."""
    return make_api(database_url)
