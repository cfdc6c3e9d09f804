"""What lies in a folder of pictures, found without opening one: classes, splits, files, and what is left out
and why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from supernets.data.splits import SPLITS, Labels
from supernets.errors import InvalidDataset

SPLIT_NAMES: Final = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_COMPANIONS: Final = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "@eadir",
        "$recycle.bin",
        "__pycache__",
        "lost+found",
    }
    | {"system volume information"}
)
_NO_PICTURES: Final = {
    "PDF",
    "MPEG",
    "HDF5",
    "GRIB",
    "BUFR",
    "WMF",
    "EPS",
}  # Pillow names them but does not read them alone
_EXAMPLES: Final = 3
HIDDEN: Final = "hidden, or a companion file of another system"
OUTSIDE: Final = "outside any class folder"


@dataclass(frozen=True)
class Skipped:
    """Files that were left out for one reason, those in folders left out among them; examples are names
    inside the data set."""

    reason: str
    count: int
    examples: tuple[str, ...]


@dataclass
class Leftovers:
    """Collects what is left out."""

    _found: dict[str, tuple[int, list[str]]] = field(default_factory=dict)

    def add(self, reason: str, name: str, files: int = 1) -> None:
        """One more file, or a folder with that many files."""
        count, examples = self._found.get(reason, (0, []))
        self._found[reason] = (count + files, examples if len(examples) >= _EXAMPLES else [*examples, name])

    def listed(self) -> tuple[Skipped, ...]:
        """By reason, the most frequent first."""
        found = [Skipped(reason, count, tuple(examples)) for reason, (count, examples) in self._found.items()]
        return tuple(sorted(found, key=lambda one: (-one.count, one.reason)))


@dataclass(frozen=True)
class Files:
    """Pictures of one split: paths below the index's root and the label of each, classes in order and names
    sorted."""

    names: tuple[str, ...]
    labels: Labels

    def __len__(self) -> int:
        return len(self.names)

    def counts(self, classes: int) -> list[int]:
        """Pictures of each class."""
        return [int(n) for n in np.bincount(self.labels, minlength=classes)]


@dataclass(frozen=True)
class FolderIndex:
    """A folder of pictures. splits: by the names of `SPLITS`, or one entry "pool" where the folder has no
    splits.

    nested: pictures that lie in folders inside their class's folder.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, Files]
    skipped: tuple[Skipped, ...]
    nested: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Every picture, split by split."""
        return tuple(name for files in self.splits.values() for name in files.names)


@lru_cache(maxsize=1)
def picture_endings() -> frozenset[str]:
    """Endings, lower case, of the pictures that this Pillow opens."""
    from PIL import Image  # noqa: PLC0415 - only who looks into folders needs Pillow

    Image.init()
    return frozenset(
        ending
        for ending, form in Image.registered_extensions().items()
        if form in Image.OPEN and form not in _NO_PICTURES
    )


def looks_like_folders(folder: Path) -> bool:
    """Whether there is a folder with pictures in folders: what `index_folder` may index or refuse with a
    reason."""
    if not folder.is_dir():
        return False
    endings = picture_endings()
    return any(
        Path(name).suffix.lower() in endings
        for name, _ in _walk(folder, "", Leftovers(), set())
        if "/" in name
    )


def index_folder(name: str, folder: Path) -> FolderIndex:
    """Index a folder: one folder per class, at the top or inside train, test and val. Raises InvalidDataset
    that says why."""
    root, leftovers = _root(folder), Leftovers()
    top = _folders(root, "", leftovers)
    by_split = {SPLIT_NAMES[one.lower()]: one for one in top if one.lower() in SPLIT_NAMES}
    if by_split and len(by_split) == len(top) and "train" not in by_split:
        raise InvalidDataset(
            f"data set {name!r}: there is {_shown(sorted(by_split.values()))} but no train folder; add it"
        )
    if "train" not in by_split:
        classes = tuple(top)
        _loose_files(root, "", leftovers)
        files, nested = _files(name, root, "", classes, leftovers)
        found = {"pool": files}
    else:
        for other in sorted(set(top) - set(by_split.values())):
            leftovers.add("beside the splits train, validation and test", other)
        if "test" not in by_split:
            raise InvalidDataset(
                f"data set {name!r}: there is a train folder but no test folder; add one, or put the "
                "folders of the classes "
                "side by side and the splits are made here"
            )
        classes = tuple(_folders(root, by_split["train"], leftovers))
        found, nested = {}, 0
        for split in (s for s in SPLITS if s in by_split):
            _check_classes(name, root, by_split[split], classes)
            _loose_files(root, by_split[split], leftovers)
            found[split], inside = _files(name, root, by_split[split], classes, leftovers)
            nested += inside
    if len(classes) < 2:
        only = f"one class only, {classes[0]!r}" if classes else "no class"
        raise InvalidDataset(
            f"data set {name!r}: {only}; a classifier needs a folder for each of two classes or more"
        )
    return FolderIndex(root, classes, found, leftovers.listed(), nested)


def _root(folder: Path) -> Path:
    """The folder itself, or the only folder in it as archives have it when they are unpacked."""
    for _ in range(3):
        inside = _folders(folder, "", Leftovers())
        wraps = len(inside) == 1 and inside[0].lower() not in SPLIT_NAMES
        deeper = wraps and bool(_folders(folder / inside[0], "", Leftovers()))
        if not deeper:
            break
        folder = folder / inside[0]
    return folder


def is_hidden(name: str) -> bool:
    """Whether a file or folder is nobody's data: hidden, or left by another system."""
    return name.startswith(".") or name.lower() in _COMPANIONS


def _folders(root: Path, inside: str, leftovers: Leftovers) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are left out."""
    found = []
    with os.scandir(root / inside) as entries:
        for entry in entries:
            if not entry.is_dir():
                continue
            if is_hidden(entry.name):
                leftovers.add(HIDDEN, _joined(inside, entry.name) + "/", _file_count(entry.path))
            else:
                found.append(entry.name)
    return sorted(found)


def _file_count(folder: str) -> int:
    """Files in a folder that is left out, at any depth; an empty one counts as one."""
    return max(1, sum(len(files) for _, _, files in os.walk(folder)))


def _loose_files(root: Path, inside: str, leftovers: Leftovers) -> None:
    with os.scandir(root / inside) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_file():
                leftovers.add(HIDDEN if is_hidden(entry.name) else OUTSIDE, _joined(inside, entry.name))


def _check_classes(name: str, root: Path, split: str, classes: tuple[str, ...]) -> None:
    """Every split has the classes of train and no others."""
    found = set(_folders(root, split, Leftovers()))
    lost, unknown = sorted(set(classes) - found), sorted(found - set(classes))
    if lost:
        raise InvalidDataset(
            f"data set {name!r}: class {_shown(lost)} has no folder in {split}; add pictures of it"
        )
    if unknown:
        raise InvalidDataset(
            f"data set {name!r}: class {_shown(unknown)} of {split} is not in train; add it there or "
            "remove it"
        )


def _files(
    name: str, root: Path, inside: str, classes: tuple[str, ...], leftovers: Leftovers
) -> tuple[Files, int]:
    """(the pictures of all classes, how many of them lie deeper than their class's folder)."""
    endings, nested = picture_endings(), 0
    names: list[str] = []
    labels: list[int] = []
    for label, title in enumerate(classes):
        others: dict[str, int] = {}
        before = len(names)
        below = _joined(inside, title)
        for path, size in sorted(_walk(root, below, leftovers, set())):
            ending = Path(path).suffix.lower()
            if ending not in endings:
                others[ending or "none"] = others.get(ending or "none", 0) + 1
                leftovers.add(f"not a picture that can be read: ending {ending or 'missing'}", path)
            elif size == 0:
                leftovers.add("empty file", path)
            else:
                names.append(path)
                labels.append(label)
                nested += path.count("/") > below.count("/") + 1
        if len(names) == before:
            said = ", ".join(f"{count} with ending {ending}" for ending, count in sorted(others.items()))
            where = f" in {inside}" if inside else ""
            raise InvalidDataset(
                f"data set {name!r}: class {title!r} has no pictures{where}"
                + (f" (other files: {said})" if said else "")
                + "; add some, or remove its folder"
            )
    return Files(tuple(names), np.array(labels, dtype=np.int64)), nested


def _walk(
    root: Path, inside: str, leftovers: Leftovers, seen: set[tuple[int, int]]
) -> Iterator[tuple[str, int]]:
    """(path below root, bytes) of every file that is not hidden; a folder linked into itself is walked
    once."""
    here = (root / inside).stat()
    if (here.st_dev, here.st_ino) in seen:
        return
    seen = seen | {(here.st_dev, here.st_ino)}
    with os.scandir(root / inside) as entries:
        for entry in entries:
            path = _joined(inside, entry.name)
            if is_hidden(entry.name):
                inner = entry.is_dir()
                leftovers.add(HIDDEN, path + ("/" if inner else ""), _file_count(entry.path) if inner else 1)
            elif entry.is_dir():
                yield from _walk(root, path, leftovers, seen)
            elif entry.is_file():
                yield path, entry.stat().st_size
            else:
                leftovers.add("a link that leads nowhere, or no file", path)


def _joined(inside: str, name: str) -> str:
    return f"{inside}/{name}" if inside else name


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
