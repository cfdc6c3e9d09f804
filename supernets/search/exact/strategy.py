"""Exact search over additive scores and costs.

With additive tables the search is a multiple-choice knapsack over a layered graph. One constraint: the whole
Pareto front by stage-wise merging, every budget at once, and the K best networks by best-first search.
Several constraints: see `constrained`. Once-for-All (Cai et al., 2020) uses evolution here, which ends below
the optimum and never says so.
"""

from __future__ import annotations

import numpy as np

from latency_tables.dense import DenseTable
from supernets.search.exact import constrained
from supernets.search.exact.bounds import bounds, infeasible
from supernets.search.exact.completions import Completions
from supernets.search.exact.enumeration import best_networks
from supernets.search.pareto import Front, front_of
from supernets.search.problem import Problem, SearchResult, ranked

__all__ = ["bounds", "front", "solve"]


def front(score: DenseTable, cost: DenseTable) -> Front:
    """The whole exact Pareto front over all resolutions. Empty where every network is forbidden."""
    rows = []
    solved = [Completions(score, cost, r) for r in range(score.chain.resolutions)]
    sizes = [len(c.whole.costs) for c in solved]
    costs = np.concatenate([c.whole.costs for c in solved])
    scores = np.concatenate([c.whole.scores for c in solved])
    kept = front_of(costs, scores, np.arange(len(costs))[:, None]).genes[:, 0]
    start = 0
    for completions, size in zip(solved, sizes, strict=True):
        rows.append(completions.genes(kept[(kept >= start) & (kept < start + size)] - start))
        start += size
    genes = np.concatenate(rows)
    return front_of(cost.price(genes), score.price(genes), genes)


def solve(problem: Problem) -> SearchResult:
    """The K best networks, proven. Raises InfeasibleBudget with the reachable range.

    A score that is not additive ranks the K best by `score` with `evaluate`; nothing is proven then. With
    several constraints HiGHS may run out of time: `gap` then says how far from the optimum the answer can be.
    """
    if len(problem.constraints) != 1:
        return constrained.solve(problem)
    constraint = problem.constraints[0]
    genes = best_networks(problem.score, constraint, problem.candidates)
    if not len(genes):
        raise infeasible(constraint)
    candidates = ranked(problem, genes)
    proven = problem.additive
    return SearchResult("exact", candidates, proven, 0.0 if proven else None, len(genes))
