"""Generating text token by token from a network with caches, greedily or by beam search. Numpy alone.

Scores, candidates and the end of a search are those of fairseq's generator, so that a network gives the
sentences that its published figures were computed from. The network is a function: what runs it (torch, ONNX
Runtime) is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

BEGIN: Final = 0
PADDING: Final = 1
END: Final = 2
UNKNOWN: Final = 3
"""Symbols of every vocabulary; its words follow. A sentence ends with END, and generation begins with it."""

Ints = npt.NDArray[np.int64]
Step = Callable[[Ints, Ints], npt.NDArray[np.floating]]
"""(tokens (rows,), parents (rows,)) -> logits (rows, vocabulary). parents: of which row of the call before
each row is the continuation, of which sentence in the first call; caches must follow."""


@dataclass(frozen=True)
class Hypothesis:
    """A finished sentence. tokens: with END. score: sum of log-probabilities / length ** length penalty."""

    tokens: tuple[int, ...]
    score: float


def beam_search(
    step: Step,
    sentences: int,
    *,
    beam: int = 5,
    length_penalty: float = 1.0,
    longest: int = 200,
    shortest: int = 1,
) -> list[list[Hypothesis]]:
    """Up to `beam` finished hypotheses of every sentence, best first; beam 1 is greedy.

    A sentence is finished with the first `beam` hypotheses that end. longest, shortest: tokens before END.
    Raises ValueError for numbers that make no search.
    """
    if beam < 1 or not 0 <= shortest <= longest:
        raise ValueError("beam must be 1 or more, and 0 <= shortest <= longest")
    finished: list[list[Hypothesis]] = [[] for _ in range(sentences)]
    open_ = np.arange(sentences)  # numbers of the sentences that are not finished
    tokens, parents = np.full(sentences, END), np.arange(sentences)
    histories = np.zeros((sentences, 1, 0), dtype=np.int64)  # (open sentences, beams, tokens)
    scores = np.zeros((sentences, 1))
    for length in range(1, longest + 2):
        found = _allowed(_log_softmax(step(tokens, parents)), length, shortest, longest)
        vocabulary, width = found.shape[1], scores.shape[1]
        totals = (scores[:, :, None] + found.reshape(len(open_), width, vocabulary)).reshape(len(open_), -1)
        best = _largest(totals, min(2 * beam, totals.shape[1]))
        values, chosen = np.take_along_axis(totals, best, axis=1), best % vocabulary
        for row, column in np.argwhere((chosen == END) & np.isfinite(values))[:, :2]:
            done = finished[open_[row]]
            if column < beam and len(done) < beam:
                history = histories[row, best[row, column] // vocabulary]
                done.append(
                    Hypothesis((*history.tolist(), END), float(values[row, column]) / length**length_penalty)
                )
        going = np.array([i for i, s in enumerate(open_) if len(finished[s]) < beam], dtype=np.int64)
        if length > longest or not len(going):
            break
        # The best that do not end go on, whether or not they are among the first `beam`.
        kept = np.argsort(chosen[going] == END, axis=1, kind="stable")[:, :beam]
        source = np.take_along_axis(best[going] // vocabulary, kept, axis=1)
        new = np.take_along_axis(chosen[going], kept, axis=1)
        # Where the vocabulary is smaller than the beam, ended ones are among them: they lead nowhere.
        scores = np.where(new == END, -np.inf, np.take_along_axis(values[going], kept, axis=1))
        histories = np.concatenate((histories[going[:, None], source], new[:, :, None]), axis=2)
        parents, tokens, open_ = (going[:, None] * width + source).ravel(), new.ravel(), open_[going]
    return [sorted(hypotheses, key=lambda h: h.score, reverse=True) for hypotheses in finished]


def _allowed(
    found: npt.NDArray[np.float64], length: int, shortest: int, longest: int
) -> npt.NDArray[np.float64]:
    """Log-probabilities of a token at this length, minus infinity where it may not be."""
    found[:, PADDING] = -np.inf
    if length > longest:
        found[:, np.arange(found.shape[1]) != END] = -np.inf
    elif length <= shortest:
        found[:, END] = -np.inf
    return found


def _log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    shifted: npt.NDArray[np.float64] = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def _largest(values: npt.NDArray[np.float64], count: int) -> Ints:
    """Columns of the largest values of each row, largest first."""
    columns = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, columns, axis=1), axis=1, kind="stable")
    found: Ints = np.take_along_axis(columns, order, axis=1)
    return found
