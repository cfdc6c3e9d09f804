"""Several constraints at once, or none: exact where a relaxation or HiGHS proves it, with a stated gap
otherwise.

First each constraint alone (and their sum) is a relaxation whose networks come best first: the first K that
keep every limit are the K best. Where the constraints truly compete, a mixed-integer program decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, islice

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from supernets.errors import ContradictingConstraints, SearchUnfinished
from supernets.search.exact import milp
from supernets.search.exact.bounds import ROUNDING, bounds, cheapest, infeasible, lagrangian_bounds
from supernets.search.exact.enumeration import best_first
from supernets.search.problem import Constraint, Problem, SearchResult, ranked

_RELAXED_NETWORKS = 50  # looked at in each relaxation before HiGHS is asked


def solve(problem: Problem, time_limit_s: float = milp.TIME_LIMIT_S) -> SearchResult:
    """The K best networks within all limits.

    Raises InfeasibleBudget for a limit that cannot be met alone, ContradictingConstraints for limits that
    cannot be met together, SearchUnfinished when the time was too short to find any network.
    """
    for constraint in problem.constraints:
        if bounds(constraint.table)[0] > constraint.limit:
            raise infeasible(constraint)
    check_pairs(problem.constraints)
    proven = best_networks(problem, time_limit_s)
    if not len(proven.genes) and proven.finished:
        raise _contradiction(problem.constraints, time_limit_s)
    if not len(proven.genes):
        names = " and ".join(f"{c.name} <= {c.limit:g}" for c in problem.constraints)
        best = proven.bound if math.isfinite(proven.bound) else None
        raise SearchUnfinished(
            f"in {time_limit_s:g} s no network was found that keeps {names}, nor was it shown that there "
            "is none: raise or drop "
            "one of these limits",
            best,
        )
    candidates = ranked(problem, proven.genes)
    if not problem.additive:
        return SearchResult("exact", candidates, False, None, len(proven.genes))
    gap = 0.0 if proven.finished else max(0.0, proven.bound - candidates[0].score)
    return SearchResult(
        "exact", candidates, proven.finished, gap if math.isfinite(gap) else None, len(proven.genes)
    )


def check_pairs(constraints: Sequence[Constraint]) -> None:
    """Raises ContradictingConstraints where two limits cannot be kept together, as far as a relaxation shows
    it.

    Milliseconds: asked where someone waits. What it lets pass may still be a contradiction, of the kind only
    `solve` finds.
    """
    cheap = np.array([cheapest(c.table) for c in constraints])
    kept = np.array([c.holds(c.table.price(cheap)) for c in constraints])  # (constraints, cheapest of)
    for i, j in combinations(range(len(constraints)), 2):
        if (kept[i] & kept[j]).any():
            continue
        one, other = constraints[i], constraints[j]
        bound = lagrangian_bounds(_scaled(one.table, -1.0), other.table, _rounded(other.limit))
        if -bound.max() > _rounded(one.limit):
            raise _contradiction((one, other), milp.TIME_LIMIT_S)


def best_networks(problem: Problem, time_limit_s: float) -> milp.Proven:
    """The K best networks by the additive score, fewer (or none) where there are fewer."""
    forbidden = _without_forbidden(problem)
    binding = [c for c in problem.constraints if bounds(c.table)[1] > c.limit]
    relaxations = [*binding, _sum(binding)] if len(binding) > 1 else binding or [_unlimited(problem.score)]
    limits = [_rounded(c.limit) for c in relaxations]
    bound = [
        lagrangian_bounds(forbidden, c.table, limit) for c, limit in zip(relaxations, limits, strict=True)
    ]
    tightest_first = np.argsort([b.max() for b in bound], kind="stable")
    # A relaxation with a low bound lets few networks through that break the other limits.
    for index in tightest_first:
        networks = best_first(forbidden, relaxations[index].table, limits[index])
        found, exhausted = _keeping(problem, networks, None if len(binding) < 2 else _RELAXED_NETWORKS)
        if exhausted or len(found) == problem.candidates:
            score = float(problem.score.price(found[:1])[0]) if len(found) else -math.inf
            return milp.Proven(found, score, True)
    together: Array = np.min(bound, axis=0)
    return milp.best_networks(replace(problem, score=forbidden), together, time_limit_s)


def _keeping(problem: Problem, networks: Iterator[tuple[int, ...]], most: int | None) -> tuple[Genes, bool]:
    """(the first K networks that keep every limit, whether there are no more), looking at no more than
    `most`."""
    found, looked = [], 0
    for row in islice(networks, most):
        looked += 1
        genes = np.array([row])
        if problem.feasible(problem.costs(genes))[0]:
            found.append(row)
            if len(found) == problem.candidates:
                break
    exhausted = len(found) < problem.candidates and (most is None or looked < most)
    return np.array(found, dtype=np.int64).reshape(len(found), problem.chain.genes), exhausted


def _contradiction(constraints: Sequence[Constraint], time_limit_s: float) -> ContradictingConstraints:
    """Says what the first constraint can reach while the others hold."""
    first, *others = constraints
    reached, finished = [], True
    for sign in (-1.0, 1.0):
        table = _scaled(first.table, sign)
        proven = best_networks(Problem(table.chain, table, tuple(others)), time_limit_s)
        finished &= proven.finished
        reached.append(float(first.table.price(proven.genes)[0]) if len(proven.genes) else -sign * math.inf)
    names = " and ".join(f"{c.name} <= {c.limit:.12g}" for c in constraints)
    if math.isfinite(reached[0]) and math.isfinite(reached[1]):
        kept = "the others" if len(others) > 1 else others[0].name
        reach = f"with {kept} kept, {first.name} reaches from {reached[0]:.12g} to {reached[1]:.12g}"
    elif finished:
        reach = f"the others contradict each other already, without {first.name}"
    else:
        reach = f"what {first.name} can reach with the others kept is not known"
    return ContradictingConstraints(
        f"no network keeps {names} at once, though each can be kept alone; {reach}: raise a limit",
        reached[0],
        reached[1],
        first.name,
    )


def _rounded(limit: float) -> float:
    return limit + ROUNDING * max(1.0, abs(limit)) if math.isfinite(limit) else limit


def _scaled(table: DenseTable, factor: float) -> DenseTable:
    """The table times a factor; what is forbidden as a cost is forbidden as a score."""

    def scale(values: Array) -> Array:
        return np.where(np.isfinite(values), factor * values, -np.inf)

    return table.each(scale)


def _without_forbidden(problem: Problem) -> DenseTable:
    """The score with minus infinity wherever a constraint forbids a choice."""
    score = problem.score
    for constraint in problem.constraints:
        score = score.each(lambda s, c: np.where(c == np.inf, -np.inf, s), constraint.table)
    return score


def _sum(constraints: list[Constraint]) -> Constraint:
    """All constraints added up, each in shares of its reachable range: every network within them is within
    the sum."""
    # Shares and not raw values: bytes would drown milliseconds.
    shares = [1.0 / max(bounds(c.table)[1] - bounds(c.table)[0], 1e-300) for c in constraints]

    def add(*values: Array) -> Array:
        total: Array = np.sum([w * v for w, v in zip(shares, values, strict=True)], axis=0)
        return total

    first, *others = (c.table for c in constraints)
    table = first.each(add, *others)
    return Constraint(
        "all constraints together", table, sum(w * c.limit for c, w in zip(constraints, shares, strict=True))
    )


def _unlimited(table: DenseTable) -> Constraint:
    """A constraint that every network keeps."""
    return Constraint("nothing", table.each(np.zeros_like), 0.0)
