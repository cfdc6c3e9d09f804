"""What is in a data set, before anything is trained on it: classes, splits, what is left out, what is odd,
why it is refused."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from supernets.data.index import Files, FolderIndex, Skipped, index_folder
from supernets.data.loaders import folder as folders
from supernets.data.loaders.catalog import form_of, load_registered, unreadable
from supernets.data.loaders.forms import Wanted, validation_size
from supernets.data.pictures import LEAST_SIDE
from supernets.data.splits import SPLITS, stratified
from supernets.errors import InvalidDataset

RARE: Final = 20  # samples of a class in the whole set
MOST_DECODED: Final = (
    5000  # pictures; of more only the heads are read, and a torn picture is found when it is converted
)
_SHOWN: Final = 3


@dataclass(frozen=True)
class Report:
    """splits: samples of each. sizes: smallest, median and largest side lengths of pictures. modes: pictures
    by Pillow mode.

    duplicates: copies of a picture in several splits, or within the pool that splits are made from. refused:
    why it cannot be trained on, None where it can.
    """

    name: str
    form: str | None = None
    classes: tuple[str, ...] = ()
    splits: Mapping[str, int] = field(default_factory=dict)
    per_class: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sizes: Mapping[str, list[int]] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    duplicates: int = 0
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "classes": list(self.classes), "warnings": list(self.warnings)}


def check_dataset(name: str, path: Path) -> Report:
    """Look through the data set at `path`; a fault is in the report, not raised."""
    form = None
    try:
        form = form_of(name, path).name
        return _check_folder(name, path) if form == folders.FORM.name else _check_arrays(name, form, path)
    except InvalidDataset as error:
        return Report(name, form, refused=str(error))
    except OSError as error:
        return Report(name, form, refused=str(unreadable(name, error)))


def _check_arrays(name: str, form: str, path: Path) -> Report:
    dataset = load_registered(name, path, Wanted())
    counts = {
        split: np.bincount(dataset.split(split).labels, minlength=len(dataset.classes)).tolist()
        for split in SPLITS
    }
    owners: dict[bytes, set[str]] = {}
    for split in SPLITS:
        for image in dataset.split(split).images[:]:
            owners.setdefault(hashlib.blake2b(image.tobytes(), digest_size=16).digest(), set()).add(split)
    copies = sum(len(found) > 1 for found in owners.values())
    height, width = dataset.train.images.shape[2:]
    return Report(
        name,
        form,
        dataset.classes,
        {split: len(dataset.split(split)) for split in SPLITS},
        _per_class(dataset.classes, counts),
        {"width": [width] * 3, "height": [height] * 3},
        duplicates=copies,
        warnings=(*_rare(dataset.classes, counts), *_copied(copies, pooled=False)),
    )


def _check_folder(name: str, path: Path) -> Report:
    index = index_folder(name, path)
    heads = _Heads(index.root, len(index.names) <= MOST_DECODED)
    heads.read(index.names)
    counts = _counts(index)
    copies = _copies(index)
    refused = heads.fault(name) or _lacking(name, index.classes, counts)
    if refused is None and heads.decode:  # of a larger set this is said when its first pictures are converted
        try:
            folders.load(name, path, Wanted(size=LEAST_SIDE)).check_values()
        except InvalidDataset as error:
            refused = str(error)
    nested = (
        [f"{index.nested} picture(s) in folders inside a class's folder are taken as that class"]
        if index.nested
        else []
    )
    return Report(
        name,
        folders.FORM.name,
        index.classes,
        {split: sum(found) for split, found in counts.items()},
        _per_class(index.classes, counts),
        heads.sizes(),
        dict(heads.modes.most_common()),
        copies,
        index.skipped,
        (
            *_rare(index.classes, counts),
            *_copied(copies, "pool" in index.splits),
            *_left_out(index.skipped),
            *nested,
            *heads.remarks(),
        ),
        refused,
    )


class _Heads:
    """Sizes and modes of pictures, and those that cannot be read. decode: read them in whole."""

    def __init__(self, root: Path, decode: bool) -> None:
        self.root, self.decode = root, decode
        self.modes: Counter[str] = Counter()
        self._sides: list[tuple[int, int]] = []
        self._bad: list[tuple[str, str]] = []

    def read(self, names: Iterable[str]) -> None:
        """Look at each picture."""
        from PIL import Image  # noqa: PLC0415 - only who opens pictures needs Pillow

        for name in names:
            try:
                with Image.open(self.root / name) as opened:
                    if self.decode:
                        opened.load()
                    if min(opened.size) < LEAST_SIDE:
                        self._bad.append(
                            (
                                name,
                                (
                                    f"is {opened.width} x {opened.height}; {LEAST_SIDE} x {LEAST_SIDE} is "
                                    "the "
                                    "least"
                                ),
                            )
                        )
                    self.modes[opened.mode] += 1
                    self._sides.append(opened.size)
            except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
                self._bad.append(
                    (name, f"cannot be read: {str(error).replace(str(self.root / name), Path(name).name)}")
                )

    def fault(self, name: str) -> str | None:
        """Why the set is refused: pictures that cannot be read."""
        if not self._bad:
            return None
        said = "; ".join(f"{picture} {why}" for picture, why in self._bad[:_SHOWN])
        more = f" and {len(self._bad) - _SHOWN} more" if len(self._bad) > _SHOWN else ""
        return f"data set {name!r}: image {said}{more}; repair or remove them"

    def sizes(self) -> dict[str, list[int]]:
        """Smallest, median and largest of widths and heights."""
        sides = {"width": [w for w, _ in self._sides], "height": [h for _, h in self._sides]}
        return {
            side: [min(found), sorted(found)[len(found) // 2], max(found)]
            for side, found in sides.items()
            if found
        }

    def remarks(self) -> list[str]:
        """Modes that are mixed in one set are often an accident."""
        grey = sum(count for mode, count in self.modes.items() if mode[0] in "1LIF")
        colour = sum(self.modes.values()) - grey
        return (
            [f"{grey} grey and {colour} colour pictures: all are taken as colour"] if grey and colour else []
        )


def _lacking(name: str, classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> str | None:
    for split, found in counts.items():
        missing = [title for title, count in zip(classes, found, strict=True) if count == 0]
        if missing:
            shown = ", ".join(missing[:5])
            return (
                f"data set {name!r}: the {split} split lacks {len(missing)} class(es): {shown}; add samples"
            )
    return None


def _counts(index: FolderIndex) -> dict[str, list[int]]:
    """Pictures of each class in the splits as they will be."""
    classes = len(index.classes)
    if "pool" in index.splits:
        labels = index.splits["pool"].labels
        parts = dict(zip(SPLITS, folders.pool_parts(labels, classes), strict=True))
        return {split: np.bincount(labels[rows], minlength=classes).tolist() for split, rows in parts.items()}
    found = {split: files.counts(classes) for split, files in index.splits.items()}
    if "validation" not in found:
        found["validation"] = _cut(index.splits["train"], classes)
        found["train"] = [a - b for a, b in zip(found["train"], found["validation"], strict=True)]
    return {split: found[split] for split in SPLITS}


def _cut(train: Files, classes: int) -> list[int]:
    held, _ = stratified(train.labels, (validation_size(train.labels),), seed=0)
    return [int(n) for n in np.bincount(train.labels[held], minlength=classes)]


def _copies(index: FolderIndex) -> int:
    """Pictures of one split, byte for byte, that are in another one too; within a pool: more than once. Same
    sizes first."""
    by_size: dict[int, list[tuple[str, str]]] = {}
    for split, files in index.splits.items():
        for name in files.names:
            by_size.setdefault((index.root / name).stat().st_size, []).append((split, name))
    found = 0
    for alike in by_size.values():
        if len(alike) > 1 and (len({split for split, _ in alike}) > 1 or "pool" in index.splits):
            owners: dict[str, list[str]] = {}
            for split, name in alike:
                with (index.root / name).open("rb") as file:
                    owners.setdefault(hashlib.file_digest(file, "sha256").hexdigest(), []).append(split)
            found += sum(
                len(set(splits)) > 1 or (splits[0] == "pool" and len(splits) > 1)
                for splits in owners.values()
            )
    return found


def _per_class(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> dict[str, dict[str, int]]:
    return {split: dict(zip(classes, found, strict=True)) for split, found in counts.items()}


def _rare(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> list[str]:
    totals = np.sum([counts[split] for split in SPLITS], axis=0)
    return [
        (
            f"class {title!r} has {total} sample(s), {counts['test'][label]} of them to test: under {RARE}, "
            "its accuracy is a guess"
        )
        for label, (title, total) in enumerate(zip(classes, totals.tolist(), strict=True))
        if total < RARE
    ]


def _copied(copies: int, pooled: bool) -> list[str]:
    if not copies:
        return []
    where = "occur more than once, so copies may lie in train and test" if pooled else "lie in several splits"
    return [f"{copies} picture(s) {where}: the accuracy on test will look better than it is"]


def _left_out(skipped: Sequence[Skipped]) -> list[str]:
    return [f"{one.count} left out, {one.reason}: {', '.join(one.examples)}" for one in skipped]
