"""The most probable networks within every limit, given a probability for every choice. No torch: what a
search by gradients found is a table of log-probabilities, and choosing from it is exact search over an
additive score.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from latency_tables.dense import Array, Chain, DenseTable
from supernets.errors import SearchUnfinished
from supernets.search.exact import strategy as exact
from supernets.search.problem import Problem, SearchResult, ranked


def log_table(chain: Chain, logs: Array) -> DenseTable:
    """Log-probability of every network as an additive score; logs (genes, most values), minus infinity where
    there is none.

    Stages of depth 0 do not count their state.
    """
    blocks, depths, before = [], [], 1
    for column, shape in zip(chain.offsets, chain.stages, strict=True):
        size = (chain.resolutions, before, shape.states, shape.blocks, max(shape.choices))
        values = np.broadcast_to(logs[column + 2 : column + 2 + shape.blocks, : size[-1]], size).copy()
        values[..., 0, :] += logs[column, : shape.states, None]  # a state counts once: with the first block
        blocks.append(values)
        depth = logs[column + 1, : len(shape.depths)]
        depths.append(np.broadcast_to(depth, (chain.resolutions, len(depth))).copy())
        before = shape.states
    return DenseTable(chain, logs[0, : chain.resolutions], tuple(blocks), tuple(depths))


def most_probable(problem: Problem, logs: Array, evaluations: int = 0) -> SearchResult:
    """The most probable distinct networks within every limit, ranked by the score. Raises InfeasibleBudget,
    SearchUnfinished."""
    try:
        likely = exact.solve(replace(problem, score=log_table(problem.chain, logs), evaluate=None))
    except SearchUnfinished as error:
        raise SearchUnfinished(
            str(error)
        ) from None  # its bound is of a probability, not of the problem's score
    candidates = ranked(problem, np.array([c.genes for c in likely.candidates]))
    return SearchResult("gradient", candidates, False, None, evaluations)
