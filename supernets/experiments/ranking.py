"""How well what a search ranks by ranks networks that write sentences: their loss, and what they write.

HAT (Wang et al., ACL 2020) searches by the validation loss of inherited weights; here networks are searched
by what they write. Both are held against what the same networks write on sentences that nobody searched on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch

from latency_tables.dense import Array
from supernets.accuracy.predictor import kendall_tau
from supernets.data.text.sentences import Sentences
from supernets.errors import InvalidTraining
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.tasks.sentences import SentencesTask

RANKED: Final = 32
"""Networks of a report."""
TOKENS: Final = 4000
BATCHES: Final = 2
"""Of so many tokens each: the same ones for every network."""


@dataclass(frozen=True)
class Ranks:
    """How alike two orders of networks are. spearman, kendall: correlations of ranks, 1 where they are the
    same; None where a side is constant."""

    spearman: float | None
    kendall: float | None

    @classmethod
    def of(cls, first: Array, second: Array) -> Ranks:
        if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
            return cls(None, None)
        from scipy.stats import rankdata  # noqa: PLC0415 - the API reads reports and must stay small

        spearman = float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
        return cls(spearman, kendall_tau(first, second))


@dataclass(frozen=True)
class Ranking:
    """Of random sub-networks. loss: of validation (less is better) against the score of validation;
    loss_on_test, score_on_test: what each says of the score on the test split."""

    networks: int
    loss: Ranks
    loss_on_test: Ranks
    score_on_test: Ranks

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def ranking_of(supernet: Supernet, data: Data, networks: int, generator: np.random.Generator) -> Ranking:
    """Random sub-networks with the weights they have in the supernet, by both measures. Raises
    InvalidTraining for data without sentences."""
    task, sentences = _sentences(data)
    sampled = supernet.space.sample(generator, networks)
    scores = task.evaluator(supernet, sentences, "validation").qualities(sampled)
    tested = task.evaluator(supernet, sentences, "test").qualities(sampled)
    losses = np.array([-validation_loss(supernet, data, one) for one in sampled])
    return Ranking(len(sampled), Ranks.of(losses, scores), Ranks.of(losses, tested), Ranks.of(scores, tested))


@torch.no_grad()
def validation_loss(supernet: Supernet, data: Data, architecture: Architecture) -> float:
    """Mean negative log-likelihood of a validation token under teacher forcing, in nats, of the same few
    batches for every network; HAT's fitness without its smoothing."""
    task, sentences = _sentences(data)
    batches = task.batches(sentences, "validation", next(supernet.parameters()).device)
    total = weight = 0.0
    for rows in batches.of_tokens(TOKENS, [0])[:BATCHES]:
        inputs, targets = batches[torch.from_numpy(rows)]
        tokens = float(batches.weights(rows).sum())
        total += float(task.loss(supernet(inputs, architecture), targets)) * tokens
        weight += tokens
    return total / weight


def _sentences(data: Data) -> tuple[SentencesTask, Sentences]:
    found = task_of(data)
    if not (isinstance(found, SentencesTask) and isinstance(data, Sentences)):
        raise InvalidTraining(f"data set {data.name!r} is not made of sentences")
    return found, data
