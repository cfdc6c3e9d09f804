"""Which sub-networks to score: some at random, then in rounds those that tell most about all the others.

Greedy reduction of the summed posterior variance over a pool (Cohn, "Neural network exploration using optimal
experiment design", 1996), in closed form for the additive predictor.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from latency_tables.dense import Array, Genes
from supernets.accuracy.predictor import MINIMUM_NETWORKS, QualityPredictor
from supernets.accuracy.prior import Posterior
from supernets.spaces.space import Space
from supernets.tasks.metric import ACCURACY, Metric

DRAWN_SHARE = 0.25  # of the scored networks: drawn at random, the sample on which the predictor is judged
SAMPLED = 1500  # networks to choose from
FEWEST_DRAWN = 20  # a belief from fewer chooses worse than chance
ROUNDS = 4  # in which the others are chosen, each with what the earlier ones taught

Evaluate = Callable[[Genes], Array]  # genes (networks, genes) -> qualities (networks,)


def score_in_rounds(
    space: Space,
    networks: int,
    generator: np.random.Generator,
    evaluate: Evaluate,
    *,
    extremes: bool = True,
    pool: Genes | None = None,
    seed: int = 0,
    metric: Metric = ACCURACY,
) -> QualityPredictor:
    """A quality predictor from about so many distinct networks, fewer where there are fewer; none is
    evaluated twice.

    A quarter is drawn at random and alone is held out in turn. Then come the largest and smallest network of
    every resolution (`extremes`), then rounds of what tells most. pool: canonical genes to take networks
    from; None: the space.
    """
    picks = (space.largest, space.smallest) if extremes else ()
    ends = np.array([space.genes(pick(r)) for r in space.resolutions for pick in picks], dtype=np.int64)
    wanted = min(max(FEWEST_DRAWN, round(DRAWN_SHARE * networks)), networks - len(ends))
    first = draw(space, max(MINIMUM_NETWORKS, wanted), generator, pool)
    genes = np.concatenate([first, _without(np.unique(ends.reshape(-1, space.chain.genes), axis=0), first)])
    values = evaluate(genes)
    for left in range(ROUNDS, 0, -1):
        more = -(-(networks - len(genes)) // left)
        if more <= 0:
            break
        chosen = choose_next(
            QualityPredictor.fit(space, genes, values, folds=0, metric=metric), generator, more, pool=pool
        )
        if len(chosen):
            genes, values = np.concatenate([genes, chosen]), np.concatenate([values, evaluate(chosen)])
    return QualityPredictor.fit(space, genes, values, drawn=len(first), seed=seed, metric=metric)


def draw(space: Space, networks: int, generator: np.random.Generator, pool: Genes | None = None) -> Genes:
    """Distinct random networks of the space or of a pool, canonical genes (networks, genes); fewer where
    there are fewer."""
    if pool is not None:
        return np.asarray(generator.permutation(pool)[:networks], dtype=np.int64)
    found: dict[bytes, Genes] = {}
    while len(found) < min(networks, space.count()):
        found.update((row.tobytes(), row) for row in space.chain.sample(generator, networks))
    return np.stack(list(found.values())[:networks])


def choose_next(
    predictor: QualityPredictor,
    generator: np.random.Generator,
    networks: int,
    *,
    pool: Genes | None = None,
    sampled: int = SAMPLED,
) -> Genes:
    """Genes (networks, genes) of distinct sub-networks not scored yet, the most telling of the pool first.

    pool: canonical genes to choose from; None: that many sampled at random.
    """
    space = predictor.space
    found = space.chain.sample(generator, max(sampled, 2 * networks)) if pool is None else pool
    candidates = generator.permutation(_without(np.unique(found, axis=0), predictor.genes))
    return np.asarray(
        candidates[most_telling(predictor.belief, predictor.features(candidates), networks)], dtype=np.int64
    )


def _without(genes: Genes, known: Genes) -> Genes:
    """Rows of `genes` that are not among `known`."""
    seen = {row.tobytes() for row in known}
    new: Genes = genes[np.array([row.tobytes() not in seen for row in genes], dtype=bool)]
    return new


def most_telling(belief: Posterior, features: Array, networks: int) -> Genes:
    """Indices of rows of `features` (n, features), each the best given those before it; at most n."""
    away = features - belief.centre
    covariance = away @ belief.covariance @ away.T  # (n, n)
    chosen: list[int] = []
    for _ in range(min(networks, len(features))):
        gain = (covariance**2).sum(axis=0) / (np.diag(covariance) + belief.noise)
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        chosen.append(best)
        column = covariance[:, best]
        covariance = covariance - np.outer(column, column) / (column[best] + belief.noise)
    return np.array(chosen, dtype=np.int64)
