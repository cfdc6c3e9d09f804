"""Evolution on scores that are not additive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernets.errors import InvalidSearch
from supernets.search import random_search
from supernets.search.evolution import Settings, evolve, solve
from supernets.search.exact import strategy as exact
from supernets.search.exact.bounds import bounds
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import dense_from
from tests.supernets.search.chains import chains, every_network, random_table, seeds


def crooked_problem(evaluated: list[int], candidates: int = 5) -> Problem:
    """digits-mbv3 with a score that rewards an interaction the surrogate does not see."""
    space = SPACES["digits-mbv3"]
    generator = np.random.default_rng(0)
    score = random_table(space.chain, generator)
    cost = dense_from(space, lambda op: op.macs / 1e6)
    least, largest = bounds(cost)
    columns = [c for c in range(space.chain.genes) if space.chain.gene_sizes[c] == 9]

    def evaluate(genes):
        evaluated.extend(hash(row.tobytes()) for row in genes)
        return score.price(genes) + 20 * np.cos(genes[:, columns].sum(axis=1))

    limit = Constraint("latency_ms", cost, least + 0.4 * (largest - least))
    return Problem(space.chain, score, (limit,), candidates, evaluate)


def test_it_beats_the_surrogate_and_random_search_where_the_score_is_not_additive():
    evaluated: list[int] = []
    problem = crooked_problem(evaluated)
    result = solve(problem, np.random.default_rng(0))
    assert len(evaluated) == len(set(evaluated)) == result.evaluations, "a network was scored twice"
    assert len(result.candidates) == 5 and not result.optimal and result.gap is None
    best = result.candidates[0].score
    assert best > exact.solve(problem).candidates[0].score
    assert (
        best
        > random_search.solve(problem, np.random.default_rng(0), networks=result.evaluations)
        .candidates[0]
        .score
    )


def test_the_exact_solution_of_the_surrogate_is_in_the_first_population():
    problem = replace(crooked_problem([]), evaluate=None, candidates=3)
    evolved = evolve(problem, np.random.default_rng(0), Settings(generations=0))
    wanted = [c.score for c in exact.solve(problem).candidates]
    assert [c.score for c in evolved.result.candidates] == wanted and evolved.result.gap == 0.0


def test_the_archive_is_elitist():
    """More generations never lose hypervolume, and the archive is a front within the limit."""
    problem = replace(crooked_problem([]), evaluate=None)
    least, largest = bounds(problem.constraints[0].table)
    volumes = []
    for generations in (0, 5, 20, 40):
        chosen = Settings(population=100, generations=generations, exact_start=False)
        archive = evolve(problem, np.random.default_rng(3), chosen).archive
        assert (np.diff(archive.costs) > 0).all() and (np.diff(archive.scores) > 0).all()
        assert archive.costs[-1] <= problem.constraints[0].limit
        volumes.append(archive.hypervolume(largest, 0.0))
    assert volumes == sorted(volumes) and volumes[-1] > volumes[0]


@settings(max_examples=30, deadline=None)
@given(chains, seeds, st.floats(0, 1))
def test_exact_is_never_below_random_or_evolutionary_search(chain, seed, share):
    generator = np.random.default_rng(seed)
    score, cost = random_table(chain, generator), random_table(chain, generator)
    least, largest = bounds(cost)
    problem = Problem(chain, score, (Constraint("latency_ms", cost, least + share * (largest - least)),), 3)
    best = exact.solve(problem).candidates
    for found in (
        solve(problem, np.random.default_rng(seed), Settings(50, 5, exact_start=False)),
        random_search.solve(problem, np.random.default_rng(seed), 200),
    ):
        assert all(
            mine.score >= theirs.score - 1e-9 for mine, theirs in zip(best, found.candidates, strict=False)
        )


@settings(max_examples=20, deadline=None)
@given(chains, seeds, st.floats(0, 1))
def test_random_search_reaches_every_network_within_the_limit(chain, seed, share):
    generator = np.random.default_rng(seed)
    cost = random_table(chain, generator)
    least, largest = bounds(cost)
    problem = Problem(
        chain, cost, (Constraint("latency_ms", cost, least + share * (largest - least)),), 10_000
    )
    genes = every_network(chain)
    kept = int(problem.feasible(problem.costs(genes)).sum())
    found = random_search.solve(problem, generator, networks=20_000).candidates
    assert len(found) <= kept
    if kept <= 20:
        assert len(found) == kept


def test_settings_that_make_no_sense():
    with pytest.raises(InvalidSearch):
        Settings(population=1)
    with pytest.raises(InvalidSearch):
        Settings(mutation=1.5)
