"""What a registered data set is, as one hash: contents, classes and order. A changed set under the same name
is another set.

Contents are hashed in whole, once: what was hashed is known again by size, times and inode of each file, so
that a set that nobody touched costs a look at its folder. The times include the one of the inode, which no
program sets back.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from supernets.data.loaders.catalog import form_of, unreadable
from supernets.data.loaders.forms import Shape
from supernets.errors import InvalidDataset

VERSION: Final = 1  # of how files become samples: another reading of the same files is another set
Stamp = list[int]  # size, times and inode of a file
_known: Final[dict[tuple[str, str], Facts]] = {}


@dataclass(frozen=True)
class Facts:
    """What is known of a data set without reading its pictures. stamp: changes when any of its files does."""

    fingerprint: str
    form: str
    classes: tuple[str, ...]
    shape: Shape
    stamp: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Facts:
        """Read what `asdict` gave."""
        shape = Shape(**{**data["shape"], "also": tuple(data["shape"]["also"])})
        return cls(data["fingerprint"], data["form"], tuple(data["classes"]), shape, data["stamp"])


def facts_of(name: str, path: Path, folder: Path | None = None) -> Facts:
    """Facts of the data set at `path`. folder: where hashes of files are kept between processes.

    Raises InvalidDataset that says what is wrong with the set.
    """
    try:
        form = form_of(name, path)
        files = form.files(name, path)
        stamps = {inside: _stamp(place) for inside, place in files.items()}
        stamp = hashlib.sha256(json.dumps([VERSION, form.name, stamps]).encode()).hexdigest()
        known = _known.get((name, str(path)))
        if known is not None and known.stamp == stamp:
            return known
        kept = _read(folder, name)
        if kept.get("facts", {}).get("stamp") == stamp:
            found = Facts.from_json(kept["facts"])
        else:
            classes = form.classes(name, path)
            hashes = _hashes(files, stamps, kept.get("files", {}))
            text = json.dumps([VERSION, form.name, classes, [[inside, hashes[inside]] for inside in files]])
            found = Facts(
                hashlib.sha256(text.encode()).hexdigest(), form.name, classes, form.shape(name, path), stamp
            )
            _write(
                folder, name, {"facts": asdict(found), "files": {i: [*stamps[i], hashes[i]] for i in files}}
            )
    except OSError as error:
        raise unreadable(name, error) from error
    _known[name, str(path)] = found
    return found


def check_unchanged(name: str, path: Path, fingerprint: str, folder: Path | None = None) -> None:
    """Raises InvalidDataset where the data set is no longer the one of that fingerprint."""
    found = facts_of(name, path, folder).fingerprint
    if found != fingerprint:
        raise InvalidDataset(
            f"data set {name!r} has changed since this was asked for (fingerprint {found[:12]}, it was "
            f"{fingerprint[:12]}); ask "
            "again to use what is there now, or put the files back"
        )


def _stamp(path: Path) -> Stamp:
    held = path.stat()
    return [held.st_size, held.st_mtime_ns, held.st_ctime_ns, held.st_ino]


def _hashes(
    files: Mapping[str, Path], stamps: Mapping[str, Stamp], kept: Mapping[str, list[Any]]
) -> dict[str, str]:
    """SHA-256 of every file, of those only that are not known by their stamp."""
    found = {}
    for inside, path in files.items():
        *stamp, digest = kept.get(inside, [None])
        if stamp == stamps[inside]:
            found[inside] = str(digest)
            continue
        with path.open("rb") as file:
            found[inside] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _read(folder: Path | None, name: str) -> dict[str, Any]:
    """What was kept; empty where there is nothing, or nothing that can be used."""
    try:
        data = {} if folder is None else json.loads((folder / f"facts-{name}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _write(folder: Path | None, name: str, data: dict[str, Any]) -> None:
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False) as file:
        json.dump(data, file)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(folder / f"facts-{name}.json")
