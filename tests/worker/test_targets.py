"""Targets: priced, solved, tightened; problems that travel to a child and back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from latency_tables.calibration import Calibration
from latency_tables.errors import InfeasibleBudget
from service.pricing import Pricing
from supernets.search.catalog import solve
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from
from worker.packing import packed_problem, packed_result, unpacked_problem, unpacked_result
from worker.targets import Target, Wish, cross_device, solve_target

SPACE = space_named("digits-mbv3")


def pricing(scale=1.0, resolutions=SPACE.resolutions, margin=1.05):
    space = SPACE.at(resolutions)
    predicted = dense_from(space, lambda op: scale * (0.002 + op.macs * 2e-8))
    count = len(resolutions)
    return Pricing(space, "tab", predicted, Calibration(), predicted, predicted.affine([0.0] * count, [margin] * count), 0.95)


def target(budget_ms, index=0, device="dev", **options):
    return Target(index, device, f"id-{device}", "tab", budget_ms, pricing(**options), budget_ms)


@pytest.fixture(scope="module")
def wish():
    score = dense_from(SPACE, lambda op: np.log1p(op.macs) / 1000)
    return Wish(SPACE, score, "exact", 5)


def generator():
    return np.random.default_rng(0)


def test_candidates_keep_the_bound_are_distinct_and_cover_resolutions(wish):
    goal = target(0.12)
    found = solve_target(goal, wish, generator())
    assert len({a.digest for a in found.architectures}) == len(found.architectures) >= 5
    genes = np.stack([goal.pricing.space.genes(a) for a in found.architectures])
    assert (goal.pricing.held.price(genes) <= 0.12).all()
    assert len({a.resolution for a in found.architectures}) > 1
    best = solve_target(goal, replace(wish, candidates=1), generator())
    assert best.architectures == found.architectures[:1], "one candidate asked for is the best one alone"


def test_a_budget_below_everything_says_what_can_be_reached(wish):
    goal = target(0.001)
    with pytest.raises(InfeasibleBudget) as caught:
        solve_target(goal, wish, generator())
    assert (caught.value.minimum, caught.value.maximum) == goal.reachable


def test_a_broken_budget_rules_the_network_out_and_tightens_the_limit(wish):
    goal = target(0.12)
    broken = solve_target(goal, wish, generator()).architectures[0]
    goal.tighten(broken, 0.15)
    assert goal.limit_ms == pytest.approx(0.12 * 0.12 / 0.15)
    again = solve_target(goal, wish, generator())
    genes = np.stack([SPACE.genes(a) for a in again.architectures])
    assert broken not in again.architectures and (goal.pricing.held.price(genes) <= goal.limit_ms).all()
    goal.tighten(again.architectures[0], 10.0)
    with pytest.raises(InfeasibleBudget):
        solve_target(goal, wish, generator())


def test_a_table_of_some_resolutions_is_enough(wish):
    goal = target(0.12, resolutions=(8, 12))
    assert {a.resolution for a in solve_target(goal, wish, generator()).architectures} <= {8, 12}


def test_cross_device_prices_every_network_everywhere(wish):
    fast, slow = target(0.12, 0, "fast"), target(0.24, 1, "slow", scale=2.0, resolutions=(8, 12))
    architecture = SPACE.largest()
    matrix = cross_device([("m1", fast, architecture)], [fast, slow])
    assert matrix["devices"] == ["fast", "slow"]
    (row,) = matrix["networks"]
    assert row["latency_ms"]["slow"] is None, "its table has no rows for 16 px"
    assert row["latency_ms"]["fast"] == pytest.approx(float(fast.pricing.predicted.price(SPACE.genes(architecture)[None])[0]))


@pytest.mark.parametrize("strategy", ["exact", "random"])
def test_problems_and_answers_survive_the_way_to_a_child(wish, strategy):
    goal = target(0.12)
    problem = Problem(SPACE.chain, wish.score, (Constraint("latency_ms", goal.pricing.held, 0.12),), 3)
    travelled = unpacked_problem(json.loads(json.dumps(packed_problem(problem), allow_nan=False)))
    here, there = (solve(p, strategy, generator()) for p in (problem, travelled))
    back = unpacked_result(json.loads(json.dumps(packed_result(there), allow_nan=False)))
    assert [c.genes.tolist() for c in back.candidates] == [c.genes.tolist() for c in here.candidates]
    assert [c.costs for c in back.candidates] == [c.costs for c in here.candidates]
    assert (back.optimal, back.gap, back.strategy) == (here.optimal, here.gap, here.strategy)
