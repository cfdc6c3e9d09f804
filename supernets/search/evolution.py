"""Evolution for scores that are not additive: a perceptron, measured accuracies.

Once-for-All (Cai et al., 2020) mutates until a child fits the budget and scores it again each generation.
Here children fit by construction, a network is never scored twice (canonical genes), the first population
holds the exact solution of the additive surrogate, and nothing that belongs to the Pareto front found so far
is ever lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from latency_tables.dense import Array, Genes
from supernets.errors import InvalidSearch
from supernets.search.exact import strategy as exact
from supernets.search.feasible import Repair
from supernets.search.pareto import Front, Indices, nondominated
from supernets.search.problem import Problem, SearchResult, ranked


@dataclass(frozen=True)
class Settings:
    """population: networks kept and children born in each generation. mutation: share of genes redrawn in a
    mutant.

    crossover: share of children with two parents. elite: share of parents taken from the best by score, the
    others come from the Pareto front. exact_start: begin with the solution of the additive surrogate.
    """

    population: int = 500
    generations: int = 60
    mutation: float = 0.1
    crossover: float = 0.5
    elite: float = 0.5
    exact_start: bool = True

    def __post_init__(self) -> None:
        shares = (self.mutation, self.crossover, self.elite)
        if self.population < 2 or self.generations < 0 or any(not 0 <= share <= 1 for share in shares):
            raise InvalidSearch("evolution needs a population of at least 2 and shares between 0 and 1")


CHEAP = Settings()
EVALUATED = Settings(population=64, generations=12)  # each score may be a real evaluation of the supernet


@dataclass(frozen=True, eq=False)
class Evolved:
    """What an evolution found: the answer, the archive (score against the first constraint) and how many were
    scored."""

    result: SearchResult
    archive: Front


def solve(problem: Problem, generator: np.random.Generator, settings: Settings | None = None) -> SearchResult:
    """The best networks that evolution finds. Raises InfeasibleBudget with the reachable range."""
    return evolve(problem, generator, settings).result


def evolve(problem: Problem, generator: np.random.Generator, settings: Settings | None = None) -> Evolved:
    """The same, with the Pareto archive of everything scored."""
    chosen = settings or (CHEAP if problem.cheap else EVALUATED)
    population = _Population(problem, generator, chosen)
    for _ in range(chosen.generations):
        population.step()
    front = population.front()
    candidates = ranked(problem, population.genes, population.scores)
    best = population.surrogate_best
    gap = max(0.0, best - candidates[0].score) if problem.additive else None
    result = SearchResult(
        "evolution", candidates, gap == 0.0 and problem.candidates == 1, gap, population.scored
    )
    return Evolved(result, front)


class _Population:
    """Scored networks: the best by score and the Pareto front. All arrays share their first axis."""

    def __init__(self, problem: Problem, generator: np.random.Generator, settings: Settings) -> None:
        self.problem, self.generator, self.settings = problem, generator, settings
        self.chain, self.repair = problem.chain, Repair(problem)
        self.multipliers = generator.integers(1, 2**63, size=self.chain.genes, dtype=np.uint64) | np.uint64(1)
        self.seen = np.empty(0, dtype=np.uint64)
        self.genes: Genes = np.empty((0, self.chain.genes), dtype=np.int64)
        self.scores: Array = np.empty(0)
        self.costs: Array = np.empty((0, len(problem.constraints)))
        self.best = self.on_front = np.empty(
            0, dtype=np.int64
        )  # indices: best by score, and the Pareto front
        self.scored = 0
        surrogate = exact.solve(
            replace(
                problem, evaluate=None, candidates=max(1, min(problem.candidates, settings.population // 2))
            )
        )
        self.surrogate_best = surrogate.candidates[0].score
        seeds = np.array([c.genes for c in surrogate.candidates])
        random = self.repair.sample(generator, settings.population, seeds[:1])
        self._add(
            np.concatenate([seeds, self._surrogate_front(), random]) if settings.exact_start else random
        )

    def _surrogate_front(self) -> Genes:
        """Some networks of the surrogate's exact front within the limit, evenly spread."""
        if len(self.problem.constraints) != 1:
            return self.genes
        constraint = self.problem.constraints[0]
        found = exact.front(self.problem.score, constraint.table)
        within = np.flatnonzero(constraint.holds(found.costs))
        take = min(len(within), self.settings.population // 2)
        return (
            found.genes[within[np.linspace(0, len(within) - 1, take).astype(np.int64)]]
            if take
            else self.genes
        )

    def _add(self, genes: Genes) -> None:
        """Score what is new, then keep the best and the front. genes: canonical, within the limits."""
        keys = (genes.astype(np.uint64) * self.multipliers).sum(axis=1, dtype=np.uint64)
        _, first = np.unique(keys, return_index=True)
        at = np.searchsorted(self.seen, keys[first])
        known = at < len(self.seen)
        known[known] = self.seen[at[known]] == keys[first][known]
        new = np.sort(first[~known])
        if not len(new):
            return
        self.seen = np.sort(np.concatenate([self.seen, keys[new]]))
        rows = genes[new]
        self.scored += len(rows)
        self.genes = np.concatenate([self.genes, rows])
        self.scores = np.concatenate([self.scores, self.problem.scores(rows)])
        self.costs = np.concatenate([self.costs, self.problem.costs(rows)])
        self._select()

    def _select(self) -> None:
        best = np.argsort(-self.scores, kind="stable")[
            : max(self.settings.population, self.problem.candidates)
        ]
        front = self._front_indices()
        kept = np.union1d(best, front)
        self.genes, self.scores, self.costs = self.genes[kept], self.scores[kept], self.costs[kept]
        self.best, self.on_front = np.searchsorted(kept, best), np.searchsorted(kept, front)

    def _front_indices(self) -> Indices:
        cost = self.costs[:, 0] if self.costs.shape[1] else np.zeros(len(self.scores))
        return nondominated(cost, self.scores)

    def front(self) -> Front:
        kept = self.on_front
        cost = self.costs[kept, 0] if self.costs.shape[1] else np.zeros(len(kept))
        return Front(cost, self.scores[kept], self.genes[kept])

    def _parents(self, number: int) -> Indices:
        """Indices drawn from the best by score and from the front."""
        best, front = self.best[: max(2, self.settings.population // 4)], self.on_front
        elite = self.generator.random(number) < self.settings.elite
        chosen: Indices = np.where(
            elite,
            best[self.generator.integers(0, len(best), size=number)],
            front[self.generator.integers(0, len(front), size=number)],
        )
        return chosen

    def step(self) -> None:
        """One generation."""
        number, sizes = self.settings.population, self.chain.gene_sizes
        # Drawn gene by gene, so that the genes of all children lie next to each other where they are priced.
        shares = self.generator.random((self.chain.genes, number), dtype=np.float32)
        fresh = np.multiply(shares, sizes[:, None], dtype=np.float32).astype(np.int64).T
        np.minimum(fresh, sizes - 1, out=fresh)
        first = self.genes[self._parents(number)]
        mixed = np.arange(number) < round(self.settings.crossover * number)
        take = self.generator.random((self.chain.genes, number), dtype=np.float32).T
        # Genes that were inactive say nothing: they are drawn anew in case the child is deeper.
        child = np.where(self.chain.active(first), first, fresh)
        # From a quarter to twice the usual share: small steps refine, large ones leave a local optimum.
        share = self.settings.mutation * 2 ** self.generator.uniform(-2, 1, size=number).astype(np.float32)
        child = np.where(~mixed[:, None] & (take < share[:, None]), fresh, child)
        second = self.genes[self._parents(number)]
        child = np.where(mixed[:, None] & (take < 0.5) & self.chain.active(second), second, child)
        self._add(self._within(child, first))

    def _within(self, children: Genes, parents: Genes) -> Genes:
        """Canonical children, repaired where they break a limit."""
        broken = np.flatnonzero(~self.problem.feasible(self.problem.costs(children)))
        if len(broken):
            repaired = self.repair.walk(children[broken], self.generator)
            children[broken] = self.repair.toward(repaired, parents[broken], self.generator)
        return self.chain.canonical(children)
