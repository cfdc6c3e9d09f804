"""Real Chromium against a real server. Every page that a test opens must stay without a complaint of the
browser."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy.orm import Session, sessionmaker

from service.cli.demo import tended
from service.cli.open import login_address
from service.cli.supervisor import Stack
from service.client import BespokeClient, find_access
from service.db import keys as key_rows
from service.db import supernets as supernet_rows
from service.db.models import now
from service.db.session import create_db_engine, session_factory
from service.startup import OWNER
from tests.conftest import admin
from tests.service.api import CONTEXT, SPACE, predictor, table_rows
from tests.ui.hands import Hands

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.browser


@cache
def _sessions(url: str) -> sessionmaker[Session]:
    return session_factory(create_db_engine(url))


@dataclass
class Site:
    """A running service with two devices, their tables and a supernet, and a key to it."""

    url: str
    data_dir: Path
    supernet_id: str = ""
    database_url: str = ""

    def client(self) -> BespokeClient:
        return BespokeClient.from_access(find_access(self.url, data_dir=self.data_dir))

    def login(self) -> str:
        with self.client() as service:
            return login_address(service)

    def key(self) -> str:
        return (self.data_dir / "owner.key").read_text().strip()

    def database(self) -> Session:
        return _sessions(self.database_url or f"sqlite:///{self.data_dir / 'bespoke.db'}")()

    def hands(self) -> Hands:
        return Hands(self.database, self.data_dir)


@contextmanager
def running(
    folder: Path, database_url: str = "", port: int = 0, workers: int = 0, **settings: object
) -> Iterator[Stack]:
    """A service of its own process, its settings in the environment as an operator gives them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BESPOKE_URL", "BESPOKE_KEY", "BESPOKE_DATABASE_URL"):
            patch.delenv(name, raising=False)
        if database_url:
            patch.setenv("BESPOKE_DATABASE_URL", database_url)
        for name, value in settings.items():
            patch.setenv(f"BESPOKE_{name.upper()}", str(value))
        made = Stack(folder, port=port, workers=workers, log_dir=folder / "logs")
        with tended(made) if workers else made as stack:
            yield stack


def furnished(stack: Stack, folder: Path, database_url: str = "") -> Site:
    """The same with two devices, their tables and a supernet."""
    made = Site(stack.url, folder, database_url=database_url)
    with made.client() as service:
        for name, factor in (("phone", 1.0), ("board", 5.0)):
            service.add_device(name, CONTEXT, "from a test")
            rows = [{**row, **{k: row[k] * factor for k in row if k.endswith("_ms")}} for row in table_rows()]
            service.call("POST", f"/v1/devices/{name}/tables", json={"context": CONTEXT, "rows": rows})
    with made.database() as session, session.begin():
        made.supernet_id = add_supernet(session)
    return made


def add_supernet(session: Session, seed: int = 0) -> str:
    """A supernet as a worker leaves it behind."""
    tenant = key_rows.tenant_named(session, OWNER)
    assert tenant is not None
    row = supernet_rows.find_or_add(
        session, tenant.id, f"{seed:064x}", space=SPACE.name, dataset="digits", recipe="quick", seed=seed, classes=10
    )  # fmt: skip
    row.predictor, row.weights_sha256, row.ready_at = predictor().to_json(), "0" * 64, now()
    row.summary = {
        name: {"accuracy": accuracy, "architecture": SPACE.to_json(pick())}
        for name, accuracy, pick in (("largest", 0.98, SPACE.largest), ("smallest", 0.9, SPACE.smallest))
    }
    return row.id


@pytest.fixture(scope="session")
def empty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A service that has just been started for the first time; without a worker."""
    folder = tmp_path_factory.mktemp("ui")
    with running(folder) as stack:
        yield Site(stack.url, folder)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ui")
    with running(folder) as stack:
        yield furnished(stack, folder)


BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@contextmanager
def rows_in(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a service keeps its rows: its own SQLite file (empty text), or a PostgreSQL database of its own."""
    if kind == "sqlite":
        yield ""
        return
    server, template = (
        request.getfixturevalue("postgres_server"),
        request.getfixturevalue("postgres_template"),
    )
    name = f"bespoke_ui_{secrets.token_hex(6)}"
    admin(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.set(database=name).render_as_string(hide_password=False)
    admin(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture(scope="module", params=BOTH)
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The database of the module's own service."""
    with rows_in(request.param, request) as url:
        yield url


@pytest.fixture(params=BOTH)
def own_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database for a service that the test starts and stops itself."""
    with rows_in(request.param, request) as url:
        yield url


@pytest.fixture(scope="module")
def place(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A furnished service on each database; an agent that falls silent is missed after three seconds."""
    folder = tmp_path_factory.mktemp("ui")
    with running(folder, database, agent_present_s=3) as stack:
        yield furnished(stack, folder, database)


# Not for the whole session: while it runs, no other test of this process can start an event loop of its own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not here; .ci/run installs it")
        pytest.skip("Chromium is not here: `apt-get install chromium`")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@dataclass
class Watched:
    """A tab and what the browser complained of."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()


@pytest.fixture
def tab(browser: Any) -> Iterator[Callable[..., Watched]]:
    """Opens tabs. A console error, a request that failed or one to another host fails the test, what it
    expects aside."""
    opened: list[tuple[Any, Watched]] = []

    def open_tab(
        site: Site, *, log_in: bool = True, expected: tuple[str, ...] = (), **options: Any
    ) -> Watched:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        page = context.new_page()
        page.set_default_timeout(45_000)
        watched = Watched(page, expected=expected)
        host = urlsplit(site.url).netloc
        page.on("console", lambda m: watched.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: watched.complaints.append(str(e)))
        page.on("request", lambda r: _outside(r.url, host, watched.complaints))
        opened.append((context, watched))
        page.goto(site.login() if log_in else f"{site.url}/ui/")
        if log_in:
            page.get_by_role("button", name="log out").wait_for()
        return watched

    yield open_tab
    for context, watched in opened:
        context.close()
        serious = [c for c in watched.complaints if not any(text in c for text in watched.expected)]
        assert not serious, serious


def _outside(url: str, host: str, complaints: list[str]) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https") and parts.netloc != host:
        complaints.append(f"a request to {parts.netloc}")


def shoot(page: Any, name: str) -> None:
    """Keep a screenshot where somebody wants to look at them."""
    folder = os.environ.get("UI_SCREENSHOTS")
    if folder:
        page.screenshot(path=str(Path(folder) / f"{name}.png"))
