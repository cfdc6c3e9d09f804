"""A folder of parallel text: which files it has, how they are split, and the vocabularies that belong to it.

A folder holds texts, `text.json` with what its sides are called and how long sentences may be, and either
`tokenizer.json` for both sides or `source-tokenizer.json` and `target-tokenizer.json`. `learn_vocabularies`
writes them; they are a part of the data set like its texts, so nothing is learnt in silence later.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from supernets.data.folder_names import SPLIT_NAMES, is_hidden
from supernets.data.splits import SPLITS
from supernets.data.text.pairs import Languages, LeftOut, Pair, read_files, read_settings
from supernets.data.text.splitting import near_duplicates, three_splits
from supernets.data.text.writing import Parts, learn_parts
from supernets.errors import InvalidDataset

SETTINGS: Final = "text.json"
JOINED: Final = "tokenizer.json"
SEPARATE: Final = ("source-tokenizer.json", "target-tokenizer.json")
LONGEST: Final = 100
MOST_LONGEST: Final = 1024
_KEYS: Final = {"source": str, "target": str, "longest": int}
_OWN: Final = frozenset({SETTINGS, JOINED, *SEPARATE})
_ALONE: Final = (".tsv", ".jsonl")
_LEARN: Final = "bespoke datasets vocabulary FOLDER --source en --target it"


@dataclass(frozen=True)
class TextSettings:
    """languages: of the two sides. longest: tokens of a sentence on either side, END among them."""

    languages: Languages
    longest: int = LONGEST

    def __post_init__(self) -> None:
        if not 4 <= self.longest <= MOST_LONGEST:
            raise InvalidDataset(
                f"{SETTINGS}: longest must be 4 to {MOST_LONGEST} tokens, not {self.longest}"
            )
        if self.languages.source == self.languages.target:
            raise InvalidDataset(f"{SETTINGS}: source and target need different names, such as en and it")


@dataclass(frozen=True)
class Texts:
    """Pairs of each split. moved: how many were taken out of a given split since another one has nearly the
    same; alike: pairs that have near-duplicates."""

    pairs: Mapping[str, Sequence[Pair]]
    left_out: LeftOut
    moved: int
    alike: int


def looks_like_text(place: Path) -> bool:
    """Whether the folder holds parallel text: its settings, a file of pairs, or two files of one name with
    different endings and nothing else."""
    if not place.is_dir():
        return False
    files = [path for path in _visible(place) if path.is_file()]
    if any(path.name == SETTINGS or path.suffix in _ALONE for path in files):
        return True
    return len(files) == 2 and len({path.stem for path in files}) == 1 and all(path.suffix for path in files)


def settings_of(name: str, folder: Path) -> TextSettings:
    """Those of `text.json`. Raises InvalidDataset, with the command that writes it."""
    if not (folder / SETTINGS).is_file():
        raise InvalidDataset(
            f"data set {name!r}: there is no {SETTINGS} that says which side is the source, and no "
            "vocabulary; "
            f"learn one with: {_LEARN}"
        )
    data = read_settings(name, folder / SETTINGS, _KEYS)
    return TextSettings(Languages(data["source"], data["target"]), data["longest"])


def vocabulary_files(name: str, folder: Path) -> tuple[Path, Path]:
    """Of source and target, the same file twice where they share one. Raises InvalidDataset."""
    separate = tuple(folder / file for file in SEPARATE)
    if (folder / JOINED).is_file():
        if any(path.is_file() for path in separate):
            raise InvalidDataset(
                f"data set {name!r}: both {JOINED} and {SEPARATE[0]}; keep one or the two others"
            )
        return folder / JOINED, folder / JOINED
    if not all(path.is_file() for path in separate):
        raise InvalidDataset(f"data set {name!r} has no vocabulary; learn one with: {_LEARN}")
    return separate[0], separate[1]


def vocabularies(name: str, folder: Path) -> tuple[Parts, Parts]:
    """Of source and target. Raises InvalidDataset."""
    found = {}
    for path in set(vocabulary_files(name, folder)):
        try:
            found[path] = Parts(path.read_text(encoding="utf-8"), path.name)
        except UnicodeDecodeError:
            raise InvalidDataset(f"data set {name!r}: {path.name} is not UTF-8") from None
    source, target = vocabulary_files(name, folder)
    return found[source], found[target]


def text_files(name: str, folder: Path, languages: Languages) -> dict[str, list[Path]]:
    """Files of every split, or of the one pool that splits are made from ("pool"). Raises InvalidDataset that
    says what is missing."""
    found: dict[str, list[Path]] = {}
    for path in _visible(folder):
        if path.name in _OWN or not path.is_file():
            continue
        if path.suffix in _ALONE:
            group = [path]
        elif path.suffix == f".{languages.source}":
            group = [path, path.with_suffix(f".{languages.target}")]
        else:
            continue
        split = SPLIT_NAMES.get(path.stem.casefold(), "pool")
        if split in found:
            raise InvalidDataset(
                f"data set {name!r}: {found[split][0].name} and {path.name} are both its {split} texts; "
                "put them into "
                "one file"
            )
        found[split] = group
    missing = [path.name for group in found.values() for path in group if not path.is_file()]
    if missing:
        raise InvalidDataset(f"data set {name!r}: {missing[0]} is missing beside the other language")
    if not found:
        raise InvalidDataset(
            f"data set {name!r}: no texts; wanted two files such as text.{languages.source} and "
            f"text.{languages.target}, or one .tsv or .jsonl"
        )
    whole = {"pool"} if "pool" in found else set(SPLITS)
    if set(found) - {"pool", "train"} and set(found) != whole:
        raise InvalidDataset(
            f"data set {name!r}: texts for {', '.join(sorted(found))}; give one pool, or train, "
            "validation and test"
        )
    return found


def read_texts(name: str, folder: Path, languages: Languages) -> Texts:
    """Pairs by split, none with a near-duplicate in another one. Raises InvalidDataset."""
    left_out = LeftOut()
    files = text_files(name, folder, languages)
    read = {split: read_files(name, group, languages, left_out) for split, group in files.items()}
    if set(read) != set(SPLITS):
        ((_, pool),) = read.items()
        groups = near_duplicates(pool)
        try:
            rows = three_splits(pool, groups)
        except InvalidDataset as error:
            raise InvalidDataset(f"data set {name!r}: {error}") from None
        parts = {
            split: [pool[row] for row in part.tolist()] for split, part in zip(SPLITS, rows, strict=True)
        }
        return Texts(parts, left_out, 0, _alike(groups))
    pairs = [pair for split in SPLITS for pair in read[split]]
    owner = np.repeat(np.arange(len(SPLITS)), [len(read[split]) for split in SPLITS])
    groups = near_duplicates(pairs)
    # What the test has stays there: published figures are of it. Train and validation lose what is alike.
    last = np.zeros(groups.max() + 1, dtype=np.int64)
    np.maximum.at(last, groups, owner)
    kept = owner == last[groups]
    parts = {
        split: [pairs[row] for row in np.flatnonzero(kept & (owner == number)).tolist()]
        for number, split in enumerate(SPLITS)
    }
    empty = [split for split in SPLITS if not parts[split]]
    if empty:
        raise InvalidDataset(
            f"data set {name!r}: every {empty[0]} pair has a near-duplicate in a later split; give "
            "splits that differ"
        )
    return Texts(parts, left_out, int((~kept).sum()), _alike(groups))


def learn_vocabularies(
    name: str, folder: Path, settings: TextSettings, size: int, *, joined: bool
) -> tuple[Parts, Parts]:
    """Learn vocabularies from the training texts and write them and `text.json` into the folder.

    Raises InvalidDataset, also where the folder has a vocabulary already: another one makes another data set.
    """
    there = [file for file in sorted(_OWN) if (folder / file).exists()]
    if there:
        raise InvalidDataset(
            f"data set {name!r} has {there[0]} already; delete it to learn another vocabulary, which "
            "makes another "
            "data set of it"
        )
    pairs = read_texts(name, folder, settings.languages).pairs["train"]
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    if joined:
        both = learn_parts([*sources, *targets], size, JOINED)
        found = (both, both)
    else:
        found = (learn_parts(sources, size, SEPARATE[0]), learn_parts(targets, size, SEPARATE[1]))
    for parts in dict.fromkeys(found):
        (folder / parts.name).write_text(parts.text, encoding="utf-8")
    written = {
        "source": settings.languages.source,
        "target": settings.languages.target,
        "longest": settings.longest,
    }
    (folder / SETTINGS).write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return found


def _alike(groups: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
    counts = np.unique(groups, return_counts=True)[1]
    return int(counts[counts > 1].sum())


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_hidden(path.name))
