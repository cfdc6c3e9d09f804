"""Several constraints at once against brute force."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.dense import Chain, DenseTable, StageShape
from supernets.errors import ContradictingConstraints, InfeasibleBudget, SearchUnfinished
from supernets.search.activation import peak_activation_bytes, peak_range, within_activation
from supernets.search.exact import constrained, milp
from supernets.search.exact.bounds import bounds
from supernets.search.exact.strategy import solve
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import dense_from, lower
from tests.supernets.search.chains import chains, every_network, random_table, seeds


def make(chain, seed, shares, candidates, forbid=0.0, ties=False) -> Problem | None:
    generator = np.random.default_rng(seed)
    score = random_table(chain, generator, -5.0, whole_numbers=ties)
    limits = []
    for number, share in enumerate(shares):
        cost = random_table(chain, generator, forbid=forbid, whole_numbers=ties)
        try:
            least, largest = bounds(cost)
        except InfeasibleBudget:
            return None
        limits.append(Constraint(f"cost{number}", cost, least + share * (largest - least)))
    return Problem(chain, score, tuple(limits), candidates)


def brute_force(problem: Problem) -> list[float]:
    genes = every_network(problem.chain)
    kept = problem.feasible(problem.costs(genes))
    return np.sort(problem.score.price(genes[kept]))[::-1][: problem.candidates].tolist()


def check(problem: Problem, result) -> None:
    assert result.optimal and result.gap == 0.0
    assert [c.score for c in result.candidates] == pytest.approx(brute_force(problem), abs=1e-7)
    rows = np.array([c.genes for c in result.candidates])
    assert len(np.unique(rows, axis=0)) == len(rows) and problem.feasible(problem.costs(rows)).all()


shares = st.lists(st.floats(0.1, 1), min_size=2, max_size=3)


@settings(max_examples=60, deadline=None)
@given(chains, seeds, shares, st.integers(1, 5), st.sampled_from([0.0, 0.0, 0.2]), st.booleans())
def test_the_k_best_equal_brute_force(chain, seed, shares, candidates, forbid, ties):
    problem = make(chain, seed, shares, candidates, forbid, ties)
    if problem is None:
        return
    if brute_force(problem):
        check(problem, solve(problem))
        return
    with pytest.raises(InfeasibleBudget):
        solve(problem)


@settings(max_examples=40, deadline=None)
@given(chains, seeds, shares, st.integers(1, 5), st.sampled_from([0.0, 0.0, 0.2]))
def test_the_integer_program_alone_equals_brute_force(chain, seed, shares, candidates, forbid):
    problem = make(chain, seed, shares, candidates, forbid)
    if problem is None:
        return
    proven = milp.best_networks(problem, np.full(chain.resolutions, 1e6), time_limit_s=600.0)
    assert proven.finished
    assert problem.score.price(proven.genes).tolist() == pytest.approx(brute_force(problem), abs=1e-7)
    assert len(np.unique(proven.genes, axis=0)) == len(proven.genes)


def contradiction() -> Problem:
    """Two devices that want opposite choices."""
    chain = Chain(1, (StageShape(1, (2,), (2, 2)),))
    values = np.array([1.0, 5.0]) * np.ones((1, 1, 1, 2, 2))
    one = DenseTable(chain, np.zeros(1), (values,), (np.zeros((1, 1)),))
    other = DenseTable(chain, np.zeros(1), (values[..., ::-1],), (np.zeros((1, 1)),))
    return Problem(chain, one, (Constraint("phone_ms", one, 4.0), Constraint("server_ms", other, 9.0)))


def test_contradicting_constraints_are_named():
    problem = contradiction()
    constrained.check_pairs(
        problem.constraints
    )  # half a block of each kind would do: a relaxation does not see it
    with pytest.raises(ContradictingConstraints, match="phone_ms <= 4 and server_ms <= 9") as error:
        solve(problem)
    # With server_ms <= 9 kept, at least one block must be the slow one for the phone.
    assert (error.value.minimum, error.value.maximum) == (6.0, 10.0)


def test_two_limits_that_no_mixture_keeps_are_refused_without_a_program():
    phone, server = contradiction().constraints
    with (
        patch.object(milp, "best_networks") as program,
        pytest.raises(ContradictingConstraints, match="phone_ms") as error,
    ):
        constrained.check_pairs((replace(phone, limit=3.0), replace(server, limit=8.0)))
    assert (error.value.minimum, error.value.maximum) == (6.0, 10.0) and not program.called


def test_a_limit_that_cannot_be_met_alone_is_named():
    problem = contradiction()
    first, second = problem.constraints
    with pytest.raises(InfeasibleBudget, match="server_ms") as error:
        solve(Problem(problem.chain, problem.score, (first, Constraint("server_ms", second.table, 1.0))))
    assert (error.value.minimum, error.value.maximum) == (2.0, 10.0)
    assert not isinstance(error.value, ContradictingConstraints)


def test_out_of_time_states_the_gap():
    """A clock that has run out: no claim of optimality is made."""
    problem = contradiction()
    loose = Problem(
        problem.chain,
        problem.score,
        (problem.constraints[0], Constraint("server_ms", problem.constraints[1].table, 10)),
    )
    proven = milp.best_networks(loose, np.array([50.0]), time_limit_s=0.0)
    assert not proven.finished and proven.bound == 50.0 and len(proven.genes) == 0


def test_out_of_time_without_a_network_is_told_with_the_best_that_could_be():
    one, _ = contradiction().constraints
    table = random_table(one.table.chain, np.random.default_rng(0))
    loose = Problem(one.table.chain, table, (replace(one, limit=6.0), Constraint("other_ms", one.table, 6.0)))
    best = solve(loose).candidates[0].score
    with (
        patch.object(constrained, "_RELAXED_NETWORKS", 0),
        pytest.raises(SearchUnfinished, match="phone_ms <= 6 and other_ms <= 6.*raise or drop") as error,
    ):
        constrained.solve(loose, time_limit_s=0.0)
    assert error.value.best_score is not None and error.value.best_score >= best


def test_out_of_time_answers_with_what_other_resolutions_hold():
    """Resolution 0 is solved; resolution 1, which promises more, is not reached in time."""
    generator = np.random.default_rng(1)
    chain = Chain(2, (StageShape(1, (1, 2), (3, 3)),))
    score, costs = random_table(chain, generator), [random_table(chain, generator) for _ in range(2)]
    limits = tuple(Constraint(f"cost{n}", c, np.mean(bounds(c))) for n, c in enumerate(costs))
    ticks = iter([0.0, 0.0, 2.0])
    proven = milp.best_networks(
        Problem(chain, score, limits), np.array([1000.0, 999.0]), 1.0, lambda: next(ticks)
    )
    assert not proven.finished and proven.bound == 999.0
    assert proven.genes[:, 0].tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(chains, seeds, st.lists(st.floats(0, 0.4), min_size=2, max_size=3))
def test_limits_that_can_be_kept_together_are_never_refused(chain, seed, shares):
    problem = make(chain, seed, shares, 1)
    if brute_force(problem):
        constrained.check_pairs(problem.constraints)


def test_two_devices_and_a_size_on_a_published_space():
    space = SPACES["ofa-mbv3"].at([160, 224])
    generator = np.random.default_rng(0)
    score = random_table(space.chain, generator)
    tables = [random_table(space.chain, generator) for _ in range(2)] + [
        dense_from(space, lambda op: op.parameters)
    ]
    limits = tuple(
        Constraint(name, t, bounds(t)[0] + 0.35 * (bounds(t)[1] - bounds(t)[0]))
        for name, t in zip(("phone_ms", "board_ms", "parameters"), tables, strict=True)
    )
    problem = Problem(space.chain, score, limits, 3)
    result = solve(problem)
    assert result.optimal and len(result.candidates) == 3
    rows = np.array([c.genes for c in result.candidates])
    assert problem.feasible(problem.costs(rows)).all()
    alone = [solve(Problem(space.chain, score, (c,))).candidates[0].score for c in limits]
    assert result.candidates[0].score <= min(alone) + 1e-9


@pytest.mark.parametrize("name", ["digits-mbv3", "proxyless", "ofa-resnet50"])
def test_peak_activation_is_a_maximum(name):
    space = SPACES[name]
    peaks = dense_from(space, peak_activation_bytes, max)
    least, largest = peak_range(peaks)
    limit = (least + largest) / 2
    score = dense_from(space, lambda op: float(op.macs))
    problem = within_activation(space, Problem(space.chain, score, (), 3), limit)
    for candidate in solve(problem).candidates:
        architecture = space.architecture(candidate.genes)
        assert max(peak_activation_bytes(op) for op in lower(space, architecture)) <= limit
    with pytest.raises(InfeasibleBudget) as error:
        within_activation(space, problem, least - 1)
    assert (error.value.minimum, error.value.maximum) == (least, largest)
    smallest = within_activation(space, Problem(space.chain, score), least)
    assert len(solve(smallest).candidates) == 1


def test_no_constraint_that_binds_needs_no_program():
    problem = contradiction()
    loose = tuple(Constraint(c.name, c.table, 1e9) for c in problem.constraints)
    result = constrained.solve(Problem(problem.chain, problem.score, loose, 4))
    assert [c.score for c in result.candidates] == [10.0, 6.0, 6.0, 2.0] and result.optimal
