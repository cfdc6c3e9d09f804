"""What lies in a folder of pictures, found without opening one: classes, splits, files, and what is left out
and why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from supernets.data.folder_names import alike_name, is_hidden, shown, split_of, titles_of
from supernets.data.groups import FILE as GROUPS
from supernets.data.groups import check_apart, groups_of
from supernets.data.splits import SPLITS, Labels
from supernets.errors import InvalidDataset

_NO_PICTURES: Final = {
    "PDF",
    "MPEG",
    "HDF5",
    "GRIB",
    "BUFR",
    "WMF",
    "EPS",
}  # Pillow names them but does not read them alone
_TABLES: Final = frozenset({".csv", ".tsv", ".xlsx", ".xls", ".json", ".parquet"})
_EXAMPLES: Final = 3
HIDDEN: Final = "hidden, or a companion file of another system"
OUTSIDE: Final = "outside any class folder"
BACK: Final = "a link back to a folder that is there already"
Visited = dict[
    tuple[int, int], str | None
]  # device and inode -> folder of a class; None: the set itself, or a split


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

    nested: pictures that lie in folders inside their class's folder. groups: by split, the group of each
    picture; None where nothing says any.
    """

    root: Path
    classes: tuple[str, ...]
    splits: dict[str, Files]
    skipped: tuple[Skipped, ...]
    nested: int = 0
    groups: dict[str, tuple[str, ...]] | None = None

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
        for name, _ in _walk("", folder, "", "", Leftovers(), {})
        if "/" in name
    )


def index_folder(name: str, folder: Path) -> FolderIndex:
    """Index a folder: one folder per class, at the top or inside train, test and val. Raises InvalidDataset
    that says why."""
    root, leftovers = _root(folder), Leftovers()
    top = _folders(root, "", leftovers)
    by_split = _splits(name, root, top)
    visited: Visited = {_identity(root): None}
    nested = 0
    found: dict[str, Files] = {}
    if "train" not in by_split:
        titles = titles_of(name, top)
        _check_order(name, root, titles)
        _loose_files(root, "", leftovers)
        found["pool"], nested = _files(name, root, "", titles, leftovers, visited)
    else:
        titles = titles_of(name, _folders(root, by_split["train"], leftovers))
        _check_beside(name, root, sorted(set(top) - set(by_split.values())), titles, leftovers)
        for split in (s for s in SPLITS if s in by_split):
            visited[_identity(root / by_split[split])] = None
        for split in (s for s in SPLITS if s in by_split):
            own = titles_of(name, _folders(root, by_split[split], Leftovers()))
            _check_classes(name, by_split[split], own, tuple(titles))
            _loose_files(root, by_split[split], leftovers)
            found[split], inside = _files(name, root, by_split[split], own, leftovers, visited)
            nested += inside
    classes = tuple(titles)
    if len(classes) < 2:
        only = f"one class only, {classes[0]!r}" if classes else "no class"
        raise InvalidDataset(
            f"data set {name!r}: {only}; a classifier needs a folder for each of two classes or more"
            + tables_beside(root)
        )
    groups = {split: groups_of(name, root, files.names) for split, files in found.items()}
    known = {split: one for split, one in groups.items() if one is not None}
    check_apart(name, known)
    return FolderIndex(root, classes, found, leftovers.listed(), nested, known or None)


def tables_beside(folder: Path) -> str:
    """What to say of tables that lie in a folder; empty where there are none."""
    tables = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _TABLES and not is_hidden(p.name))
    if not tables:
        return ""
    return (
        f". Labels in a table ({shown(tables)}) are not read: put every picture into a folder that is "
        "named like its class"
    )


def _splits(name: str, root: Path, top: list[str]) -> dict[str, str]:
    """Split -> its folder; empty where the folders are classes. Raises InvalidDataset for half a set of
    splits."""
    named: dict[str, list[str]] = {}
    for one in top:
        split = split_of(one)
        if split is not None:
            named.setdefault(split, []).append(one)
    # A class may be called train, beside bus and car: it has pictures, a split has folders of classes.
    if "train" not in named or not any(_holds_classes(root, one) for one in named["train"]):
        there = shown(sorted(one for found in named.values() for one in found))
        if named and sum(map(len, named.values())) == len(top) and "train" not in named:
            raise InvalidDataset(f"data set {name!r}: there is {there} but no train folder; add it")
        if "train" in named and len(named) > 1:
            raise InvalidDataset(
                f"data set {name!r}: {there} have pictures and no folders of classes, so no picture has a "
                "label; sort them into one folder per class"
            )
        return {}
    for split, found in named.items():
        if len(found) > 1:
            raise InvalidDataset(
                f"data set {name!r}: {shown(sorted(found))} are all folders of the {split} split; leave one "
                "of them"
            )
    if "test" not in named:
        others = sorted(set(top) - {one for found in named.values() for one in found})
        seen = f" (there is {shown(others)}: if it is the test, call it test)" if others else ""
        raise InvalidDataset(
            f"data set {name!r}: there is a train folder but no test folder{seen}; add one, or put the "
            "folders of the classes side by side and the splits are made here"
        )
    for split, (only,) in named.items():
        if not _folders(root, only, Leftovers()):
            raise InvalidDataset(
                f"data set {name!r}: {only} has no folders of classes, so its pictures have no labels; sort "
                f"them into folders, or remove it{' and add a test with labels' if split == 'test' else ''}"
            )
    return {split: found for split, (found,) in named.items()}


def _holds_classes(root: Path, folder: str) -> bool:
    """Whether a folder has folders and no pictures of its own."""
    endings, folders = picture_endings(), False
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                folders = True
            elif Path(entry.name).suffix.lower() in endings:
                return False
    return folders


def _check_order(name: str, root: Path, titles: Mapping[str, str]) -> None:
    """Raises InvalidDataset where the splits lie inside the classes."""
    for title, folder in titles.items():
        splits = {split_of(inner): inner for inner in _folders(root, folder, Leftovers())}
        if {"train", "test"} <= set(splits):
            raise InvalidDataset(
                f"data set {name!r}: class {title!r} holds {splits['train']} and {splits['test']}; put the "
                f"splits above the classes (train/{title}, test/{title}), or name the folder {title} "
                "itself if it is no class"
            )


def _check_beside(
    name: str, root: Path, others: list[str], titles: Mapping[str, str], leftovers: Leftovers
) -> None:
    """Folders beside the splits are left out; raises InvalidDataset where one has classes, as a split has."""
    for other in others:
        if set(titles_of(name, _folders(root, other, Leftovers()))) & set(titles):
            raise InvalidDataset(
                f"data set {name!r}: {other} beside the splits holds classes too; call it val to validate on "
                "it, test to test on it, or move it away"
            )
        leftovers.add("beside the splits train, validation and test", other, _file_count(str(root / other)))


def _root(folder: Path) -> Path:
    """The folder itself, or the only folder in it as archives have it when they are unpacked."""
    for _ in range(8):
        inside = _folders(folder, "", Leftovers())
        wraps = len(inside) == 1 and split_of(inside[0]) is None
        deeper = wraps and bool(_folders(folder / inside[0], "", Leftovers()))
        if not deeper:
            break
        folder = folder / inside[0]
    return folder


def _folders(root: Path, inside: str, leftovers: Leftovers) -> list[str]:
    """Names of the folders in a folder, sorted; hidden ones are left out."""
    found = []
    with os.scandir(root / inside) as entries:
        for entry in entries:
            if not entry.is_dir():
                continue
            if is_hidden(entry.name):
                leftovers.add(HIDDEN, _joined(inside, entry.name) + "/", _file_count(entry.path))
            elif _leads_up(root, entry):
                leftovers.add(BACK, _joined(inside, entry.name) + "/")
            else:
                found.append(entry.name)
    return sorted(found)


def _leads_up(root: Path, entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to the folder that is indexed, or to one above it."""
    return entry.is_symlink() and root.resolve().is_relative_to(Path(entry.path).resolve())


def _identity(folder: Path) -> tuple[int, int]:
    held = folder.stat()
    return held.st_dev, held.st_ino


def _file_count(folder: str) -> int:
    """Files in a folder that is left out, at any depth; an empty one counts as one."""
    return max(1, sum(len(files) for _, _, files in os.walk(folder)))


def _loose_files(root: Path, inside: str, leftovers: Leftovers) -> None:
    with os.scandir(root / inside) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_file() and (inside or entry.name != GROUPS):
                leftovers.add(HIDDEN if is_hidden(entry.name) else OUTSIDE, _joined(inside, entry.name))


def _check_classes(name: str, split: str, own: Mapping[str, str], classes: tuple[str, ...]) -> None:
    """Every split has the classes of train and no others."""
    lost, unknown = sorted(set(classes) - set(own)), sorted(set(own) - set(classes))
    if lost:
        alike = [one for one in unknown if alike_name(one) in map(alike_name, lost)]
        hint = f" ({shown(alike)} is there: the names must be the same)" if alike else ""
        raise InvalidDataset(
            f"data set {name!r}: class {shown(lost)} has no folder in {split}{hint}; add pictures of it"
        )
    if unknown:
        raise InvalidDataset(
            f"data set {name!r}: class {shown(unknown)} of {split} is not in train; add it there or remove it"
        )


def _files(
    name: str, root: Path, inside: str, titles: Mapping[str, str], leftovers: Leftovers, visited: Visited
) -> tuple[Files, int]:
    """(the pictures of all classes, how many of them lie deeper than their class's folder)."""
    endings, nested = picture_endings(), 0
    names: list[str] = []
    labels: list[int] = []
    for label, (title, folder) in enumerate(titles.items()):
        others: dict[str, int] = {}
        before = len(names)
        below = _joined(inside, folder)
        for path, size in sorted(_walk(name, root, below, below, leftovers, visited)):
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
    name: str, root: Path, inside: str, owner: str, leftovers: Leftovers, visited: Visited
) -> Iterator[tuple[str, int]]:
    """(path below root, bytes) of every file of `owner` that is not hidden; a folder that links lead to again
    is walked once. Raises InvalidDataset where it belongs to two classes or splits."""
    here = _identity(root / inside)
    # Links may lead in circles; a folder is known by device and inode, whatever it is called.
    if here in visited:
        if visited[here] not in (None, owner):
            raise InvalidDataset(
                f"data set {name!r}: {visited[here]} and {inside} are one folder, by a link; a picture has "
                "one class and one split, so remove the link"
            )
        leftovers.add(BACK, inside + "/")
        return
    visited[here] = owner
    with os.scandir(root / inside) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            path = _joined(inside, entry.name)
            if is_hidden(entry.name):
                inner = entry.is_dir()
                leftovers.add(HIDDEN, path + ("/" if inner else ""), _file_count(entry.path) if inner else 1)
            elif entry.is_dir() and _leads_up(root, entry):
                leftovers.add(BACK, path + "/")
            elif entry.is_dir():
                yield from _walk(name, root, path, owner, leftovers, visited)
            elif entry.is_file():
                yield path, entry.stat().st_size
            else:
                leftovers.add("a link that leads nowhere, or no file", path)


def _joined(inside: str, name: str) -> str:
    return f"{inside}/{name}" if inside else name
