"""How good written sentences are: BLEU of a translation, phoneme error of a pronunciation. No torch here.

A tally is a row of counts that add up over sentences, as `supernets.tasks.task` has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np

from latency_tables.dense import Array
from latency_tables.generation import END
from supernets.errors import InvalidTraining
from supernets.tasks.metric import Metric

BLEU: Final = Metric("bleu", lowest=0.0, highest=100.0)
PHONEME_ERROR: Final = Metric("phoneme_error", higher_is_better=False)
_ORDERS: Final = 4

Tokens = Sequence[int]


class Scoring(Protocol):
    """What is counted, and what that makes."""

    @property
    def metric(self) -> Metric: ...

    def of_texts(self, found: Sequence[str], wanted: Sequence[str]) -> Array:
        """The tally of decoded sentences against those that were wanted."""
        ...

    def of_tokens(self, found: Sequence[Tokens], wanted: Sequence[Tokens]) -> Array:
        """The same of tokens, END last: of a teacher-forced pass, where no text was decoded."""
        ...

    def quality(self, tally: Array) -> float:
        """Higher is better."""
        ...

    def said(self, tally: Array) -> dict[str, float | str]:
        """All that the tally tells, for reports."""
        ...


class Bleu:
    """Corpus BLEU (Papineni et al., ACL 2002) as `sacrebleu` counts it: case-sensitive, tokenised as for WMT
    (13a), smoothed exponentially. A tally: words written and wanted, matches and totals of one to four words.
    """

    metric: Final = BLEU

    def of_texts(self, found: Sequence[str], wanted: Sequence[str]) -> Array:
        """Of sentences as people write them."""
        return _counts(self._bleu(), found, wanted)

    def of_tokens(self, found: Sequence[Tokens], wanted: Sequence[Tokens]) -> Array:
        """Every token counts as a word, END too."""
        texts = [[" ".join(map(str, row)) for row in rows] for rows in (found, wanted)]
        return _counts(self._bleu(tokenize="none"), *texts)

    def quality(self, tally: Array) -> float:
        """0 to 100."""
        counts = [int(n) for n in np.rint(tally)]
        matches, totals = counts[2 : 2 + _ORDERS], counts[2 + _ORDERS :]
        if not matches[0]:
            return 0.0  # sacrebleu's smoothing gives something to nothing
        bleu = self._bleu()
        score = type(bleu).compute_bleu(
            matches, totals, counts[0], counts[1], smooth_method="exp", effective_order=False
        )
        return min(100.0, float(score.score))  # it rounds up a little past what is whole

    def said(self, tally: Array) -> dict[str, float | str]:
        """BLEU with the signature by which others can repeat it, and how long the sentences are."""
        return {
            "bleu": self.quality(tally),
            "length_ratio": float(tally[0] / tally[1]),
            "signature": SIGNATURE,
        }

    @staticmethod
    def _bleu(**settings: Any) -> Any:
        return _library().BLEU(force=True, **settings)


class PhonemeError:
    """Phoneme error: insertions, deletions and substitutions over the phonemes wanted (as word error rates
    count words), at most 1; word error: words with any. A tally: errors, phonemes, wrong words, words."""

    metric: Final = PHONEME_ERROR

    def of_texts(self, found: Sequence[str], wanted: Sequence[str]) -> Array:
        """Phonemes with spaces between."""
        pairs = [(one.split(), two.split()) for one, two in zip(found, wanted, strict=True)]
        errors = [edit_distance(one, two) for one, two in pairs]
        phonemes = sum(len(two) for _, two in pairs)
        return np.array([sum(errors), phonemes, sum(n > 0 for n in errors), len(pairs)], dtype=np.float64)

    def of_tokens(self, found: Sequence[Tokens], wanted: Sequence[Tokens]) -> Array:
        """Tokens place by place, END too: a teacher-forced network is given what was wanted before each."""
        errors = [
            sum(a != b for a, b in zip(one, two, strict=True)) for one, two in zip(found, wanted, strict=True)
        ]
        tokens = sum(map(len, wanted))
        return np.array([sum(errors), tokens, sum(n > 0 for n in errors), len(wanted)], dtype=np.float64)

    def quality(self, tally: Array) -> float:
        """Minus the phoneme error: -1 to 0."""
        return -min(1.0, float(tally[0] / tally[1]))

    def said(self, tally: Array) -> dict[str, float | str]:
        """Both errors."""
        return {"phoneme_error": -self.quality(tally), "word_error": float(tally[2] / tally[3])}


def edit_distance(found: Sequence[object], wanted: Sequence[object]) -> int:
    """Fewest insertions, deletions and substitutions that lead from one to the other (Levenshtein, 1966)."""
    row = list(range(len(wanted) + 1))
    for number, one in enumerate(found, 1):
        before, row[0] = row[0], number
        for place, two in enumerate(wanted, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (one != two))
    return row[-1]


def without_end(row: Tokens) -> list[int]:
    """Tokens up to END."""
    kept = list(map(int, row))
    return kept[: kept.index(END)] if END in kept else kept


def _counts(bleu: Any, found: Sequence[str], wanted: Sequence[str]) -> Array:
    score = bleu.corpus_score(list(found), [list(wanted)])
    return np.array([score.sys_len, score.ref_len, *score.counts, *score.totals], dtype=np.float64)


def _library() -> Any:
    try:
        import sacrebleu  # noqa: PLC0415 - only where translations are scored
    except ImportError:
        raise InvalidTraining(
            "BLEU needs the library `sacrebleu`; install bespoke-nas[text] where this runs"
        ) from None
    return sacrebleu


def signature() -> str:
    """By what others can repeat these BLEU scores."""
    bleu = _library().BLEU(force=True)
    bleu.corpus_score(["a"], [["a"]])
    return str(bleu.get_signature())


SIGNATURE: Final = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"
"""sacrebleu's, without its version; a test holds it against the library's own."""
