"""A real service for the command line: the API in its own process, without a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.cli.app import run
from service.cli.supervisor import Stack
from service.client import BespokeClient, find_access


@dataclass(frozen=True)
class Server:
    """A running API and its data folder."""

    url: str
    data_dir: Path

    def client(self) -> BespokeClient:
        return BespokeClient.from_access(find_access(self.url, data_dir=self.data_dir))


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    status: int
    out: str
    err: str


Bespoke = Callable[..., Outcome]


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server with nothing in it, whatever the environment says of others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("BESPOKE_URL", "BESPOKE_KEY", "BESPOKE_DATABASE_URL"):
            patch.delenv(name, raising=False)
        with Stack(folder, port=0, workers=0, log_dir=folder / "logs") as stack:
            yield Server(stack.url, folder)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Shared by the files of this folder; one that leaves more behind than devices makes a `server` of its own."""
    with serving(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.fixture
def bespoke(server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Bespoke:
    """Run a command against the server, in this process."""
    for name in ("BESPOKE_URL", "BESPOKE_KEY", "BESPOKE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        status = run(["--data-dir", str(server.data_dir), *map(str, arguments)])
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call
