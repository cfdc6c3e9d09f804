"""Pareto fronts of two objectives: least cost, highest score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array, Genes

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Front:
    """Networks none of which is beaten: costs (P,) and scores (P,), both strictly ascending; genes (P, G),
    canonical."""

    costs: Array
    scores: Array
    genes: Genes

    def __len__(self) -> int:
        return len(self.costs)

    def within(self, limit: float) -> int | None:
        """Index of the best network whose cost is at most `limit`; None if there is none."""
        index = int(np.searchsorted(self.costs, limit, side="right")) - 1
        return None if index < 0 else index

    def hypervolume(self, worst_cost: float, worst_score: float) -> float:
        """Area that the front dominates, up to the reference point; points beyond it do not count."""
        kept = (self.costs < worst_cost) & (self.scores > worst_score)
        widths = np.diff(np.append(self.costs[kept], worst_cost))
        return float(np.sum(widths * (self.scores[kept] - worst_score)))


def nondominated(costs: Array, scores: Array) -> Indices:
    """Indices of the Pareto front, costs and scores strictly ascending; of equal points one is kept.

    Points of infinite cost or of a score of minus infinity are never kept.
    """
    order = np.argsort(costs, kind="stable")  # merges sorted runs: the callers' input is made of them
    sorted_scores = scores[order]
    best = np.maximum.accumulate(sorted_scores)
    rises = np.empty(len(order), dtype=bool)
    rises[:1] = sorted_scores[:1] > -np.inf
    np.greater(sorted_scores[1:], best[:-1], out=rises[1:])
    kept = order[rises]
    kept_costs = costs[kept]
    last_of_its_cost = np.ones(len(kept), dtype=bool)
    np.less(kept_costs[:-1], kept_costs[1:], out=last_of_its_cost[:-1])
    found: Indices = kept[last_of_its_cost & (kept_costs < np.inf)]
    return found


def front_of(costs: Array, scores: Array, genes: Genes) -> Front:
    """The front of a set of priced networks."""
    kept = nondominated(costs, scores)
    return Front(costs[kept], scores[kept], genes[kept])
