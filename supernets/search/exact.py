"""Exact search over additive scores and costs.

With additive tables the search is a multiple-choice knapsack over a layered graph. One constraint: the whole Pareto
front by stage-wise merging, every budget at once, and the K best networks by best-first search whose bound is the exact
best completion, so nothing is expanded in vain. Once-for-All (Cai et al., 2020) uses evolution here, which ends below
the optimum and never says so.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from latency_tables.errors import InfeasibleBudget
from supernets.search.completions import Completions
from supernets.search.pareto import Front, front_of
from supernets.search.problem import Constraint, Problem, SearchResult, ranked

# Sums in another order differ in the last bits: the search allows that much, the price decides.
_ROUNDING = 1e-12


def bounds(cost: DenseTable) -> tuple[float, float]:
    """(least, largest) finite price of any network, by dynamic programming. Raises InfeasibleBudget when all are forbidden."""
    # Priced as networks are: a budget of exactly the least price must be reachable, to the last bit.
    extremes = cost.price(np.stack([_extreme(cost, 1.0), _extreme(cost, -1.0)]))
    if not np.isfinite(extremes).all():
        raise InfeasibleBudget("every network of the space is forbidden; allow more choices or resolutions", np.inf, -np.inf)
    return float(extremes[0]), float(extremes[1])


def _extreme(cost: DenseTable, sign: float) -> Genes:
    """Canonical genes of the network of least sign x price; any network where all are forbidden."""

    def signed(values: Array) -> Array:
        return np.where(np.isfinite(values), sign * values, np.inf)

    chain = cost.chain
    after: Array = np.zeros((chain.resolutions, chain.stages[-1].widths))
    ways: list[tuple[Array, Array]] = []  # per stage: by (resolution, in, out, depth), by (.., block, choice)
    for shape, blocks, depth in reversed(list(zip(chain.stages, cost.blocks, cost.depth, strict=True))):
        values = signed(blocks)
        for block, choices in enumerate(shape.choices):
            values[..., block, choices:] = np.inf
        sums = np.cumsum(values.min(axis=-1), axis=-1)
        sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
        ends = sums[..., list(shape.depths)] + signed(depth)[:, None, None, :] + after[:, None, :, None]
        ways.append((ends, values))
        after = ends.min(axis=(2, 3))
    row = np.zeros(chain.genes, dtype=np.int64)
    row[0] = np.argmin(after[:, 0] + signed(cost.constant))
    read = 0
    for column, shape, (ends, values) in zip(chain.offsets, chain.stages, reversed(ways), strict=True):
        here = ends[row[0], read]
        width, deep = np.unravel_index(int(np.argmin(here)), here.shape)
        chosen = values[row[0], read, width, : shape.depths[deep]].argmin(axis=-1)
        row[column], row[column + 1], row[column + 2 : column + 2 + len(chosen)] = width, deep, chosen
        read = int(width)
    return row


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

    A score that is not additive ranks the K best by `score` with `evaluate`; nothing is proven then.
    """
    constraint = problem.constraints[0] if problem.constraints else _unlimited(problem)
    genes = best_networks(problem.score, constraint, problem.candidates)
    if not len(genes):
        raise infeasible(constraint)
    candidates = ranked(problem, genes)
    proven = problem.additive
    return SearchResult("exact", candidates, proven, 0.0 if proven else None, len(genes))


def infeasible(constraint: Constraint) -> InfeasibleBudget:
    """The error that says what can be reached."""
    least, largest = bounds(constraint.table)
    return InfeasibleBudget(
        f"no network keeps {constraint.name} <= {constraint.limit:g}; from {least:g} to {largest:g} can be reached: "
        "raise the budget, or allow smaller resolutions",
        least,
        largest,
    )


def _unlimited(problem: Problem) -> Constraint:
    table = problem.score
    blocks = tuple(np.zeros_like(b) for b in table.blocks)
    depth = tuple(np.zeros_like(d) for d in table.depth)
    return Constraint("nothing", DenseTable(table.chain, np.zeros_like(table.constant), blocks, depth), 0.0)


class _Node(NamedTuple):
    """An unfinished network in the queue: the largest bound first, then the most complete."""

    bound: float  # minus the best score of any completion
    open_genes: int
    order: int
    cost: float
    score: float
    row: tuple[int, ...]  # genes so far
    completions: Completions
    stage: int  # len(stages) when finished
    done: int  # blocks chosen in the stage; -1 before its width is


def best_networks(score: DenseTable, constraint: Constraint, networks: int) -> Genes:
    """Canonical genes of the best distinct networks within one limit, best first; fewer when there are fewer."""
    found: list[tuple[int, ...]] = []
    limit = constraint.limit
    if np.isfinite(limit):
        limit += _ROUNDING * max(1.0, abs(limit))
    for row in _best_first(score, constraint.table, limit):
        genes = np.array([row])
        if constraint.holds(constraint.table.price(genes))[0]:
            found.append(row)
            if len(found) == networks:
                break
    return np.array(found, dtype=np.int64).reshape(len(found), score.chain.genes)


def _best_first(score: DenseTable, cost: DenseTable, limit: float) -> Iterator[tuple[int, ...]]:
    """Every network within the limit, best first."""
    chain, order = score.chain, count()
    heap: list[_Node] = []
    for r in range(chain.resolutions):
        completions = Completions(score, cost, r)
        best = float(completions.whole.within(np.array([limit]))[0])
        if best > -np.inf:
            start = (float(cost.constant[r]), float(score.constant[r]))
            heap.append(_Node(-best, chain.genes - 1, next(order), *start, (r,), completions, 0, -1))
    heapq.heapify(heap)
    while heap:
        node = heapq.heappop(heap)
        if node.stage == len(chain.stages):
            yield node.row
            continue
        for child in _children(node, limit, order):
            heapq.heappush(heap, child)


def _children(node: _Node, limit: float, order: Iterator[int]) -> Iterator[_Node]:
    """Every way to take one more decision that can still be finished within the limit."""
    chain = node.completions.chain
    shape, column = chain.stages[node.stage], chain.offsets[node.stage]
    previous = node.row[chain.offsets[node.stage - 1]] if node.stage else 0
    if node.done < 0:
        # The depth gene is written when the stage is left; 0 stands there until then.
        steps: list[tuple[float, float, tuple[int, ...], int, int, Array]] = []
        for width in range(shape.widths):
            level = node.completions.level(node.stage, previous, width, 0)
            bound = node.score + level.within(np.array([limit - node.cost]))
            steps.append((node.cost, node.score, (*node.row, width, 0), node.stage, 0, bound))
    else:
        steps = _block_steps(node, limit, previous, node.row[column], column)
    for cost, score, row, stage, done, bound in steps:
        if bound[0] > -np.inf:
            open_genes = chain.genes - len(row)
            yield _Node(-float(bound[0]), open_genes, next(order), cost, score, row, node.completions, stage, done)


def _block_steps(
    node: _Node, limit: float, previous: int, width: int, column: int
) -> list[tuple[float, float, tuple[int, ...], int, int, Array]]:
    """The choices of the next block, and leaving the stage where its depth allows it."""
    completions, stage, done = node.completions, node.stage, node.done
    shape = completions.chain.stages[stage]
    steps = []
    if done in shape.depths:
        extra_cost, extra_score = completions.exit(stage, done)
        cost, score = node.cost + extra_cost, node.score + extra_score
        padding = (0,) * (shape.blocks - done)
        row = (*node.row[: column + 1], shape.depths.index(done), *node.row[column + 2 :], *padding)
        bound = score + completions.after(stage + 1, width).within(np.array([limit - cost]))
        steps.append((cost, score, row, stage + 1, -1, bound))
    if done < shape.depths[-1]:
        costs, scores = completions.options(stage, previous, width, done)
        level = completions.level(stage, previous, width, done + 1)
        total_costs, total_scores = node.cost + costs, node.score + scores
        bounds_ = total_scores + level.within(np.where(np.isfinite(total_costs), limit - total_costs, -np.inf))
        for choice in np.flatnonzero(bounds_ > -np.inf):
            row = (*node.row, int(choice))
            steps.append(
                (float(total_costs[choice]), float(total_scores[choice]), row, stage, done + 1, bounds_[choice : choice + 1])
            )
    return steps
