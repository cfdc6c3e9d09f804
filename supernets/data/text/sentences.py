"""A data set of sentences and what they become: encoded splits, two vocabularies, and the texts themselves to
score against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Final

import numpy as np
import numpy.typing as npt

from latency_tables.generation import PADDING, UNKNOWN
from supernets.data.splits import SPLITS
from supernets.data.text.pairs import LeftOut, Pair
from supernets.data.text.writing import Writing
from supernets.errors import InvalidDataset

Ints = npt.NDArray[np.int64]
MOST_UNKNOWN: Final = 0.2


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of tokens of different length, one after the other. ends: where each row ends."""

    tokens: npt.NDArray[np.int32]
    ends: Ints

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """Those rows."""
        ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        return cls(np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(ends[-1])), ends)

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def lengths(self) -> Ints:
        """Tokens of each row, END among them."""
        return np.diff(self.ends, prepend=0)

    def take(self, rows: Ints) -> Ragged:
        """Those rows, ascending."""
        if len(rows) == len(self):
            return self
        kept = np.zeros(len(self), dtype=bool)
        kept[rows] = True
        return Ragged(self.tokens[np.repeat(kept, self.lengths)], np.cumsum(self.lengths[rows]))

    def unknown(self) -> float:
        """Share of unknown tokens, ENDs not counted."""
        return float((self.tokens == UNKNOWN).sum() / max(1, len(self.tokens) - len(self)))

    def padded(self, rows: Ints, length: int) -> Ints:
        """Those rows, padded on the right, (rows, length)."""
        lengths = self.lengths[rows]
        batch = np.full((len(rows), length), PADDING, dtype=np.int64)
        batch[np.arange(length) < lengths[:, None]] = np.concatenate(
            [self.tokens[end - n : end] for end, n in zip(self.ends[rows], lengths, strict=True)]
        )
        return batch


@dataclass(frozen=True, eq=False)
class Split:
    """Pairs of one split. texts: sources and targets as they were read."""

    source: Ragged
    target: Ragged
    texts: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def lengths(self) -> Ints:
        """Tokens of the longer side of each pair."""
        return np.maximum(self.source.lengths, self.target.lengths)


@dataclass(frozen=True, eq=False)
class Sentences:
    """What `supernets.tasks.data.Data` asks for, and the splits.

    longest: tokens of the longest sentence on either side, END among them: what a network's input is made
    for. left_out: pairs that were not used, and why.
    """

    name: str
    task: str
    source: Writing
    target: Writing
    splits: Mapping[str, Split]
    longest: int
    left_out: LeftOut

    @property
    def classes(self) -> tuple[str, ...]:
        """What the outputs of a network stand for: the target's tokens. Embeddings of both sides are as large
        as the larger vocabulary, so a smaller target is filled up with names that nothing is written with."""
        more = max(0, len(self.source.tokens) - len(self.target.tokens))
        return (*self.target.tokens, *(f"<nothing {number}>" for number in range(more)))

    def split(self, name: str) -> Split:
        """`train`, `validation` or `test`."""
        if name not in SPLITS:
            raise ValueError(f"a split is one of {', '.join(SPLITS)}")
        return self.splits[name]


def encoded(
    name: str,
    task: str,
    writings: tuple[Writing, Writing],
    pairs: Mapping[str, Sequence[Pair]],
    longest: int,
    left_out: LeftOut | None = None,
) -> Sentences:
    """The data set of those pairs. Pairs of more than `longest` tokens on a side are left out.

    Raises InvalidDataset where a vocabulary knows too little of its text, or a split is left with nothing.
    """
    left_out = left_out or LeftOut()
    splits = {}
    for split in SPLITS:
        sides = [
            Ragged.of(writing.encode_all([pair[side] for pair in pairs[split]]))
            for side, writing in enumerate(writings)
        ]
        for writing, rows in zip(writings, sides, strict=True):
            share = rows.unknown()
            if share > MOST_UNKNOWN:
                raise InvalidDataset(
                    f"data set {name!r}: {writing.name} does not know {share:.0%} of the tokens of the "
                    f"{split} "
                    "split; it is the vocabulary of another text or language"
                )
        lengths = np.maximum(sides[0].lengths, sides[1].lengths)
        for row in np.flatnonzero(lengths > longest).tolist():
            left_out.note(f"over {longest} tokens", f"pair {row + 1} of {split} ({lengths[row]} tokens)")
        kept = np.flatnonzero(lengths <= longest)
        if not len(kept):
            raise InvalidDataset(
                f"data set {name!r}: no pair of the {split} split has at most {longest} tokens on each side; "
                "allow more"
            )
        texts = tuple(pairs[split][row] for row in kept.tolist())
        splits[split] = Split(sides[0].take(kept), sides[1].take(kept), texts)
    return Sentences(name, task, *writings, splits, longest, left_out)
