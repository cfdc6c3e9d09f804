"""The files of the web UI: read into memory once, named by the hash of them all; no path from a request
touches the disk."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from posixpath import dirname, join, normpath
from typing import Final

_TYPES: Final = {
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "html": "text/html; charset=utf-8",
    "LICENSE": "text/plain; charset=utf-8",
}
_FIRST: Final = ("app.js", "pages/home.js", "pages/front.js")
_IMPORT: Final = re.compile(r"""\bfrom ?["'](\.[^"']+)["']""")
SHELL: Final = "index.html"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src "
    "'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for "
    "'script'; trusted-types 'none'"
)


@dataclass(frozen=True)
class UiFile:
    """A file as it is served. zipped: the same, compressed with gzip."""

    data: bytes
    zipped: bytes
    media_type: str


@dataclass(frozen=True)
class UiFiles:
    """Everything that the browser gets. digest: of all files, so that each of their addresses stands for its
    content."""

    digest: str
    shell: bytes
    files: dict[str, UiFile]


@cache
def ui_files() -> UiFiles:
    """The files of this installation."""
    found = dict(sorted(_walk(files("service") / "ui", "")))
    whole = hashlib.sha256(b"".join(name.encode() + b"\0" + data for name, data in found.items()))
    digest = whole.hexdigest()[:10]
    preload = "\n".join(f'<link rel="modulepreload" href="{digest}/{name}">' for name in first_modules(found))
    shell = found.pop(SHELL).decode().replace("DIGEST", digest).replace("PRELOAD", preload)
    served = {
        name: UiFile(data, gzip.compress(data, 9, mtime=0), _TYPES[_end(name)])
        for name, data in found.items()
    }
    return UiFiles(digest, shell.encode(), served)


def first_modules(found: dict[str, bytes]) -> list[str]:
    """The modules that the first picture waits for, in the order in which they are asked for.

    They are what `app.js` imports, directly or not, then the pages that most people open first, with theirs.
    Any other page is loaded when it is shown.
    """
    known: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in known:
            known[name] = None
            for other in _IMPORT.findall(found[name].decode()):
                add(normpath(join(dirname(name), other)))

    for name in _FIRST:
        add(name)
    return list(known)


def _walk(folder: Traversable, before: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{before}{entry.name}/")
        elif _end(entry.name) in _TYPES:
            found.append((before + entry.name, entry.read_bytes()))
    return found


def _end(name: str) -> str:
    return name.rpartition(".")[2]
