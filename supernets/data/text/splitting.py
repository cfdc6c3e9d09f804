"""Which pairs train, which validate and which test, so that nothing is tested that was nearly trained on.

Pairs belong together where their source or their target is the same but for case, digits and punctuation, or
where most of the sources' word pairs are. What belongs together goes to one split. Which one follows from a
hash of the text, so a set that grows keeps its splits, but for what joins two groups.

Near-duplicates are found by MinHash (Broder, "On the resemblance and containment of documents", 1997) with
bands (locality-sensitive hashing), and each candidate is compared in whole.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from supernets.data.text.pairs import Pair
from supernets.errors import InvalidDataset

Rows = npt.NDArray[np.int64]

HELD_SHARE: Final = 0.05
MOST_HELD: Final = 4_000
LEAST_PAIRS: Final = 60
ALIKE: Final = 0.7
"""Share of word pairs (of all that two sources have) from which on they count as near-duplicates."""
_BANDS, _IN_BAND = 6, 3  # at a share of 0.7 found with 0.92, at 0.8 with 0.99
_PRIME: Final = (1 << 31) - 1
_WORDS: Final = re.compile(r"[^\W_]+")


def plain(text: str) -> str:
    """Words alone, case folded, every number alike: what two sentences are compared by."""
    return " ".join("0" if word.isdigit() else word for word in _WORDS.findall(text.casefold()))


def spelling(text: str) -> str:
    """Of a word: without the marks of a genitive, which is the word again (`ann's` and `ann`)."""
    return text.removesuffix("'s").removesuffix("s'").replace("'", "")


def three_splits(pairs: Sequence[Pair], groups: Rows) -> tuple[Rows, Rows, Rows]:
    """Rows of train, validation and test, whole groups each. Raises InvalidDataset where there are too few,
    or one group is most of all."""
    if len(pairs) < LEAST_PAIRS:
        raise InvalidDataset(
            f"{len(pairs)} pairs are too few to train, validate and test: {LEAST_PAIRS} at least"
        )
    held = min(MOST_HELD, max(1, round(HELD_SHARE * len(pairs))))
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups.tolist()):
        members.setdefault(group, []).append(row)
    if max(map(len, members.values())) > 0.5 * len(pairs):
        raise InvalidDataset(
            "more than half of the pairs are near-duplicates of each other: there is nothing to test on"
        )
    keys = [hashlib.blake2b(source.encode(), digest_size=8).digest() for source, _ in pairs]
    keyed = sorted(members.values(), key=lambda rows: min(keys[row] for row in rows))
    parts: list[list[int]] = [[], [], []]
    for rows in keyed:
        # A group that is larger than what is still wanted trains.
        place = next((p for p in (2, 1) if len(parts[p]) + len(rows) <= held), 0)
        parts[place] += rows
    if not parts[1] or not parts[2]:
        raise InvalidDataset(
            "the pairs fall into too few groups of near-duplicates to hold some of them back"
        )
    train, validation, test = (np.array(sorted(rows), dtype=np.int64) for rows in parts)
    return train, validation, test


def groups_by_key(sources: Sequence[str], key: Callable[[str], str]) -> Rows:
    """Number of the group of each: those with the same key."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(key(source), len(numbers)) for source in sources], dtype=np.int64)


def near_duplicates(pairs: Sequence[Pair]) -> Rows:
    """Number of the group of each pair: the same source or target, or nearly the same source."""
    joined = _Union(len(pairs))
    for side in (0, 1):
        first: dict[str, int] = {}
        for row, pair in enumerate(pairs):
            key = plain(pair[side]) or pair[side]
            joined.unite(first.setdefault(key, row), row)
    shingles = [_shingles(plain(source)) for source, _ in pairs]
    for band in _signatures(shingles):
        order = np.argsort(band, kind="stable")
        for before, row in zip(order[:-1].tolist(), order[1:].tolist(), strict=True):
            same = band[before] == band[row]
            if same and joined.find(before) != joined.find(row) and _alike(shingles[before], shingles[row]):
                joined.unite(before, row)
    return np.array([joined.find(row) for row in range(len(pairs))], dtype=np.int64)


def _shingles(text: str) -> frozenset[int]:
    """Hashes of the pairs of neighbouring words, the ends among them."""
    words = ["", *text.split(), ""]
    return frozenset(zlib.crc32(f"{a} {b}".encode()) for a, b in pairwise(words))


def _signatures(shingles: Sequence[frozenset[int]]) -> list[npt.NDArray[np.uint64]]:
    """For every band one number a sentence; those of near-duplicates are likely the same."""
    lengths = np.array([len(found) for found in shingles])
    flat = np.array([n for found in shingles for n in sorted(found)], dtype=np.uint64) % _PRIME
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
    generator = np.random.default_rng(0)
    bands = []
    for _ in range(_BANDS):
        band = np.zeros(len(shingles), dtype=np.uint64)
        for _ in range(_IN_BAND):
            factor, offset = generator.integers(1, _PRIME, 2, dtype=np.uint64)
            least = np.minimum.reduceat((flat * factor + offset) % _PRIME, starts)
            band = band * np.uint64(0x9E3779B97F4A7C15) + least
        bands.append(band)
    return bands


def _alike(first: frozenset[int], second: frozenset[int]) -> bool:
    return len(first & second) >= ALIKE * len(first | second)


class _Union:
    """Disjoint sets of rows."""

    def __init__(self, rows: int) -> None:
        self._parent = list(range(rows))

    def find(self, row: int) -> int:
        """The row that stands for all of its set."""
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def unite(self, first: int, second: int) -> None:
        """Make one set of two; the smaller row stands for it."""
        a, b = sorted((self.find(first), self.find(second)))
        self._parent[b] = a
