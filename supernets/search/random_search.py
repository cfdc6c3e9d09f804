"""Random search: the baseline. Feasible by construction, so its answer is never "none found" where one
exists."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from supernets.search.exact import strategy as exact
from supernets.search.feasible import Repair
from supernets.search.problem import Problem, SearchResult, ranked

NETWORKS = 10_000
NETWORKS_EVALUATED = 256  # where each one costs a real evaluation


def solve(problem: Problem, generator: np.random.Generator, networks: int | None = None) -> SearchResult:
    """The best of so many random networks within the limits. Raises InfeasibleBudget with the reachable
    range."""
    wanted = networks or (NETWORKS if problem.cheap else NETWORKS_EVALUATED)
    # The exact solution only shows the way for repairs; it is not among the answers.
    anchor = exact.solve(replace(problem, candidates=1, evaluate=None)).candidates[0].genes
    genes = Repair(problem).sample(generator, max(wanted, problem.candidates), anchor[None])
    genes = np.unique(genes, axis=0)
    return SearchResult("random", ranked(problem, genes), False, None, len(genes))
