"""Numbers in English and Spanish words: the built-in data set `number-words`, learnt within a minute or two.

It shows that a translation works from end to end; since nearly everything is right in the end, it says little
of how good a network is.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from supernets.data.text.pairs import Pair
from supernets.data.text.sentences import Sentences, encoded
from supernets.data.text.splitting import groups_by_key, three_splits
from supernets.data.text.writing import Words

NUMBERS: Final = 12_000
BELOW: Final = 1_000_000
LONGEST: Final = 20

_WORDS: Final = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen | - - twenty thirty forty fifty sixty seventy eighty ninety | cero uno dos tres
cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete dieciocho
diecinueve veinte veintiuno veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho
veintinueve | - - - treinta cuarenta cincuenta sesenta setenta ochenta noventa | - ciento doscientos
trescientos cuatrocientos quinientos seiscientos setecientos ochocientos novecientos
"""
_ENGLISH, _ENGLISH_TENS, _SPANISH, _SPANISH_TENS, _SPANISH_HUNDREDS = (
    part.split() for part in _WORDS.split("|")
)


def english(number: int) -> str:
    """0 to 999,999 in words: `forty two thousand three hundred and one`."""
    if number >= 1000:
        rest = number % 1000
        head = f"{english(number // 1000)} thousand"
        return head if not rest else f"{head} {'and ' if rest < 100 else ''}{english(rest)}"
    if number >= 100:
        head = f"{_ENGLISH[number // 100]} hundred"
        return f"{head} and {english(number % 100)}" if number % 100 else head
    if number >= 20:
        head = _ENGLISH_TENS[number // 10]
        return f"{head} {_ENGLISH[number % 10]}" if number % 10 else head
    return _ENGLISH[number]


def spanish(number: int, *, before_noun: bool = False) -> str:
    """0 to 999,999 in words: `cuarenta y dos mil trescientos uno`. before_noun: `un` for `uno`, as before
    `mil`."""
    if number >= 1000:
        thousands, rest = divmod(number, 1000)
        head = "mil" if thousands == 1 else f"{spanish(thousands, before_noun=True)} mil"
        return f"{head} {spanish(rest)}" if rest else head
    if number == 100:
        return "cien"
    if number > 100:
        head = _SPANISH_HUNDREDS[number // 100]
        return f"{head} {spanish(number % 100, before_noun=before_noun)}" if number % 100 else head
    if number >= 30:
        head = _SPANISH_TENS[number // 10]
        return f"{head} y {spanish(number % 10, before_noun=before_noun)}" if number % 10 else head
    if before_noun and number in (1, 21):
        return "un" if number == 1 else "veintiún"
    return _SPANISH[number]


ENGLISH: Final = tuple(sorted({*_ENGLISH, *_ENGLISH_TENS[2:], "hundred", "thousand", "and"}))
SPANISH: Final = tuple(
    sorted({*_SPANISH, *_SPANISH_TENS[3:], *_SPANISH_HUNDREDS[1:], "cien", "mil", "y", "un", "veintiún"})
)


@lru_cache(maxsize=1)
def load_number_words(folder: Path | None = None) -> Sentences:
    """Numbers of every length, none in two splits."""
    generator = np.random.default_rng(0)
    drawn = np.concatenate(
        [np.arange(100), np.exp(generator.uniform(0, np.log(BELOW), 2 * NUMBERS)).astype(int)]
    )
    numbers = list(dict.fromkeys(drawn.tolist()))[:NUMBERS]
    pairs: list[Pair] = [(english(number), spanish(number)) for number in numbers]
    rows = three_splits(pairs, groups_by_key([source for source, _ in pairs], str))
    splits = {
        name: [pairs[row] for row in part.tolist()]
        for name, part in zip(("train", "validation", "test"), rows, strict=True)
    }
    writings = (Words.of(ENGLISH, "English words"), Words.of(SPANISH, "Spanish words"))
    return encoded("number-words", "translation", writings, splits, LONGEST)
