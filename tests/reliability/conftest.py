"""Fixtures of the proofs. Every laboratory is examined by the doctor when its test ends."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.reliability.machinery import postgres
from tests.reliability.machinery.lab import REPOSITORY, Lab
from tests.reliability.machinery.live import LiveApi
from tests.reliability.machinery.zygote import Zygote
from tests.service.api import Api, open_api


@pytest.fixture(scope="session")
def private_postgres() -> Iterator[postgres.PostgresServer]:
    """A server of our own, which tests may stop and crash."""
    reason = postgres.why_not()
    if reason is not None:
        pytest.skip(reason)
    with postgres.server() as server:
        yield server


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    made = Zygote(REPOSITORY)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def lab_database(request: pytest.FixtureRequest) -> str:
    """Both databases: "" is the SQLite file in the data folder."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("private_postgres").database()
    return url


@pytest.fixture
def make_lab(tmp_path: Path, sqlite_template: Path, zygote: Zygote) -> Iterator[Callable[..., Lab]]:
    """Makes laboratories; afterwards each is closed and examined."""
    made: list[Lab] = []

    def make(database_url: str = "", folder: Path | None = None, **settings: Any) -> Lab:
        folder = folder or tmp_path / f"lab{len(made)}"
        (folder / "data").mkdir(parents=True, mode=0o700)
        if not database_url:
            shutil.copyfile(sqlite_template, folder / "data" / "bespoke.db")
        made.append(Lab(folder, database_url, zygote=zygote, **settings))
        return made[-1]

    yield make
    for lab in made:
        lab.__exit__()
    for lab in made:
        assert lab.examine() == [], f"the doctor found damage (replay at commit {commit()})"


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A laboratory on SQLite."""
    return make_lab()


@pytest.fixture
def both_labs(make_lab: Callable[..., Lab], lab_database: str) -> Lab:
    """A laboratory on SQLite, then one on PostgreSQL."""
    return make_lab(lab_database)


@pytest.fixture(scope="module")
def shared_api(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Api]:
    """A server in-process, shared by the tests of a module; without limits of rate that many wrong calls
    would meet."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "data").mkdir(mode=0o700)
    shutil.copyfile(sqlite_template, folder / "data" / "bespoke.db")
    free = {"rate_per_s": 1e6, "rate_burst": 10**6, "bad_keys_per_s": 1e6, "bad_keys_burst": 10**6}
    with open_api(Settings(data_dir=folder / "data", log_level="error", **free)) as api:
        yield api


@pytest.fixture
def make_live(tmp_path: Path, sqlite_template: Path) -> Iterator[Callable[..., LiveApi]]:
    """Starts API processes, on a migrated SQLite file unless told otherwise."""
    made: list[LiveApi] = []

    def make(database_url: str = "", data_dir: Path | None = None, **environment: Any) -> LiveApi:
        folder = data_dir or tmp_path / f"live{len(made)}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not database_url and not (folder / "bespoke.db").exists():
            shutil.copyfile(sqlite_template, folder / "bespoke.db")
        live = LiveApi(folder, database_url, **environment)
        made.append(live)
        live.start()
        return live

    yield make
    for live in made:
        live.__exit__()


@pytest.fixture
def live(make_live: Callable[..., LiveApi]) -> LiveApi:
    return make_live()


def commit() -> str:
    """What to check out in order to replay a failure."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
