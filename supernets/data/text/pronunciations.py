"""English words and how they are spoken: the built-in data set `pronunciations`.

Source: the CMU Pronouncing Dictionary (Carnegie Mellon University, BSD-2, see `pronunciations.LICENSE`),
without stress and further variants of a word: 124,926 words of 27 letters, 39 phonemes.
"""

from __future__ import annotations

import lzma
from functools import lru_cache
from pathlib import Path
from typing import Final

from supernets.data.text.pairs import Pair
from supernets.data.text.sentences import Sentences, encoded
from supernets.data.text.splitting import groups_by_key, spelling, three_splits
from supernets.data.text.writing import Letters, Words

LIST: Final = Path(__file__).with_name("pronunciations.txt.xz")
LETTERS: Final = "'abcdefghijklmnopqrstuvwxyz"
_PHONEMES: Final = """
AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH
"""
PHONEMES: Final = tuple(_PHONEMES.split())
LONGEST: Final = 32


def read_list() -> list[Pair]:
    """(word, its phonemes with spaces between), in alphabetical order."""
    with lzma.open(LIST, "rt", encoding="ascii") as file:
        parts = (line.rstrip("\n").partition(" ") for line in file)
        return [(word, phonemes) for word, _, phonemes in parts]


@lru_cache(maxsize=1)
def load_pronunciations(folder: Path | None = None) -> Sentences:
    """A word and its genitive are in one split; which one follows from its spelling."""
    pairs = read_list()
    rows = three_splits(pairs, groups_by_key([word for word, _ in pairs], spelling))
    splits = {
        name: [pairs[row] for row in part.tolist()]
        for name, part in zip(("train", "validation", "test"), rows, strict=True)
    }
    writings = (Letters(LETTERS), Words.of(PHONEMES, "phonemes"))
    return encoded("pronunciations", "pronunciation", writings, splits, LONGEST)
