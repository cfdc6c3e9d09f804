"""What parallel text is like, before anything is trained on it: lengths, their ratio, what the vocabularies
do not know, what is odd."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from supernets.data.splits import SPLITS
from supernets.data.text.folder import read_texts, settings_of, vocabularies
from supernets.data.text.pairs import LeftOut, Pair
from supernets.data.text.sentences import Ragged, encoded
from supernets.tasks.info import TRANSLATION

ODD_RATIO: Final = 4.0
_LEAST_TOKENS: Final = 5  # of the shorter side, for a ratio to mean something
_UNKNOWN: Final = 0.01


@dataclass(frozen=True)
class TextFacts:
    """splits: pairs of each. lengths: tokens of a sentence and words where it says so: least, median, 95 of
    100 below, most. ratio: target over source tokens, likewise. unknown: share of tokens that the vocabulary
    does not have, by side."""

    splits: Mapping[str, int]
    lengths: Mapping[str, list[float]]
    ratio: list[float]
    unknown: Mapping[str, float]
    tokens: tuple[str, ...]
    left_out: LeftOut
    warnings: tuple[str, ...]


def look_through(name: str, folder: Path) -> TextFacts:
    """Facts of the folder. Raises InvalidDataset for what cannot be trained on."""
    settings, writings = settings_of(name, folder), vocabularies(name, folder)
    texts = read_texts(name, folder, settings.languages)
    pairs = [pair for split in SPLITS for pair in texts.pairs[split]]
    rows = [
        Ragged.of(writing.encode_all([pair[side] for pair in pairs])) for side, writing in enumerate(writings)
    ]
    data = encoded(name, TRANSLATION, writings, texts.pairs, settings.longest, texts.left_out)
    lengths = [(side.lengths - 1).astype(np.float64) for side in rows]
    ratios = lengths[1] / lengths[0]
    unknown = {"source": rows[0].unknown(), "target": rows[1].unknown()}
    return TextFacts(
        {split: len(data.split(split)) for split in SPLITS},
        {"source": _spread(lengths[0]), "target": _spread(lengths[1])},
        _spread(ratios),
        unknown,
        writings[1].tokens,
        texts.left_out,
        (
            *_odd(pairs, lengths, ratios),
            *_known(unknown),
            *_alike(texts.moved, texts.alike),
        ),
    )


def _spread(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[float]:
    return [
        round(float(one), 3)
        for one in (values.min(), np.median(values), np.quantile(values, 0.95), values.max())
    ]


def _odd(
    pairs: Sequence[Pair],
    lengths: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.float64]]],
    ratios: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> list[str]:
    found = []
    far = np.flatnonzero(
        (np.maximum(ratios, 1 / ratios) > ODD_RATIO) & (np.maximum(*lengths) >= ODD_RATIO * _LEAST_TOKENS)
    )
    if len(far):
        example = pairs[far[0]]
        found.append(
            f"{len(far)} pair(s) are over {ODD_RATIO:g} times as long on one side, such as "
            f"{example[0][:40]!r} and "
            f"{example[1][:40]!r}: they may not belong together"
        )
    same = sum(source == target for source, target in pairs)
    if same > 0.01 * len(pairs):
        found.append(f"{same} pair(s) are the same on both sides: a network learns to copy from them")
    several = len(pairs) - len({source for source, _ in pairs})
    if several > 0.01 * len(pairs):
        found.append(
            f"{several} pair(s) have a source that another pair has too: what is wanted is then a "
            "matter of taste"
        )
    return found


def _known(unknown: Mapping[str, float]) -> list[str]:
    return [
        f"the vocabulary does not know {share:.1%} of the {side}'s tokens; learn a larger one, or one "
        "of this text"
        for side, share in unknown.items()
        if share > _UNKNOWN
    ]


def _alike(moved: int, alike: int) -> list[str]:
    found = []
    if alike:
        found.append(f"{alike} pair(s) have near-duplicates; those that belong together are in one split")
    if moved:
        found.append(f"{moved} pair(s) were taken out of their split, since a later one has nearly the same")
    return found
