"""One folder of pictures per class, at the top or under train, test and val: see `supernets.data.index`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from supernets.data.groups import FILE as GROUPS
from supernets.data.groups import parts_by_group
from supernets.data.index import Files, FolderIndex, index_folder, looks_like_folders
from supernets.data.loaders.forms import Form, Shape, Wanted, validation_size
from supernets.data.pictures import PictureFiles, Pictures, UnreadablePicture, opened_picture
from supernets.data.preprocessing import picture_steps
from supernets.data.splits import Dataset, Images, Labels, Split, evenly_spread, stratified, three_parts
from supernets.data.steps import Depth, is_deep
from supernets.errors import InvalidDataset

EAGER_BYTES = (
    256 * 2**20
)  # converted at once and held in memory; a larger set is converted when it is asked for
_RANGE_SAMPLES = 256
_FIRST_LOOK = 64
_WHOLE_RANGES: Final = tuple(float(2**bits - 1) for bits in (8, 10, 12, 14, 16, 24, 31, 32))
_GREY: Final = frozenset({"1", "L", "LA", "La"})


@dataclass(frozen=True)
class Looks:
    """What the heads of the pictures say: whether all are grey, and the range of those of more than 8
    bits."""

    grey: bool
    depth: Depth


def load(name: str, folder: Path, wanted: Wanted) -> Dataset:
    """A folder as a data set, its pictures kept at the wanted size; a large one is converted when it is asked
    for.

    Raises InvalidDataset that names the class or file at fault; for a large set, that of a file only when it
    is read.
    """
    index = index_folder(name, folder)
    looks = look(index)
    channels = (wanted.channels or 1) if looks.grey else 3
    steps = picture_steps(channels, wanted.size, wanted.size, looks.depth)
    eager = len(index.names) * channels * wanted.size**2 <= EAGER_BYTES
    kept_in = None if eager else wanted.folder
    files = PictureFiles(
        name, index.root, index.names, steps, channels, kept_in, "" if eager else stamp(index)
    )
    images = Pictures(files, np.arange(len(index.names)))
    splits = _splits(index, images[:] if eager else images)
    return replace(_three(index, name, splits), pictures=steps)


def _splits(index: FolderIndex, images: Images) -> dict[str, Split]:
    found, start = {}, 0
    for split, files in index.splits.items():
        rows = np.arange(start, start + len(files))
        found[split] = Split(
            images.take(rows) if isinstance(images, Pictures) else images[rows], files.labels
        )
        start += len(files)
    return found


def _three(index: FolderIndex, name: str, splits: dict[str, Split]) -> Dataset:
    classes = index.classes
    if "pool" in splits:
        pool = splits["pool"]
        train, validation, test = (pool.take(rows) for rows in pool_parts(name, index))
        return Dataset(name, classes, train, validation, test)
    if "validation" in splits:
        return Dataset(name, classes, splits["train"], splits["validation"], splits["test"])
    rest, held = train_parts(name, index)
    train = splits["train"]
    return Dataset(name, classes, train.take(rest), train.take(held), splits["test"])


def pool_parts(name: str, index: FolderIndex) -> list[Labels]:
    """Rows of train, validation and test of a folder without splits; where pictures have groups, none is in
    two of them. Raises InvalidDataset for a class with too few groups."""
    labels, classes = index.splits["pool"].labels, index.classes
    share = max(len(classes), validation_size(labels))
    if index.groups is None:
        return three_parts(labels, share, share)
    test, validation, train = parts_by_group(name, classes, labels, index.groups["pool"], (share, share), 0)
    return [train, validation, test]


def train_parts(name: str, index: FolderIndex) -> tuple[Labels, Labels]:
    """Rows of train and validation of a train folder without a validation folder beside it; by groups, where
    there are any. Raises InvalidDataset for a class with too few groups."""
    labels = index.splits["train"].labels
    if index.groups is None or "train" not in index.groups:
        held, rest = stratified(labels, (validation_size(labels),), seed=0)
        return rest, held
    size = max(len(index.classes), validation_size(labels))
    held, rest = parts_by_group(name, index.classes, labels, index.groups["train"], (size,), 0)
    return rest, held


def stamp(index: FolderIndex) -> str:
    """Changes when a picture is written, moved or replaced."""
    found = hashlib.sha256()
    for name in index.names:
        held = (index.root / name).stat()
        found.update(f"{held.st_size} {held.st_mtime_ns} {held.st_ctime_ns} {held.st_ino};".encode())
    return found.hexdigest()


def look(index: FolderIndex) -> Looks:
    """Open the heads of the training pictures until one is in colour; where none is, measure the range of the
    deep ones."""
    files = index.splits.get("train") or index.splits["pool"]
    deep: list[str] = []
    for name, mode in modes(index.root, _spread_first(files)):
        if is_deep(mode):
            deep.append(name)
        elif mode not in _GREY:
            return Looks(False, Depth())
    return Looks(True, _depth(index.root, sorted(deep)))


def _spread_first(files: Files) -> Iterator[str]:
    """Some from all over first: colour shows soon."""
    first = evenly_spread(len(files), _FIRST_LOOK)
    yield from (files.names[row] for row in first)
    if len(files) > _FIRST_LOOK:
        yield from files.names


def modes(root: Path, names: Iterator[str]) -> Iterator[tuple[str, str]]:
    """(name, Pillow mode) of each picture whose head can be read; the others are named when they are
    converted."""
    for name in names:
        try:
            with opened_picture(root / name) as opened:
                mode = opened.mode
        except UnreadablePicture:
            continue
        yield name, mode


def _depth(root: Path, names: list[str]) -> Depth:
    """The range of pictures of more than 8 bits, from some of them: a range that instruments have, or what
    was found."""
    ends: dict[bool, list[float]] = {False: [], True: []}  # floats? -> lowest and highest values
    for row in evenly_spread(len(names), _RANGE_SAMPLES):
        try:
            with opened_picture(root / names[row]) as opened:
                values = np.asarray(opened, dtype=np.float64)
                finite = values[np.isfinite(values)]
                ends[opened.mode == "F"] += [float(finite.min()), float(finite.max())] if finite.size else []
        except UnreadablePicture:
            continue  # named when it is converted
    usual = Depth()
    integers, floats = usual.integers, usual.floats
    if ends[False]:
        integers = _range(ends[False], _WHOLE_RANGES)
    if ends[True]:
        floats = _range(ends[True], (1.0, *_WHOLE_RANGES))
    return Depth(integers, floats)


def _range(values: list[float], highest: tuple[float, ...]) -> tuple[float, float]:
    low, high = min(values), max(values)
    whole = next((top for top in highest if high <= top), None)
    if low >= 0 and whole is not None:
        return 0.0, whole
    return (low, high) if low < high else (low, low + 1)


def _shape(name: str, folder: Path) -> Shape:
    index = index_folder(name, folder)
    grey = look(index).grey
    return Shape(len(index.classes), 1 if grey else 3, None, (3,) if grey else ())


def _files(name: str, folder: Path) -> dict[str, Path]:
    index = index_folder(name, folder)
    if not index.names:
        raise InvalidDataset(f"data set {name!r}: no pictures")
    named = {picture: index.root / picture for picture in index.names}
    listed = index.root / GROUPS
    return {**named, GROUPS: listed} if listed.is_file() else named


FORM: Final = Form(
    "picture folders",
    looks_like_folders,
    _shape,
    lambda name, folder: index_folder(name, folder).classes,
    _files,
    load,
)
