"""The search problem and its answer, the same for every strategy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array, Chain, DenseTable, Genes
from supernets.errors import InvalidSearch

MAX_CANDIDATES = 10_000


@dataclass(frozen=True, eq=False)
class Constraint:
    """An additive cost that must not exceed its limit; both in the same unit (ms, bytes, MACs).

    A cost of infinity forbids a choice.
    """

    name: str
    table: DenseTable
    limit: float

    def __post_init__(self) -> None:
        if math.isnan(self.limit) or self.limit == -math.inf:
            raise InvalidSearch(f"the limit of {self.name} must be a number")

    def holds(self, costs: Array) -> npt.NDArray[np.bool_]:
        """Which costs keep the limit; shape of `costs`."""
        kept: npt.NDArray[np.bool_] = (costs <= self.limit) & np.isfinite(costs)
        return kept


@dataclass(frozen=True, eq=False)
class Problem:
    """Find the `candidates` best networks of a chain within all constraints.

    score: higher is better; a score of minus infinity forbids a choice. evaluate: (networks, genes) ->
    (networks,), a score that is not additive; `score` is then its surrogate, from which the searches start.
    costly: whether a value of `evaluate` takes an evaluation of the supernet, so that few are asked for, and
    not just the price of a table.
    """

    chain: Chain
    score: DenseTable
    constraints: tuple[Constraint, ...] = ()
    candidates: int = 1
    evaluate: Callable[[Genes], Array] | None = None
    costly: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.candidates <= MAX_CANDIDATES:
            raise InvalidSearch(f"candidates must be from 1 to {MAX_CANDIDATES}")
        if any(table.chain != self.chain for table in (self.score, *(c.table for c in self.constraints))):
            raise InvalidSearch("score and constraints must be tables of the same space and resolutions")

    @property
    def additive(self) -> bool:
        """Whether the score is the sum that the exact solver maximises."""
        return self.evaluate is None

    @property
    def cheap(self) -> bool:
        """Whether thousands of networks are scored in a second."""
        return self.additive or not self.costly

    def scores(self, genes: Genes) -> Array:
        """What is to be maximised, shape (networks,)."""
        return (
            self.score.price(genes)
            if self.evaluate is None
            else np.asarray(self.evaluate(genes), dtype=np.float64)
        )

    def costs(self, genes: Genes) -> Array:
        """(networks, constraints)"""
        prices = [constraint.table.price(genes) for constraint in self.constraints]
        return np.stack(prices, axis=1) if prices else np.empty((len(genes), 0))

    def feasible(self, costs: Array) -> npt.NDArray[np.bool_]:
        """Which rows of `costs` keep every limit, shape (networks,)."""
        kept = np.ones(len(costs), dtype=bool)
        for column, constraint in enumerate(self.constraints):
            kept &= constraint.holds(costs[:, column])
        return kept


@dataclass(frozen=True, eq=False)
class Candidate:
    """One network: canonical genes (genes,), its score and its cost under every constraint, in their
    order."""

    genes: Genes
    score: float
    costs: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class SearchResult:
    """Distinct networks within all limits, best first.

    optimal: proven that no set of so many networks scores higher. gap: no network scores more than the first
    one plus this, in the unit of the score; None where nothing is proven (scores that are not additive,
    random search).
    evaluations: networks whose score was computed one by one.
    """

    strategy: str
    candidates: tuple[Candidate, ...]
    optimal: bool
    gap: float | None
    evaluations: int


def ranked(problem: Problem, genes: Genes, scores: Array | None = None) -> tuple[Candidate, ...]:
    """The best distinct networks among `genes` that keep every limit; ties by genes, so the order is
    reproducible."""
    rows, first = np.unique(problem.chain.canonical(genes), axis=0, return_index=True)
    costs = problem.costs(rows)
    values = problem.scores(rows) if scores is None else scores[first]
    kept = np.flatnonzero(problem.feasible(costs) & (values > -np.inf))
    best = kept[np.argsort(-values[kept], kind="stable")][: problem.candidates]
    return tuple(Candidate(rows[i], float(values[i]), tuple(float(c) for c in costs[i])) for i in best)
