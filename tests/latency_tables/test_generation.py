"""Beam search on networks small enough to try every sentence."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from latency_tables.generation import END, PADDING, Hypothesis, Ints, beam_search

VOCABULARY = 6


class Table:
    """A network that is a table: logits by sentence and by all tokens so far; it follows `parents` as caches do."""

    def __init__(self, sentences: int, seed: int) -> None:
        self.seed, self.calls = seed, 0
        self.rows: list[tuple[int, tuple[int, ...]]] = [(s, ()) for s in range(sentences)]

    def logits(self, sentence: int, before: tuple[int, ...]) -> np.ndarray:
        return (
            np.random.default_rng([self.seed, sentence, *before]).normal(0, 2, VOCABULARY).astype(np.float32)
        )

    def __call__(self, tokens: Ints, parents: Ints) -> np.ndarray:
        self.calls += 1
        rows = [self.rows[p] for p in parents]
        self.rows = [(s, (*before, int(t))) for (s, before), t in zip(rows, tokens, strict=True)]
        return np.stack([self.logits(s, before) for s, before in self.rows])

    def score(self, sentence: int, tokens: tuple[int, ...]) -> float:
        total, before = 0.0, (END,)
        for token in tokens:
            logits = self.logits(sentence, before).astype(np.float64)
            total += float(logits[token] - np.log(np.exp(logits).sum()))
            before = (*before, token)
        return total


def every(longest: int) -> list[tuple[int, ...]]:
    words = [t for t in range(VOCABULARY) if t not in (END, PADDING)]
    return [(*w, END) for n in range(1, longest + 1) for w in product(words, repeat=n)]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_beam_wide_enough_finds_the_best_of_all(seed: int, penalty: float) -> None:
    network = Table(2, seed)
    found = beam_search(network, 2, beam=90, length_penalty=penalty, longest=3)
    for sentence in range(2):
        scored = {t: network.score(sentence, t) / len(t) ** penalty for t in every(3)}
        best = max(scored, key=scored.__getitem__)
        assert found[sentence][0].tokens == best
        assert found[sentence][0].score == pytest.approx(scored[best], abs=1e-5)
        # All of them end in time, and there are no more: every sentence is found once.
        assert sorted(h.tokens for h in found[sentence]) == sorted(scored)
        assert all(h.score == pytest.approx(scored[h.tokens], abs=1e-5) for h in found[sentence])


def test_one_beam_is_greedy() -> None:
    network = Table(3, 7)
    for sentence, hypotheses in enumerate(beam_search(network, 3, beam=1, longest=5)):
        before: tuple[int, ...] = (END,)
        wanted: list[int] = []
        while not wanted or wanted[-1] != END:
            logits = network.logits(sentence, before).astype(np.float64)
            logits[PADDING] = -np.inf
            if not wanted:
                logits[END] = -np.inf
            token = END if len(wanted) == 5 else int(logits.argmax())
            wanted.append(token)
            before = (*before, token)
        assert [h.tokens for h in hypotheses] == [tuple(wanted)]


def test_sentences_do_not_depend_on_each_other() -> None:
    """A sentence that is finished leaves the batch; the others are decoded as if alone."""

    class Alone(Table):
        def __init__(self, sentence: int) -> None:
            super().__init__(1, 3)
            self.rows = [(sentence, ())]

    together = beam_search(Table(6, 3), 6, beam=3, longest=8)
    assert len({max(len(h.tokens) for h in hypotheses) for hypotheses in together}) > 1
    for sentence, hypotheses in enumerate(together):
        assert beam_search(Alone(sentence), 1, beam=3, longest=8)[0] == hypotheses


def test_a_search_ends_with_the_first_hypotheses_that_are_finished() -> None:
    """What is certain to end after one word is decoded in two steps, however long it may be."""

    def step(tokens: Ints, parents: Ints) -> np.ndarray:
        logits = np.full((len(tokens), VOCABULARY), -50.0, dtype=np.float32)
        logits[:, 4] = 0
        logits[tokens != END, END] = 60
        calls.append(len(tokens))
        return logits

    calls: list[int] = []
    assert beam_search(step, 1, beam=1, longest=200) == [[Hypothesis((4, END), pytest.approx(0.0, abs=1e-6))]]
    assert calls == [1, 1]


def test_the_least_and_the_greatest_length_hold() -> None:
    for shortest, longest in ((0, 0), (2, 2), (1, 4)):
        found = beam_search(Table(4, 1), 4, beam=2, shortest=shortest, longest=longest)
        lengths = {len(h.tokens) - 1 for hypotheses in found for h in hypotheses}
        assert lengths and min(lengths) >= shortest and max(lengths) <= longest
        assert all(h.tokens[-1] == END and PADDING not in h.tokens for hs in found for h in hs)


@pytest.mark.parametrize("numbers", [{"beam": 0}, {"shortest": 3, "longest": 2}, {"shortest": -1}])
def test_numbers_that_make_no_search_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="beam must be 1"):
        beam_search(Table(1, 0), 1, **numbers)
