"""What a data set is, as one hash: contents, classes and order. A changed set under the same name
is another set.

Contents are hashed in whole, once: what was hashed is known again by size, times and inode of each file, so
that a set that nobody touched costs a look at its folder. The times include the one of the inode, which no
program sets back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from latency_tables.files import whole
from supernets.data.loaders.catalog import located, unreadable
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


@dataclass(frozen=True)
class Source:
    """What the facts of a data set are made from: files by their names inside it, in order; classes and shape
    are asked for only where a file is new."""

    form: str
    files: Mapping[str, Path]
    classes: Callable[[], tuple[str, ...]]
    shape: Callable[[], Shape]


def facts_of(name: str, path: Path, folder: Path | None = None) -> Facts:
    """Facts of the data set at `path`. folder: where hashes of files are kept between processes.

    Raises InvalidDataset that says what is wrong with the set.
    """

    def source() -> Source:
        form, place = located(name, path)
        files = form.files(name, place)
        return Source(form.name, files, lambda: form.classes(name, place), lambda: form.shape(name, place))

    return facts_from(name, str(path), source, folder)


def facts_from(name: str, place: str, find: Callable[[], Source], folder: Path | None = None) -> Facts:
    """Facts of a data set of that name from what `find` gives.

    place: tells sets of one name apart in this process. folder: where hashes of files are kept between
    processes. Raises InvalidDataset.
    """
    try:
        source = find()
        stamps = {inside: _stamp(path) for inside, path in source.files.items()}
        stamp = hashlib.sha256(json.dumps([VERSION, source.form, stamps]).encode()).hexdigest()
        known = _known.get((name, place))
        if known is not None and known.stamp == stamp:
            return known
        kept = _read(folder, name)
        if kept.get("facts", {}).get("stamp") == stamp:
            found = Facts.from_json(kept["facts"])
        else:
            classes = source.classes()
            hashes = _hashes(source.files, stamps, kept.get("files", {}))
            text = json.dumps(
                [VERSION, source.form, classes, [[inside, hashes[inside]] for inside in source.files]]
            )
            digest = hashlib.sha256(text.encode()).hexdigest()
            found = Facts(digest, source.form, classes, source.shape(), stamp)
            files = {inside: [*stamps[inside], hashes[inside]] for inside in source.files}
            _write(folder, name, {"facts": asdict(found), "files": files})
    except OSError as error:
        raise unreadable(name, error) from error
    _known[name, place] = found
    return found


def check_unchanged(name: str, found: Facts, fingerprint: str) -> None:
    """Raises InvalidDataset where the data set is no longer the one of that fingerprint."""
    if found.fingerprint != fingerprint:
        raise InvalidDataset(
            f"data set {name!r} has changed since this was asked for (fingerprint {found.fingerprint[:12]}, "
            f"it was {fingerprint[:12]}); ask again to use what is there now, or put the files back"
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
    with whole(folder / f"facts-{name}.json") as file:
        file.write(json.dumps(data).encode())
