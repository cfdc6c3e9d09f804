"""What is in a data set, before anything is trained on it: classes, splits, what is left out, what is odd,
why it is refused."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from supernets.data.folder_names import alike_name, shown
from supernets.data.groups import FILE as GROUPS
from supernets.data.heads import Heads
from supernets.data.index import FolderIndex, Skipped, index_folder
from supernets.data.loaders import folder as folders
from supernets.data.loaders import text as texts
from supernets.data.loaders.catalog import load_registered, located, unreadable
from supernets.data.loaders.forms import Form, Wanted
from supernets.data.pictures import LEAST_SIDE
from supernets.data.splits import SPLITS, Dataset
from supernets.data.text.pairs import LeftOut
from supernets.data.text.report import look_through
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

    lengths, ratio, unknown: of parallel text, as `supernets.data.text.report.TextFacts` has them.
    duplicates: copies of a picture in several splits, or within the pool that splits are made from.
    across_splits: of those, how many lie in several splits as they will be. groups: of pictures that stay in
    one split, 0 where nothing says any. refused: why it cannot be trained on, None where it can.
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
    across_splits: int = 0
    groups: int = 0
    lengths: Mapping[str, list[float]] = field(default_factory=dict)
    ratio: list[float] = field(default_factory=list)
    unknown: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is told of texts alone is left out of others."""
        plain = {**asdict(self), "classes": list(self.classes), "warnings": list(self.warnings)}
        return {
            key: value for key, value in plain.items() if value or key not in ("lengths", "ratio", "unknown")
        }


def check_dataset(name: str, path: Path) -> Report:
    """Look through the data set at `path`; a fault is in the report, not raised."""
    form: Form | None = None
    try:
        form, place = located(name, path)
        check = _CHECKS.get(form.name, _check_arrays)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Image size"
            )  # Pillow's, of large pictures: they are taken here
            return check(name, form.name, place)
    except InvalidDataset as error:
        return Report(name, None if form is None else form.name, refused=str(error))
    except OSError as error:
        return Report(name, None if form is None else form.name, refused=str(unreadable(name, error)))


def _check_arrays(name: str, form: str, path: Path) -> Report:
    dataset = cast(Dataset, load_registered(name, path, Wanted()))
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
        across_splits=copies,
        warnings=(*_rare(dataset.classes, counts), *_copied(copies, pooled=False)),
    )


def _check_folder(name: str, form: str, path: Path) -> Report:
    index = index_folder(name, path)
    heads = Heads(index.root, len(index.names) <= MOST_DECODED)
    heads.read(index.names)
    counts = _counts(name, index)
    copies = _copies(name, index)
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
        form,
        index.classes,
        {split: sum(found) for split, found in counts.items()},
        _per_class(index.classes, counts),
        heads.sizes(),
        dict(heads.modes.most_common()),
        copies.count,
        index.skipped,
        (
            *_rare(index.classes, counts),
            *_alike(index.classes),
            *copies.remarks("pool" in index.splits),
            *_left_out(index.skipped),
            *nested,
            *heads.remarks(),
        ),
        refused,
        copies.across,
        0 if index.groups is None else len({one for found in index.groups.values() for one in found}),
    )


def _check_text(name: str, form: str, path: Path) -> Report:
    facts = look_through(name, path)
    return Report(
        name,
        form,
        facts.tokens,
        facts.splits,
        skipped=tuple(
            Skipped(reason, count, tuple(facts.left_out.first[reason]))
            for reason, count in facts.left_out.counts.items()
        ),
        warnings=(*facts.warnings, *_left_out_lines(facts.left_out)),
        lengths=facts.lengths,
        ratio=facts.ratio,
        unknown=facts.unknown,
    )


def _left_out_lines(left_out: LeftOut) -> list[str]:
    return [
        f"{count} left out, {reason}: {'; '.join(left_out.first[reason])}"
        for reason, count in left_out.counts.items()
    ]


_CHECKS: Final = {folders.FORM.name: _check_folder, texts.FORM.name: _check_text}


def _lacking(name: str, classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> str | None:
    for split, found in counts.items():
        missing = [title for title, count in zip(classes, found, strict=True) if count == 0]
        if missing:
            some = ", ".join(missing[:5])
            return f"data set {name!r}: the {split} split lacks {len(missing)} class(es): {some}; add samples"
    return None


def _counts(name: str, index: FolderIndex) -> dict[str, list[int]]:
    """Pictures of each class in the splits as they will be."""
    classes = len(index.classes)
    if "pool" in index.splits:
        labels = index.splits["pool"].labels
        parts = dict(zip(SPLITS, folders.pool_parts(name, index), strict=True))
        return {split: np.bincount(labels[rows], minlength=classes).tolist() for split, rows in parts.items()}
    found = {split: files.counts(classes) for split, files in index.splits.items()}
    if "validation" not in found:
        _, held = folders.train_parts(name, index)
        found["validation"] = np.bincount(index.splits["train"].labels[held], minlength=classes).tolist()
        found["train"] = [a - b for a, b in zip(found["train"], found["validation"], strict=True)]
    return {split: found[split] for split in SPLITS}


def _owners(name: str, index: FolderIndex) -> dict[str, str]:
    """The split of each picture, as it will be."""
    owner = {one: split for split, files in index.splits.items() for one in files.names}
    if "pool" in index.splits:
        for split, rows in zip(SPLITS, folders.pool_parts(name, index), strict=True):
            owner |= {index.splits["pool"].names[row]: split for row in rows.tolist()}
    elif "validation" not in index.splits:
        _, held = folders.train_parts(name, index)
        owner |= {index.splits["train"].names[row]: "validation" for row in held.tolist()}
    return owner


@dataclass(frozen=True)
class _Copies:
    """Pictures that are there more than once, byte for byte. count: of those that lie in several splits,
    or in a pool; unsure: of those that have several classes, whose names come first among the examples;
    across: of those that lie in several splits as they will be, however these are made."""

    count: int
    unsure: int
    across: int
    examples: tuple[tuple[str, ...], ...]

    def remarks(self, pooled: bool) -> list[str]:
        """What to say of them."""
        said = _copied(self.count, pooled, [names[:2] for names in self.examples])
        if self.across and pooled:
            said.append(
                f"{self.across} of them lie in several splits as these are made here: give copies one group "
                f"({GROUPS}), or remove them"
            )
        if self.unsure:
            said.append(f"{self.unsure} picture(s) have several classes: at most one of them is right")
        return said


def _copies(name: str, index: FolderIndex) -> _Copies:
    """Same sizes first: only those are read."""
    place = _owners(name, index)
    by_size: dict[int, list[tuple[str, int, str]]] = {}
    for split, files in index.splits.items():
        for picture, label in zip(files.names, files.labels.tolist(), strict=True):
            by_size.setdefault((index.root / picture).stat().st_size, []).append((split, label, picture))
    owners: dict[str, list[tuple[str, int, str]]] = {}
    for alike in by_size.values():
        for split, label, picture in alike if len(alike) > 1 else ():
            with (index.root / picture).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            owners.setdefault(digest, []).append((split, label, picture))
    unsure = [found for found in owners.values() if len({label for _, label, _ in found}) > 1]
    spread = [
        found
        for found in owners.values()
        if len({split for split, _, _ in found}) > 1 or (found[0][0] == "pool" and len(found) > 1)
    ]
    examples = tuple(
        tuple(name for _, _, name in found)
        for found in [*unsure, *(one for one in spread if one not in unsure)][:_SHOWN]
    )
    across = sum(len({place[one] for _, _, one in found}) > 1 for found in owners.values())
    return _Copies(len(spread), len(unsure), across, examples)


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


def _copied(copies: int, pooled: bool, examples: Sequence[Sequence[str]] = ()) -> list[str]:
    if not copies:
        return []
    where = "occur more than once, so copies may lie in train and test" if pooled else "lie in several splits"
    said = f" ({'; '.join(' = '.join(names) for names in examples)})" if examples else ""
    return [f"{copies} picture(s) {where}: the accuracy on test will look better than it is{said}"]


def _alike(classes: Sequence[str]) -> list[str]:
    found: dict[str, list[str]] = {}
    for title in classes:
        found.setdefault(alike_name(title), []).append(title)
    return [
        f"classes {shown(same)} differ so little that they may be one"
        for same in found.values()
        if len(same) > 1
    ]


def _left_out(skipped: Sequence[Skipped]) -> list[str]:
    return [f"{one.count} left out, {one.reason}: {', '.join(one.examples)}" for one in skipped]
