"""Fixtures of the proofs. Every laboratory is examined by the doctor when its test ends."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.machinery import postgres
from tests.reliability.machinery.lab import REPOSITORY, Lab


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.PostgresServer]:
    reason = postgres.why_not()
    if reason is not None:
        pytest.skip(reason)
    with postgres.server() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """Both databases: "" is the SQLite file in the data folder."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_server").database()
    return url


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    """Makes laboratories; afterwards each is closed and examined."""
    made: list[Lab] = []

    def make(database_url: str = "", **settings: Any) -> Lab:
        made.append(Lab(tmp_path / f"lab{len(made)}", database_url, **settings))
        return made[-1]

    yield make
    for lab in made:
        lab.__exit__()
    for lab in made:
        assert lab.examine() == [], f"the doctor found damage (commit {commit()})"


@pytest.fixture
def lab(make_lab: Callable[..., Lab], database_url: str) -> Lab:
    return make_lab(database_url)


def commit() -> str:
    """What to check out in order to replay a failure."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
