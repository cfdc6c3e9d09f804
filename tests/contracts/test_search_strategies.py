"""What every search strategy promises."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.dense import Chain, StageShape
from supernets.errors import InfeasibleBudget, UnknownStrategy
from supernets.search.catalog import STRATEGIES, solve
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from tests.supernets.search.chains import chains, random_table, seeds

each = pytest.mark.parametrize("strategy", sorted(STRATEGIES))


def problem_of(chain, seed, share, candidates, constraints=1):
    generator = np.random.default_rng(seed)
    score = random_table(chain, generator, -5.0)
    limits = []
    for number in range(constraints):
        cost = random_table(chain, generator)
        least, largest = exact.bounds(cost)
        limits.append(Constraint(f"cost{number}", cost, least + share * (largest - least)))
    return Problem(chain, score, tuple(limits), candidates)


@each
@settings(max_examples=20, deadline=None)
@given(chain=chains, seed=seeds, share=st.floats(0, 1), candidates=st.integers(1, 6))
def test_answers_keep_the_promises(strategy, chain, seed, share, candidates):
    problem = problem_of(chain, seed, share, candidates)
    result = solve(problem, strategy, np.random.default_rng(seed))
    assert 1 <= len(result.candidates) <= candidates and result.strategy == strategy
    rows = np.array([c.genes for c in result.candidates])
    assert np.array_equal(rows, chain.canonical(rows)) and len(np.unique(rows, axis=0)) == len(rows)
    scores = [c.score for c in result.candidates]
    assert scores == sorted(scores, reverse=True) and scores == problem.score.price(rows).tolist()
    costs = problem.constraints[0].table.price(rows)
    assert [c.costs for c in result.candidates] == [(float(cost),) for cost in costs]
    assert (costs <= problem.constraints[0].limit).all()
    best = [c.score for c in exact.solve(problem).candidates]
    assert all(score <= bound + 1e-9 for score, bound in zip(scores, best, strict=False))
    if result.gap is not None:
        assert best[0] <= scores[0] + result.gap + 1e-9


@each
def test_the_same_seed_gives_the_same_answer(strategy):
    problem = problem_of(chains_example(), 3, 0.4, 5)
    first, second = (solve(problem, strategy, np.random.default_rng(7)) for _ in range(2))
    assert [c.genes.tolist() for c in first.candidates] == [c.genes.tolist() for c in second.candidates]
    assert [c.score for c in first.candidates] == [c.score for c in second.candidates]


@each
def test_an_unreachable_budget_is_named_with_the_range(strategy):
    problem = problem_of(chains_example(), 3, -0.01, 5)
    with pytest.raises(InfeasibleBudget) as error:
        solve(problem, strategy, np.random.default_rng(0))
    assert (error.value.minimum, error.value.maximum) == exact.bounds(problem.constraints[0].table)


@each
def test_the_tightest_budget_is_still_met(strategy):
    """One network in a million keeps it, so a strategy that draws until one fits would not end."""
    problem = problem_of(chains_example(), 5, 0.0, 3)
    result = solve(problem, strategy, np.random.default_rng(0))
    assert result.candidates[0].costs[0] <= problem.constraints[0].limit


@each
def test_a_score_that_is_not_additive(strategy):
    problem = problem_of(chains_example(), 11, 0.5, 4)

    def crooked(genes):
        return problem.score.price(genes) + np.sin(genes.sum(axis=1))

    crooked_problem = Problem(problem.chain, problem.score, problem.constraints, 4, crooked)
    result = solve(crooked_problem, strategy, np.random.default_rng(0))
    rows = np.array([c.genes for c in result.candidates])
    assert [c.score for c in result.candidates] == crooked(rows).tolist() and not result.optimal
    assert (problem.constraints[0].table.price(rows) <= problem.constraints[0].limit).all()


@each
@settings(max_examples=10, deadline=None)
@given(chain=chains, seed=seeds, share=st.floats(0.2, 1))
def test_several_limits_are_kept_at_once(strategy, chain, seed, share):
    problem = problem_of(chain, seed, share, 3, constraints=3)
    try:
        best = exact.solve(problem).candidates
    except InfeasibleBudget:
        with pytest.raises(InfeasibleBudget):
            solve(problem, strategy, np.random.default_rng(seed))
        return
    result = solve(problem, strategy, np.random.default_rng(seed))
    rows = np.array([c.genes for c in result.candidates])
    assert (
        len(rows)
        and problem.feasible(problem.costs(rows)).all()
        and len(np.unique(rows, axis=0)) == len(rows)
    )
    assert result.candidates[0].score <= best[0].score + 1e-7


@each
def test_forbidden_choices_are_never_taken(strategy):
    """An infinite cost forbids, however high the score and loose the limit."""
    problem = problem_of(chains_example(), 13, 1.0, 4)
    table = problem.constraints[0].table
    blocks = list(table.blocks)
    blocks[2] = np.where(np.arange(4) == 2, np.inf, blocks[2])
    barred = replace(table, blocks=tuple(blocks))
    closed = replace(problem, constraints=(Constraint("cost", barred, 1e9), Constraint("size", table, 1e9)))
    rows = np.array([c.genes for c in solve(closed, strategy, np.random.default_rng(0)).candidates])
    assert len(rows) and np.isfinite(barred.price(rows)).all()


def test_listing_the_strategies_does_not_load_torch():
    code = "import sys, supernets.search.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_strategy():
    with pytest.raises(UnknownStrategy):
        solve(problem_of(chains_example(), 0, 0.5, 1), "annealing", np.random.default_rng(0))


def chains_example():
    return Chain(
        2, (StageShape(1, (1,), (1,)), StageShape(2, (2, 3), (3, 3, 3)), StageShape(2, (1, 2, 3), (4, 4, 4)))
    )
