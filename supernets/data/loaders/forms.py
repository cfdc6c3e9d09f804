"""What a form of data set on disk supplies, and what all forms share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernets.data.splits import Dataset, Labels, Split, stratified
from supernets.errors import InvalidDataset
from supernets.tasks.data import Data
from supernets.tasks.info import IMAGES

VALIDATION_SHARE = 0.1
MAX_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Wanted:
    """What a space needs of a data set that can be had in several ways.

    size: side in pixels at which pictures are kept, the space's largest resolution. channels: 1 or 3, for
    grey pictures;
    None: as they are. folder: where converted pictures are kept; None: nowhere.
    """

    size: int = 64
    channels: int | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Shape:
    """What a data set holds: number of classes, channels, and side of its images in pixels.

    size: None where pictures are kept at the size that the space needs. also: other numbers of channels it
    can be had with.
    """

    classes: int
    channels: int
    size: int | None
    also: tuple[int, ...] = ()


@dataclass(frozen=True)
class Form:
    """A form of data set. All but `matches` take the data set's name, for messages, and raise InvalidDataset.

    classes: the names of the classes, in order. files: those that the samples come from, by their names
    inside the set. task: what is learnt from it.
    """

    name: str
    matches: Callable[[Path], bool]
    shape: Callable[[str, Path], Shape]
    classes: Callable[[str, Path], tuple[str, ...]]
    files: Callable[[str, Path], dict[str, Path]]
    load: Callable[[str, Path, Wanted], Data]
    task: str = IMAGES


def reason(error: Exception, path: Path) -> str:
    """What an error says, without the operator's folders: users read it."""
    return str(error).replace(str(path), path.name)


def with_validation(name: str, classes: tuple[str, ...], train: Split, test: Split) -> Dataset:
    """A data set whose validation split is taken from its training samples, every class in proportion."""
    held, rest = stratified(train.labels, (validation_size(train.labels),), seed=0)
    return Dataset(name, classes, train.take(rest), train.take(held), test)


def validation_size(labels: Labels) -> int:
    """Samples of a split that is cut from those: a tenth."""
    return round(VALIDATION_SHARE * len(labels))


def numbered(name: str, where: str, labels: npt.NDArray[np.integer[Any]]) -> tuple[str, ...]:
    """Class names of training labels that have none: the numbers 0 to the highest.

    Raises InvalidDataset for labels that do not count so, before anything is made as large as the highest is.
    """
    if not len(labels):
        return ()
    values = np.unique(labels)
    low, high, classes = int(values[0]), int(values[-1]), len(values)
    cure = f"number them 0 to {classes - 1} in order (numpy.unique(labels, return_inverse=True)[1])"
    if low < 0:
        raise InvalidDataset(
            f"data set {name!r}: a label of {where} is outside 0 to {high}, the lowest is {low}; {cure}"
        )
    if high >= classes:
        if low == 1 and high == classes:
            cure = "they begin at 1: subtract 1"
        missing = itertools.islice(
            (c for c in itertools.count() if c not in set(values[: c + 1].tolist())), 5
        )
        lacking = ", ".join(map(str, (c for c in missing if c <= high)))
        raise InvalidDataset(
            f"data set {name!r}: the train split lacks {high + 1 - classes} class(es): {lacking}; the labels "
            f"have {classes} values from {low} to {high}: add samples, or {cure}"
        )
    return tuple(map(str, range(classes)))


def checked_split(name: str, where: str, images: npt.NDArray[np.uint8], labels: Labels) -> Split:
    """A split of arrays. Raises InvalidDataset where there is not one label for each image, or none at
    all."""
    if len(images) != len(labels) or not len(labels):
        raise InvalidDataset(f"data set {name!r}: {where} has {len(images)} images and {len(labels)} labels")
    return Split(np.ascontiguousarray(images), labels)


def by_name(files: Sequence[Path], root: Path) -> dict[str, Path]:
    """Files by their names below a folder."""
    return {path.relative_to(root).as_posix(): path for path in files}
