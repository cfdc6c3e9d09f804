"""Which sub-networks to score next: those that tell most about all the others.

Greedy reduction of the summed posterior variance over a pool (Cohn, "Neural network exploration using optimal experiment
design", 1996), in closed form for the additive predictor.
"""

from __future__ import annotations

import numpy as np

from latency_tables.dense import Array, Genes
from supernets.accuracy import AccuracyPredictor
from supernets.additive_prior import Posterior, cells
from supernets.spaces.space import Space


def choose_next(predictor: AccuracyPredictor, generator: np.random.Generator, networks: int, *, pool: int = 1500) -> Genes:
    """Genes (networks, genes) of distinct sub-networks not scored yet, the most telling of a random pool first."""
    scored = {row.tobytes() for row in predictor.genes}
    candidates = _pool(predictor.space, generator, max(pool, 2 * networks), scored)
    return candidates[most_telling(predictor.belief, cells(predictor.space.chain, candidates), networks)]


def _pool(space: Space, generator: np.random.Generator, size: int, scored: set[bytes]) -> Genes:
    found = np.unique(space.chain.sample(generator, size), axis=0)
    kept = np.array([row for row in found if row.tobytes() not in scored], dtype=np.int64).reshape(-1, space.chain.genes)
    return np.asarray(generator.permutation(kept), dtype=np.int64)


def most_telling(belief: Posterior, features: Array, networks: int) -> Genes:
    """Indices of rows of `features` (n, cells), each the best given those before it; at most n."""
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
