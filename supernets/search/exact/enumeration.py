"""Networks in the order of their score, best first, within one limit.

Best-first search over unfinished networks whose bound is the exact best completion, so that nothing is
expanded in vain (Lawler 1972; A* with a perfect heuristic).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from supernets.search.exact.bounds import ROUNDING, lagrangian_bounds
from supernets.search.exact.completions import Completions
from supernets.search.problem import Constraint


class _Node(NamedTuple):
    """An unfinished network in the queue: the largest bound first, then the most complete."""

    bound: float  # minus the best score of any completion
    open_genes: int
    order: int
    cost: float
    score: float
    row: tuple[int, ...]  # genes so far
    completions: Completions | None  # None: the resolution is not solved yet
    stage: int  # len(stages) when finished
    done: int  # blocks chosen in the stage; -1 before its state is
    lane: int  # that the last block left


def best_networks(score: DenseTable, constraint: Constraint, networks: int) -> Genes:
    """Canonical genes of the best distinct networks within one limit, best first; fewer when there are
    fewer."""
    found: list[tuple[int, ...]] = []
    limit = constraint.limit
    if np.isfinite(limit):
        limit += ROUNDING * max(1.0, abs(limit))
    for row in best_first(score, constraint.table, limit):
        genes = np.array([row])
        if constraint.holds(constraint.table.price(genes))[0]:
            found.append(row)
            if len(found) == networks:
                break
    return np.array(found, dtype=np.int64).reshape(len(found), score.chain.genes)


def best_first(score: DenseTable, cost: DenseTable, limit: float) -> Iterator[tuple[int, ...]]:
    """Every network within the limit, best first."""
    chain, order, bound = score.chain, count(), lagrangian_bounds(score, cost, limit)
    heap: list[_Node] = []
    for r in range(chain.resolutions):
        if bound[r] > -np.inf:
            start = (float(cost.constant[r]), float(score.constant[r]))
            heap.append(_Node(-float(bound[r]), chain.genes, next(order), *start, (r,), None, 0, -1, 0))
    heapq.heapify(heap)
    while heap:
        node = heapq.heappop(heap)
        if node.stage == len(chain.stages):
            yield node.row
            continue
        if node.completions is None:
            # A resolution is only solved when nothing found so far beats its bound.
            completions = Completions(score, cost, node.row[0])
            best = float(completions.whole.within(np.array([limit]))[0])
            if best > -np.inf:
                heapq.heappush(heap, node._replace(bound=-best, completions=completions))
            continue
        for child in _children(node, limit, order):
            heapq.heappush(heap, child)


def _children(node: _Node, limit: float, order: Iterator[int]) -> Iterator[_Node]:
    """Every way to take one more decision that can still be finished within the limit."""
    completions = node.completions
    if completions is None:
        raise AssertionError("a resolution is solved before its networks are listed")
    chain = completions.chain
    shape, column = chain.stages[node.stage], chain.offsets[node.stage]
    previous = node.row[chain.offsets[node.stage - 1]] if node.stage else 0
    if node.done < 0:
        # The depth gene is written when the stage is left; 0 stands there until then.
        steps: list[_Step] = []
        for state in range(shape.states):
            level = completions.level(node.stage, previous, state, 0, node.lane)
            bound = node.score + level.within(np.array([limit - node.cost]))
            steps.append((node.cost, node.score, (*node.row, state, 0), node.stage, 0, node.lane, bound))
    else:
        steps = _block_steps(completions, node, limit, previous, node.row[column], column)
    for cost, score, row, stage, done, lane, bound in steps:
        if bound[0] > -np.inf:
            at = (row, completions, stage, done, lane)
            yield _Node(-float(bound[0]), chain.genes - len(row), next(order), cost, score, *at)


_Step = tuple[float, float, tuple[int, ...], int, int, int, Array]
"""Cost, score, genes, stage, blocks done, lane, and the best score that can come of it, (1,)."""


def _block_steps(
    completions: Completions, node: _Node, limit: float, previous: int, state: int, column: int
) -> list[_Step]:
    """The choices of the next block, and leaving the stage where its depth allows it."""
    stage, done = node.stage, node.done
    shape = completions.chain.stages[stage]
    steps = []
    if done in shape.depths:
        extra_cost, extra_score = completions.exit(stage, done)
        cost, score = node.cost + extra_cost, node.score + extra_score
        padding = (0,) * (shape.blocks - done)
        row = (*node.row[: column + 1], shape.depths.index(done), *node.row[column + 2 :], *padding)
        bound = score + completions.after(stage + 1, state, node.lane).within(np.array([limit - cost]))
        steps.append((cost, score, row, stage + 1, -1, node.lane, bound))
    if done < shape.depths[-1]:
        costs, scores = completions.options(stage, previous, state, done, node.lane)
        total_costs, total_scores = node.cost + costs, node.score + scores
        left_over = np.where(np.isfinite(total_costs), limit - total_costs, -np.inf)
        bounds_ = np.empty_like(total_scores)
        after = completions.chain.after(stage, done)[node.lane]
        for lane, choices in completions.chain.ways(stage, done, node.lane):
            level = completions.level(stage, previous, state, done + 1, lane)
            bounds_[choices] = total_scores[choices] + level.within(left_over[choices])
        for choice in np.flatnonzero(bounds_ > -np.inf):
            totals = float(total_costs[choice]), float(total_scores[choice])
            row = (*node.row, int(choice))
            bound = bounds_[choice : choice + 1]
            steps.append((*totals, row, stage, done + 1, int(after[choice]), bound))
    return steps
