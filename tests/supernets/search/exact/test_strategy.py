"""The exact solver against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.dense import Chain, DenseTable, StageShape
from supernets.errors import InfeasibleBudget, InvalidSearch
from supernets.search.exact.strategy import bounds, front, solve
from supernets.search.pareto import nondominated
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import dense_from
from tests.supernets.search.chains import chains, every_network, random_table, seeds


def tables(chain: Chain, seed: int, ties: bool, forbid: float = 0.0) -> tuple[DenseTable, DenseTable]:
    generator = np.random.default_rng(seed)
    score = random_table(chain, generator, -5.0, whole_numbers=ties)
    cost = random_table(chain, generator, 0.0, whole_numbers=ties, forbid=forbid)
    return score, cost


@settings(max_examples=150, deadline=None)
@given(chains, seeds, st.booleans(), st.sampled_from([0.0, 0.0, 0.3]))
def test_bounds_equal_brute_force(chain, seed, ties, forbid):
    _, cost = tables(chain, seed, ties, forbid)
    prices = cost.price(every_network(chain))
    prices = prices[np.isfinite(prices)]
    if not len(prices):
        with pytest.raises(InfeasibleBudget):
            bounds(cost)
        return
    assert bounds(cost) == pytest.approx((prices.min(), prices.max()), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(chains, seeds, st.booleans(), st.sampled_from([0.0, 0.0, 0.3]))
def test_front_equals_brute_force(chain, seed, ties, forbid):
    score, cost = tables(chain, seed, ties, forbid)
    genes = every_network(chain)
    prices, values = cost.price(genes), score.price(genes)
    expected = nondominated(prices, values)
    found = front(score, cost)
    rounded = [(round(c, 9), round(s, 9)) for c, s in zip(prices[expected], values[expected], strict=True)]
    assert [(round(c, 9), round(s, 9)) for c, s in zip(found.costs, found.scores, strict=True)] == rounded
    assert np.array_equal(found.genes, chain.canonical(found.genes))
    assert np.array_equal(cost.price(found.genes), found.costs) and np.array_equal(
        score.price(found.genes), found.scores
    )


@settings(max_examples=200, deadline=None)
@given(chains, seeds, st.booleans(), st.sampled_from([0.0, 0.0, 0.3]), st.floats(0, 1), st.integers(1, 20))
def test_the_k_best_equal_brute_force(chain, seed, ties, forbid, share, candidates):
    score, cost = tables(chain, seed, ties, forbid)
    genes = every_network(chain)
    prices, values = cost.price(genes), score.price(genes)
    finite = prices[np.isfinite(prices)]
    if not len(finite):
        return
    limit = float(finite.min() + share * (finite.max() - finite.min()))
    expected = np.sort(values[prices <= limit])[::-1][:candidates]
    result = solve(Problem(chain, score, (Constraint("latency_ms", cost, limit),), candidates))
    assert result.optimal and result.gap == 0.0
    assert [c.score for c in result.candidates] == pytest.approx(expected.tolist(), abs=1e-9)
    assert all(c.costs[0] <= limit for c in result.candidates)
    rows = np.array([c.genes for c in result.candidates])
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert np.array_equal(rows, chain.canonical(rows))
    assert score.price(rows).tolist() == [c.score for c in result.candidates]


@settings(max_examples=50, deadline=None)
@given(chains, seeds, st.integers(1, 30))
def test_without_constraints_the_k_best_of_all(chain, seed, candidates):
    score, _ = tables(chain, seed, False)
    values = score.price(every_network(chain))
    result = solve(Problem(chain, score, candidates=candidates))
    assert [c.score for c in result.candidates] == pytest.approx(
        np.sort(values)[::-1][:candidates].tolist(), abs=1e-9
    )


@settings(max_examples=50, deadline=None)
@given(chains, seeds)
def test_the_front_answers_every_budget(chain, seed):
    score, cost = tables(chain, seed, False)
    found = front(score, cost)
    for limit in np.random.default_rng(seed).uniform(*bounds(cost), size=5):
        index = found.within(float(limit))
        best = solve(Problem(chain, score, (Constraint("latency_ms", cost, float(limit)),))).candidates[0]
        assert index is not None and found.scores[index] == pytest.approx(best.score, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(chains, seeds)
def test_an_unreachable_budget_says_what_is_reachable(chain, seed):
    score, cost = tables(chain, seed, False)
    least, largest = bounds(cost)
    with pytest.raises(InfeasibleBudget) as error:
        solve(Problem(chain, score, (Constraint("latency_ms", cost, least - 1e-6),)))
    assert (error.value.minimum, error.value.maximum) == (least, largest)
    assert solve(Problem(chain, score, (Constraint("latency_ms", cost, least + 1e-9),))).optimal


def test_a_budget_of_exactly_the_price_is_kept():
    chain = Chain(1, (StageShape(1, (3,), (2, 2, 2)),))
    thirds = np.full((1, 1, 1, 3, 2), 0.1)
    cost = DenseTable(chain, np.zeros(1), (thirds,), (np.zeros((1, 1)),))
    price = float(cost.price(np.zeros((1, chain.genes), dtype=np.int64))[0])
    result = solve(Problem(chain, cost, (Constraint("latency_ms", cost, price),), 8))
    assert len(result.candidates) == 8 and all(c.costs[0] <= price for c in result.candidates)


def test_free_choices_are_taken():
    """Zero costs nothing: with a budget of nothing it is the only network."""
    chain = Chain(1, (StageShape(1, (2,), (3, 3)),))
    cost = np.zeros((1, 1, 1, 2, 3))
    cost[..., 1:] = 5.0
    score = np.array([0.0, 1.0, 2.0]) * np.ones((1, 1, 1, 2, 3))
    nothing = (np.zeros((1, 1)),)
    problem = Problem(
        chain,
        DenseTable(chain, np.zeros(1), (score,), nothing),
        (Constraint("latency_ms", DenseTable(chain, np.zeros(1), (cost,), nothing), 0.0),),
        candidates=4,
    )
    assert [c.genes.tolist() for c in solve(problem).candidates] == [[0, 0, 0, 0, 0]]


def test_the_whole_once_for_all_space_at_one_resolution():
    """2.2e19 networks: front and one budget agree, and no sampled network beats them."""
    space = SPACES["ofa-mbv3"].at([176])
    generator = np.random.default_rng(0)
    cost = dense_from(space, lambda op: op.macs / 1e6)
    score = random_table(space.chain, generator)
    found = front(score, cost)
    sample = space.chain.sample(generator, 20_000)
    prices, values = cost.price(sample), score.price(sample)
    at = np.searchsorted(found.costs, prices, side="right") - 1
    assert (at >= 0).all() and (values <= found.scores[at] + 1e-9).all()
    middle = float(np.median(prices))
    result = solve(Problem(space.chain, score, (Constraint("macs", cost, middle),), 10))
    assert len(result.candidates) == 10
    assert result.candidates[0].score == pytest.approx(found.scores[found.within(middle)], abs=1e-9)


def test_scores_that_are_not_additive_are_never_called_optimal():
    chain = Chain(1, (StageShape(1, (1, 2), (3, 3)),))
    score = random_table(chain, np.random.default_rng(0))
    problem = Problem(chain, score, candidates=12, evaluate=lambda genes: -score.price(genes))
    result = solve(problem)
    assert not result.optimal and result.gap is None
    assert [c.score for c in result.candidates] == sorted(
        (-score.price(every_network(chain))).tolist(), reverse=True
    )


@pytest.mark.parametrize("limit", [math.nan, -math.inf])
def test_a_limit_that_is_no_number(limit):
    chain = Chain(1, (StageShape(1, (1,), (2,)),))
    with pytest.raises(InvalidSearch):
        Constraint("latency_ms", random_table(chain, np.random.default_rng(0)), limit)


def test_tables_of_different_spaces():
    one, other = (Chain(n, (StageShape(1, (1,), (2,)),)) for n in (1, 2))
    generator = np.random.default_rng(0)
    with pytest.raises(InvalidSearch):
        Problem(
            one,
            random_table(one, generator),
            (Constraint("latency_ms", random_table(other, generator), 1.0),),
        )
    with pytest.raises(InvalidSearch):
        Problem(one, random_table(one, generator), candidates=0)
