"""Every search strategy, by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from supernets.errors import UnknownStrategy
from supernets.search import evolution, random_search
from supernets.search.exact import strategy as exact
from supernets.search.problem import Problem, SearchResult

Strategy = Callable[[Problem, np.random.Generator], SearchResult]


def _exact(problem: Problem, generator: np.random.Generator) -> SearchResult:
    return exact.solve(problem)


def _gradient(problem: Problem, generator: np.random.Generator) -> SearchResult:
    from supernets.search.gradient import strategy as gradient  # noqa: PLC0415  torch is only loaded by those who ask for it

    return gradient.solve(problem, generator)


STRATEGIES: dict[str, Strategy] = {
    "exact": _exact,
    "evolution": evolution.solve,
    "gradient": _gradient,
    "random": random_search.solve,
}


def solve(problem: Problem, strategy: str, generator: np.random.Generator) -> SearchResult:
    """Answer a problem from its scores alone. Raises UnknownStrategy, or InfeasibleBudget with the reachable
    range.

    A search job does more for `gradient`: it trains (`gate_job`), and chooses from what was trained.
    """
    if strategy not in STRATEGIES:
        raise UnknownStrategy(f"unknown search strategy; known are {', '.join(sorted(STRATEGIES))}")
    return STRATEGIES[strategy](problem, generator)
