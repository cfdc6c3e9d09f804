"""Targets: priced, solved, tightened; problems that travel to a child and back."""

import json
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

from latency_tables.calibration import Calibration
from latency_tables.errors import BespokeError, ContradictingConstraints, InfeasibleBudget
from service.pricing import Pricing
from supernets.accuracy import AccuracyPredictor
from supernets.search import milp, several
from supernets.search.budgets import LIMITS, MACS, MEMORY, SIZE, costs_of, reachable
from supernets.search.catalog import solve
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_from
from worker.child_process import _detail, _kind
from worker.operations import OPERATIONS
from worker.packing import packed_problem, packed_result, unpacked_problem, unpacked_result
from worker.pipelines.search import _Search
from worker.problems import problem_of
from worker.steps import StepFailed
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


def test_every_limit_is_kept_and_the_score_pays_for_it(wish):
    free = solve_target(target(0.12), wish, generator())
    limits = {name: int(cost * 0.7) for name, cost in costs_of(SPACE, free.architectures[0]).items()}
    goal = replace(target(0.12), limits=limits)
    found = solve_target(goal, wish, generator())
    for architecture in found.architectures:
        assert all(cost <= limits[name] for name, cost in costs_of(SPACE, architecture).items())
    assert found.result.optimal and found.candidates[0].score < free.candidates[0].score
    genes = SPACE.chain.sample(generator(), 4000)
    kept = [row for row in genes if all(costs_of(SPACE, SPACE.architecture(row))[n] <= limit for n, limit in limits.items())]
    kept = np.array([row for row in kept if goal.pricing.held.price(row[None])[0] <= 0.12])
    assert len(kept) and wish.score.price(kept).max() <= found.candidates[0].score + 1e-12


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_nothing_keeps_is_named_with_its_range(wish, name):
    low, high = reachable(SPACE, name)
    with pytest.raises(InfeasibleBudget, match=name) as caught:
        solve_target(replace(target(10.0), limits={name: int(low) - 1}), wish, generator())
    assert (caught.value.constraint, caught.value.minimum, caught.value.maximum) == (name, low, high)
    assert solve_target(replace(target(10.0), limits={name: int(low)}), wish, generator()).architectures
    smallest = costs_of(SPACE, SPACE.smallest())
    assert low <= smallest[name] <= high


class ChildWithoutTime:
    """A laboratory whose child has no time for problems of more than `most` constraints; errors take their usual way."""

    def __init__(self, most):
        self.most = most

    def call(self, operation, arguments, report=None):
        late = len(arguments["problem"]["constraints"]) > self.most
        relaxed, limit_s = (0, 0.0) if late else (several._RELAXED_NETWORKS, milp.TIME_LIMIT_S)
        try:
            with patch.object(several, "_RELAXED_NETWORKS", relaxed), patch.object(several.solve, "__defaults__", (limit_s,)):
                return OPERATIONS[operation](progress=lambda *_: None, places={}, **arguments)
        except BespokeError as error:
            told = json.loads(json.dumps({"kind": _kind(error), "message": str(error), "detail": _detail(error)}))
            raise StepFailed(**told) from None


def test_a_target_out_of_time_is_named_and_the_others_go_on(wish):
    generator, genes = np.random.default_rng(0), SPACE.chain.sample(np.random.default_rng(1), 30)
    job = _Search.__new__(_Search)
    silent = SimpleNamespace(progress=lambda *_, **__: None, event=lambda *_: None)
    job.run, job.ready, job.wish = silent, SimpleNamespace(seed=0), wish
    job.predictor = AccuracyPredictor.fit(SPACE, genes, 0.9 + 0.01 * generator.random(30), folds=0)
    job.laboratory, job._score = ChildWithoutTime(2), lambda architectures: {}
    middle = {name: int(np.mean(reachable(SPACE, name))) for name in (MACS, SIZE)}
    easy, hard = replace(target(0.12), limits={MACS: middle[MACS]}), replace(target(0.12, 1), limits=middle)
    job.targets, failures = [easy, hard], []
    found = job.solve_all(failures)
    assert [t.index for t, _ in found] == [0] and [t.index for t, _ in failures] == [1]
    document = problem_of(failures[0][1])
    assert document["type"] == "urn:bespoke:search-unfinished"
    assert "raise or drop" in document["detail"] and "predicted" in document["detail"]


def test_limits_that_contradict_each_other_are_one_infeasible_budget(wish):
    """Fast but large, or slow but small: by a table in which small kernels are the slow ones."""
    space = SPACE.at((16,))
    slow = dense_from(space, lambda op: 1.0 / (1 + op.macs))
    priced = Pricing(space, "tab", slow, Calibration(), slow, None, None)
    least, macs = priced.reachable_ms()[0], int(reachable(space, MACS)[0])
    goal = Target(0, "dev", "id-dev", "tab", least, priced, least, limits={MACS: macs})
    with pytest.raises(ContradictingConstraints, match="latency_ms.*macs") as caught:
        solve_target(goal, wish, generator())
    document = problem_of(caught.value)
    assert document["type"] == "urn:bespoke:infeasible-budget" and "macs" in document["detail"]
    json.dumps(document, allow_nan=False)
    assert problem_of(ContradictingConstraints("a and b", -np.inf, np.inf)).keys() == {
        "type", "title", "status", "detail", "constraint",
    }  # fmt: skip


def test_latency_within_the_memory_is_told_before_the_search(wish):
    space = SPACE.at((16,))
    fast_wide = dense_from(space, lambda op: 1.0 / (1 + op.macs))
    priced = Pricing(space, "tab", fast_wide, Calibration(), fast_wide, None, None)
    least = priced.reachable_ms()[0]
    goal = Target(0, "dev", "id-dev", "tab", least, priced, least, limits={MEMORY: int(reachable(space, MEMORY)[0])})
    with pytest.raises(InfeasibleBudget, match="latency_ms.*within memory_bytes") as caught:
        solve_target(goal, wish, generator())
    assert caught.value.constraint == "latency_ms" and caught.value.minimum > least


def test_a_file_larger_than_its_weights_makes_the_next_one_smaller(wish):
    goal = replace(target(10.0), limits={SIZE: int(np.mean(reachable(SPACE, SIZE)))})
    first = solve_target(goal, wish, generator()).architectures[0]
    weights = costs_of(SPACE, first)[SIZE]
    goal.outgrown(first, weights + 20_000)
    again = solve_target(goal, wish, generator()).architectures
    assert first not in again and all(costs_of(SPACE, a)[SIZE] + 20_000 <= goal.limits[SIZE] for a in again)


def test_several_limits_travel_to_a_child(wish):
    goal = replace(target(0.12), limits={MACS: int(np.mean(reachable(SPACE, MACS))), MEMORY: int(reachable(SPACE, MEMORY)[0])})
    problem = goal.problem(wish.score, SPACE, 2)
    travelled = unpacked_problem(json.loads(json.dumps(packed_problem(problem), allow_nan=False)))
    here, there = (solve(p, "exact", generator()).candidates for p in (problem, travelled))
    assert [c.genes.tolist() for c in here] == [c.genes.tolist() for c in there]
