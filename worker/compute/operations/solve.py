"""Search problems that take seconds, away from the worker so that a cancelled job stops them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from supernets.search import catalog
from supernets.search.likely import most_probable
from supernets.search.problem import SearchResult
from worker.compute.requests import ChooseByGates, Places, Progress, Solve


def solve(places: Places, asked: Solve, report: Callable[[Progress], None]) -> SearchResult:
    """Raises InfeasibleBudget, SearchUnfinished, InvalidSearch."""
    return catalog.solve(asked.problem, asked.strategy, np.random.default_rng(asked.seed))


def choose_by_gates(places: Places, asked: ChooseByGates, report: Callable[[Progress], None]) -> SearchResult:
    """Raises InfeasibleBudget where no network keeps the limits."""
    rows = asked.gates.log_probabilities
    logs = np.full((len(rows), max(map(len, rows))), -np.inf)
    for row, values in zip(logs, rows, strict=True):
        row[: len(values)] = values
    return most_probable(asked.problem, logs, asked.gates.weight_steps)
