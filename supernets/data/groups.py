"""Splits by origin: photos of one camera, patient or day belong into one split, or the test tells how well a
network knows them again.

Which pictures belong together says `groups.csv` at the top of a data set (`file,group`, a line for each
picture), or a folder `group-NAME` inside the folder of a class. What is in no group is one of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np
import numpy.typing as npt

from supernets.data.folder_names import shown
from supernets.errors import InvalidDataset

FILE: Final = "groups.csv"
PREFIX: Final = "group-"
Labels = npt.NDArray[np.int64]


def groups_of(name: str, root: Path, names: Sequence[str]) -> tuple[str, ...] | None:
    """The group of each picture, by its path below the root; None where nothing says any.

    Raises InvalidDataset for a `groups.csv` that is not one, or leaves pictures out.
    """
    file = root / FILE
    if file.is_file():
        return _listed(name, file, names)
    found = [_folder_group(one) for one in names]
    if not any(found):
        return None
    return tuple(group or f"alone/{one}" for group, one in zip(found, names, strict=True))


def _folder_group(picture: str) -> str | None:
    inside = [part for part in PurePosixPath(picture).parts[1:-1] if part.startswith(PREFIX)]
    return inside[-1] if inside else None


def _listed(name: str, file: Path, names: Sequence[str]) -> tuple[str, ...]:
    groups: dict[str, str] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines)
            if rows.fieldnames is None or not {"file", "group"} <= set(rows.fieldnames):
                raise InvalidDataset(f"data set {name!r}: {FILE} begins with the line `file,group`")
            for number, row in enumerate(rows, 2):
                picture, group = (row["file"] or "").strip(), (row["group"] or "").strip()
                if not picture or not group:
                    raise InvalidDataset(f"data set {name!r}: {FILE}, line {number} lacks a file or a group")
                if groups.setdefault(picture, group) != group:
                    raise InvalidDataset(
                        f"data set {name!r}: {FILE}, line {number}: the file is in another group too"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidDataset(f"data set {name!r}: {FILE} is no CSV in UTF-8") from error
    lacking = [one for one in names if one not in groups]
    if lacking:
        raise InvalidDataset(
            f"data set {name!r}: {FILE} leaves {len(lacking)} picture(s) out: {shown(lacking)}; name each by "
            "its path below the data set's folder"
        )
    return tuple(groups[one] for one in names)


def check_apart(name: str, groups: Mapping[str, Sequence[str]]) -> None:
    """Raises InvalidDataset where a group is in two splits. groups: of the pictures of each split."""
    owner: dict[str, str] = {}
    for split, found in groups.items():
        for group in sorted(set(found)):
            if owner.setdefault(group, split) != split:
                raise InvalidDataset(
                    f"data set {name!r}: group {group!r} has pictures in {owner[group]} and in {split}; move "
                    "all of them into one"
                )


def parts_by_group(
    name: str, classes: Sequence[str], labels: Labels, groups: Sequence[str], sizes: Sequence[int], seed: int
) -> list[Labels]:
    """Rows of parts of about those sizes that share no group, and of what is left last; every class in each.

    Whole groups are taken, always the one that brings a part nearest to its share of every class. Raises
    InvalidDataset that names a class with too few groups.
    """
    distinct, numbers = np.unique(np.asarray(groups), return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(distinct))
    numbers = np.argsort(order)[numbers]  # equal groups are taken in an order of chance
    counts = np.zeros((len(distinct), len(classes)))
    np.add.at(counts, (numbers, labels), 1)
    owned = (counts > 0).sum(axis=0)  # groups of each class
    if owned.min() <= len(sizes):
        few = int(owned.argmin())
        raise InvalidDataset(
            f"data set {name!r}: class {classes[few]!r} has pictures of {int(owned[few])} group(s), and "
            f"{len(sizes) + 1} splits need one each; add pictures of another group, or make the splits "
            "yourself (folders train, val and test)"
        )
    free = np.ones(len(distinct), dtype=bool)
    parts: list[Labels] = []
    for place, size in enumerate(sizes):
        later = len(sizes) - place
        taken = _taken(counts, free, size * counts.sum(axis=0) / counts.sum(), later)
        missing = np.flatnonzero(counts[taken].sum(axis=0) == 0)
        if len(missing):
            raise InvalidDataset(
                f"data set {name!r}: no split by groups was found with pictures of class "
                f"{classes[missing[0]]!r} in every part; make the splits yourself: train, val, test"
            )
        free[taken] = False
        parts.append(np.flatnonzero(np.isin(numbers, taken)))
    parts.append(np.flatnonzero(free[numbers]))
    return parts


def _taken(
    counts: npt.NDArray[np.float64], free: npt.NDArray[np.bool_], wanted: npt.NDArray[np.float64], later: int
) -> Labels:
    """Groups for one part, from those that are free. later: parts after it, which need each class too."""
    chosen: list[int] = []
    have, spare = np.zeros_like(wanted), (counts[free] > 0).sum(axis=0) - later
    left = free.copy()
    while True:
        candidates = np.flatnonzero(left & ~((counts > 0) & (spare <= 0)).any(axis=1))
        if not len(candidates):
            break
        # A class that is not there yet counts before all sizes: a part without it is none.
        lacking = have == 0
        gain = ((counts[candidates] > 0) & lacking).sum(axis=1)
        away = (((have + counts[candidates] - wanted) / np.maximum(wanted, 1)) ** 2).sum(axis=1)
        best = int(np.lexsort((away, -gain))[0])
        nearer = away[best] < (((have - wanted) / np.maximum(wanted, 1)) ** 2).sum()
        if not nearer and not gain[best]:
            break
        group = int(candidates[best])
        chosen.append(group)
        left[group] = False
        have += counts[group]
        spare -= counts[group] > 0
    return np.array(chosen, dtype=np.int64)
