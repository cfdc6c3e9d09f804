"""Where the service is, and the key to it: arguments, else the environment, else the data folder of a server
here.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from latency_tables.agent.connection import is_loopback
from service.client.errors import NoKey, NoServer


@dataclass(frozen=True)
class Access:
    """Where the service is and with which key to ask it."""

    url: str
    key: str


def find_access(url: str | None = None, key: str | None = None, data_dir: Path | None = None) -> Access:
    """Arguments first, then the environment, then the data folder. Raises NoServer or NoKey that say what to
    do.
    """
    folder = data_dir or Path(os.environ.get("BESPOKE_DATA_DIR") or "bespoke-data")
    found_url = url or os.environ.get("BESPOKE_URL") or _url_of(folder)
    if not found_url:
        raise NoServer(
            f"no server is known: {folder}/server.json is not there. Start one with `bespoke serve`, "
            "or name one with --url (or BESPOKE_URL)."
        )
    if urlsplit(found_url).scheme not in ("http", "https"):
        raise NoServer("the server's address must begin with http:// or https://")
    # The owner key of this machine's server is never sent to another machine.
    local = is_loopback(found_url) or found_url == _url_of(folder)
    found_key = key or os.environ.get("BESPOKE_KEY") or (_text(folder / "owner.key") if local else None)
    if not found_key and not local:
        raise NoKey(
            "no key is known for that server: give one with --key (or BESPOKE_KEY); its owner makes keys"
        )
    if not found_key:
        raise NoKey(
            f"no key is known: {folder}/owner.key is not there. Give one with --key (or BESPOKE_KEY); "
            "the owner of the server makes one with `bespoke keys create`."
        )
    return Access(found_url.rstrip("/"), found_key.strip())


def _url_of(folder: Path) -> str | None:
    try:
        url = json.loads(_text(folder / "server.json") or "{}").get("url")
    except (ValueError, AttributeError):
        return None
    return url if isinstance(url, str) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
