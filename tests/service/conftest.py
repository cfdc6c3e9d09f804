"""The real application over a real database, called in-process; nothing of it is replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
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


@pytest.fixture
def both(make_api: Callable[..., Api], database_url: str) -> Api:
    """A server over SQLite, then one over PostgreSQL."""
    return make_api(database_url)
