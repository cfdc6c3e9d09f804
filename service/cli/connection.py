"""Which server the command line talks to: the root options, kept for the one process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service.client import Access, BespokeClient, find_access


@dataclass(frozen=True)
class Connection:
    """The root options as given; `None` is looked up in the environment and the data folder."""

    url: str | None = None
    key: str | None = None
    data_dir: Path = Path("bespoke-data")

    def access(self) -> Access:
        return find_access(self.url, self.key, self.data_dir)

    def client(self) -> BespokeClient:
        return BespokeClient.from_access(self.access())


_current = Connection()


def choose(connection: Connection) -> None:
    """Called once by the root command, before any other."""
    global _current  # noqa: PLW0603 (one process runs one command)
    _current = connection


def current() -> Connection:
    return _current


def client() -> BespokeClient:
    """A client of the chosen server. Raises NoServer or NoKey that say what to do."""
    return _current.client()
