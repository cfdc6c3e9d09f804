"""Targets: priced, solved, tightened; problems that travel to a child and back."""

import json
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

from latency_tables.errors import BespokeError
from latency_tables.failures import error_of, failure_of
from latency_tables.prediction.calibration import Calibration
from service.devices.costs import ENERGY, TAIL, Cost
from service.devices.pricing import Pricing
from supernets.accuracy.precision import PrecisionPredictor
from supernets.accuracy.predictor import HeldOut, QualityPredictor
from supernets.accuracy.pruning import PruningPredictor, all_cells
from supernets.accuracy.reduced import ReducedRanking, reduced_score
from supernets.accuracy.refinement import RefinedScore, Refinement, StagePairs, _data
from supernets.errors import ContradictingConstraints, InfeasibleBudget, InvalidSearch
from supernets.search.catalog import solve
from supernets.search.exact import constrained, milp
from supernets.search.exact.bounds import bounds
from supernets.search.likely import most_probable
from supernets.search.limits import LIMITS, MACS, MEMORY, SIZE, costs_of, reachable
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import at_resolutions, excluded
from supernets.search.targets import Further, Objective, OnDevice, Target, cross_device, solve_target
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import block_name, dense_from
from worker.compute.codec import CODEC
from worker.compute.operations import solve as operations
from worker.compute.requests import Solve
from worker.pipelines.search.job import SearchJob
from worker.pipelines.search.solve import Solving
from worker.problems import problem_of

SPACE = space_named("digits-mbv3")


def pricing(scale=1.0, resolutions=SPACE.resolutions, margin=1.05):
    space = SPACE.at(resolutions)
    predicted = dense_from(space, lambda op: scale * (0.002 + op.macs * 2e-8))
    count = len(resolutions)
    return Pricing(
        space,
        "tab",
        predicted,
        Calibration(),
        predicted,
        predicted.affine([0.0] * count, [margin] * count),
        0.95,
    )


def priced_at(budget_ms, priced, device="dev", **options):
    return OnDevice(device, f"id-{device}", "tab", budget_ms, priced, budget_ms, **options)


def target(budget_ms, index=0, device="dev", limits=None, measured=False, **options):
    place = priced_at(budget_ms, pricing(**options), device, measured=measured)
    return Target(index, place.pricing.space, (place,), limits or {})


@pytest.fixture(scope="module")
def objective():
    score = dense_from(SPACE, lambda op: np.log1p(op.macs) / 1000)
    return Objective(SPACE, score, "exact", 5)


def generator():
    return np.random.default_rng(0)


def test_candidates_keep_the_bound_are_distinct_and_cover_resolutions(objective):
    goal = target(0.12)
    found = solve_target(goal, objective, generator())
    assert len({a.digest for a in found.architectures}) == len(found.architectures) >= 5
    genes = np.stack([goal.places[0].pricing.space.genes(a) for a in found.architectures])
    assert (goal.places[0].pricing.held.price(genes) <= 0.12).all()
    assert len({a.resolution for a in found.architectures}) > 1
    best = solve_target(goal, replace(objective, candidates=1), generator())
    assert best.architectures == found.architectures[:1], "one candidate asked for is the best one alone"


def test_a_budget_below_everything_says_what_can_be_reached(objective):
    goal = target(0.001)
    with pytest.raises(InfeasibleBudget) as caught:
        solve_target(goal, objective, generator())
    assert (caught.value.minimum, caught.value.maximum) == goal.places[0].reachable


def test_candidates_to_be_measured_are_held_against_predictions_and_a_bound_that_was_asked_for_holds_in_either_case(
    objective,
):
    goal = target(0.12, measured=True)
    (place,) = goal.places
    assert place.basis == "prediction" and place.held is goal.places[0].pricing.predicted
    found = solve_target(goal, objective, generator()).architectures
    assert max(place.predicted_ms(a) for a in found) > 0.12 / 1.05, "the bound alone would leave that out"
    goal.aim([0.12 * 1.1])
    assert place.limit_ms == 0.12 * 1.1, "the device was faster than its table"
    place.bounded = True
    goal.aim([0.12 * 1.1])
    assert place.basis == "bound" and place.limit_ms == 0.12
    goal.hold_by_bound()
    assert not goal.measured and place.held is goal.places[0].pricing.upper


def test_a_limit_just_under_what_can_be_reached_still_tries_the_fastest_network(objective):
    least = target(10.0, measured=True).places[0].reachable[0]
    goal = target(1.001 * least, measured=True)
    goal.aim([0.99 * least])
    assert solve_target(goal, objective, generator()).architectures
    goal.aim([0.5 * least])
    goal.aim_at_fastest()
    assert goal.places[0].limit_ms == least


def test_limits_alone_need_no_device(objective):
    sizes, memory = reachable(SPACE, SIZE), int(np.mean(reachable(SPACE, MEMORY)))
    goal = Target(0, SPACE, (), {SIZE: int(np.mean(sizes)), MEMORY: memory})
    found = solve_target(goal, objective, generator())
    assert (
        found.result.optimal and goal.device is None and goal.budget_ms is None and str(memory) in goal.label
    )
    for architecture in found.architectures:
        costs = costs_of(SPACE, architecture)
        assert costs[SIZE] <= goal.limits[SIZE] and costs[MEMORY] <= memory
    genes = SPACE.chain.sample(generator(), 3000)
    costs = [costs_of(SPACE, SPACE.architecture(row)) for row in genes]
    kept = genes[[c[SIZE] <= goal.limits[SIZE] and c[MEMORY] <= memory for c in costs]]
    assert len(kept) and objective.score.price(kept).max() <= found.candidates[0].score + 1e-12
    memory_alone = solve_target(Target(0, SPACE, (), {MEMORY: memory}), objective, generator()).architectures[
        0
    ]
    assert costs_of(SPACE, memory_alone)[MEMORY] <= memory
    with pytest.raises(InfeasibleBudget, match=SIZE):
        solve_target(Target(0, SPACE, (), {SIZE: 1}), objective, generator())


@pytest.mark.parametrize("strategy", ["exact", "evolution", "random"])
def test_excluded_choices_are_not_taken_by_any_strategy(objective, strategy):
    exclude = {"kernel": [5], "stage2.expand": [4]}
    priced = pricing().within((8, 16), exclude)
    mask = excluded(priced.space, exclude)
    goal = Target(0, priced.space, (priced_at(0.12, priced),), {}, mask)
    for architecture in solve_target(goal, replace(objective, strategy=strategy), generator()).architectures:
        assert architecture.resolution in (8, 16)
        named = dict(zip([stage.name for stage in SPACE.stages], architecture.stages, strict=True))
        assert all(choice["kernel"] != 5 for stage in architecture.stages for choice in stage.blocks)
        assert all(choice["expand"] != 4 for choice in named["stage2"].blocks)


def test_a_network_that_was_measured_is_not_a_candidate_again(objective):
    goal = target(0.12)
    first = solve_target(goal, objective, generator()).architectures[0]
    goal.ruled_out.add(first.digest)
    assert first not in solve_target(goal, objective, generator()).architectures


def test_one_network_for_several_devices_is_the_best_that_keeps_every_budget(objective):
    fast, slow = (
        priced_at(budget, pricing(scale=scale), name)
        for budget, scale, name in ((0.2, 1.0, "fast"), (0.3, 2.0, "slow"))
    )
    goal = Target(0, SPACE, (fast, slow))
    found = solve_target(goal, objective, generator())
    assert found.result.optimal and goal.label == "fast within 0.2 ms and slow within 0.3 ms"
    for architecture in found.architectures:
        assert fast.held_ms(architecture) <= 0.2 and slow.held_ms(architecture) <= 0.3
    alone = solve_target(Target(0, SPACE, (slow,)), objective, generator())
    assert found.candidates[0].score == pytest.approx(alone.candidates[0].score), (
        "the slow one is what limits here"
    )
    with pytest.raises(InfeasibleBudget, match="on slow"):
        solve_target(
            Target(0, SPACE, (fast, priced_at(0.001, pricing(scale=2.0), "slow"))), objective, generator()
        )
    matrix = cross_device([("m", goal, found.architectures[0])], [goal])
    assert matrix["devices"] == ["fast", "slow"] and len(matrix["networks"][0]["latency_ms"]) == 2


def with_further(place, **limits):
    """The place with limits on a tail that is not a multiple of the latency, and on an energy of weights alone."""
    tables = {
        TAIL: dense_from(SPACE, lambda op: 0.004 + op.macs * 2.2e-8),
        ENERGY: dense_from(SPACE, lambda op: 1e-3 * op.parameters),
    }
    costs = {
        name: Cost(name, tables[name], read=(lambda m: m.p95_ms) if name == TAIL else None) for name in limits
    }
    further = tuple(Further(costs[name], limit, limit) for name, limit in limits.items())
    return replace(place, further=further)


@pytest.mark.parametrize("strategy", ["exact", "evolution", "random"])
def test_p95_and_energy_are_kept_exactly_beside_the_latency(objective, strategy):
    free = solve_target(target(0.12), objective, generator()).architectures[0]
    plain = with_further(priced_at(0.12, pricing()), **{TAIL: 1.0, ENERGY: 1.0})
    values = {f.name: f.value(f.cost.predicted, SPACE, free) for f in plain.further}
    limits = {TAIL: 0.9 * values[TAIL], ENERGY: 0.6 * values[ENERGY]}
    goal = Target(0, SPACE, (with_further(priced_at(0.12, pricing()), **limits),))
    found = solve_target(goal, replace(objective, strategy=strategy), generator())
    for architecture in found.architectures:
        assert all(f.value(f.cost.predicted, SPACE, architecture) <= f.limit for f in goal.places[0].further)
        assert goal.places[0].held_ms(architecture) <= 0.12
    if strategy == "exact":
        genes = SPACE.chain.sample(generator(), 5000)
        kept = goal.places[0].held.price(genes) <= 0.12
        for further in goal.places[0].further:
            kept &= further.cost.predicted.price(genes) <= further.limit
        assert kept.any() and found.result.optimal
        assert objective.score.price(genes[kept]).max() <= found.candidates[0].score + 1e-12
    assert (
        goal.competing
        and goal.label
        == f"dev within 0.12 ms and {TAIL} <= {limits[TAIL]:g} and {ENERGY} <= {limits[ENERGY]:g}"
    )


def test_a_further_limit_that_nothing_keeps_is_named_with_its_range(objective):
    goal = Target(0, SPACE, (with_further(priced_at(0.12, pricing()), **{ENERGY: 1e-9}),))
    low, high = bounds(goal.places[0].further[0].cost.predicted)
    with pytest.raises(InfeasibleBudget, match=f"{ENERGY} <= 1e-09 on dev") as caught:
        solve_target(goal, objective, generator())
    assert (caught.value.constraint, caught.value.minimum, caught.value.maximum) == (ENERGY, low, high)


def test_where_nobody_measures_and_no_network_keeps_the_bound_predictions_have_to_do(objective):
    predicted, bound = pricing(margin=1.5).predicted, pricing(margin=1.5).upper
    between = (bounds(predicted)[0] + bounds(bound)[0]) / 2
    goal = target(between, margin=1.5, measured=True)
    goal.hold_by_bound()
    (place,) = goal.places
    assert place.by_prediction and place.basis == "prediction"
    assert all(
        place.predicted_ms(a) <= between for a in solve_target(goal, objective, generator()).architectures
    )
    asked = target(between, margin=1.5)
    asked.places[0].bounded = True
    asked.hold_by_bound()
    with pytest.raises(InfeasibleBudget):
        solve_target(asked, objective, generator())


def test_limits_on_bytes_are_in_the_precision_of_the_file(objective):
    limits = {MEMORY: int(reachable(SPACE, MEMORY)[0] / 2), SIZE: int(reachable(SPACE, SIZE)[0])}
    half = Target(0, SPACE, (), limits, bytes_per_value=2)
    for architecture in solve_target(half, objective, generator()).architectures:
        costs, in_full = costs_of(SPACE, architecture, 2), costs_of(SPACE, architecture)
        assert (
            costs[MEMORY] <= limits[MEMORY] and costs[SIZE] <= limits[SIZE] and costs[MACS] == in_full[MACS]
        )
        assert (2 * costs[MEMORY], 2 * costs[SIZE]) == (in_full[MEMORY], in_full[SIZE])
    with pytest.raises(InfeasibleBudget, match=MEMORY):
        solve_target(Target(0, SPACE, (), limits), objective, generator())


def test_a_table_of_some_resolutions_is_enough(objective):
    goal = target(0.12, resolutions=(8, 12))
    assert {a.resolution for a in solve_target(goal, objective, generator()).architectures} <= {8, 12}


def test_cross_device_prices_every_network_everywhere(objective):
    fast, slow = target(0.12, 0, "fast"), target(0.24, 1, "slow", scale=2.0, resolutions=(8, 12))
    architecture = SPACE.largest()
    matrix = cross_device([("m1", fast, architecture)], [fast, slow])
    assert matrix["devices"] == ["fast", "slow"]
    (row,) = matrix["networks"]
    assert row["latency_ms"]["slow"] is None, "its table has no rows for 16 px"
    assert row["latency_ms"]["fast"] == pytest.approx(
        float(fast.places[0].pricing.predicted.price(SPACE.genes(architecture)[None])[0])
    )


@pytest.fixture(scope="module")
def refined(objective):
    """Accuracies in which stages depend on each other, and an objective that knows of it."""
    generator = np.random.default_rng(0)
    genes = np.unique(SPACE.chain.sample(generator, 80), axis=0)
    values = 0.9 + 0.02 * np.tanh(objective.score.price(genes)) + 0.01 * generator.normal(size=len(genes))
    predictor = QualityPredictor.fit(SPACE, genes, values, folds=0)
    pairs = StagePairs(predictor, *_data(predictor), weight=50.0, noise=1e-3)
    error = HeldOut(0.01, 0.9, 5, 20)
    return replace(
        objective,
        score=predictor.dense(),
        refinement=Refinement("pairs", error, error, predictor, pairs),
        candidates=4,
    )


@pytest.mark.parametrize("strategy", ["evolution", "random", "gradient"])
def test_strategies_for_scores_that_do_not_add_up_rank_with_the_refined_predictor(refined, strategy):
    goal = target(0.12, resolutions=(8, 12))
    if strategy == "gradient":  # as a job does it: the choice from trained probabilities
        logs = np.log(np.full((len(SPACE.chain.gene_sizes), SPACE.chain.gene_sizes.max()), 0.5))

        def solver(problem, strategy, generator):
            return most_probable(problem, logs)
    else:
        solver = solve
    found = solve_target(goal, replace(refined, strategy=strategy), generator(), solver).result.candidates
    genes = np.array([SPACE.genes(goal.places[0].pricing.space.architecture(c.genes)) for c in found])
    scores = refined.refinement.scores(genes)
    assert [c.score for c in found] == pytest.approx(scores.tolist())
    assert (np.diff(scores) <= 0).all() and (
        goal.places[0].pricing.held.price(np.stack([c.genes for c in found])) <= 0.12
    ).all()
    if strategy == "evolution":
        additive = solve_target(goal, replace(refined, refinement=None), generator()).candidates[0]
        assert scores[0] > RefinedScore(refined.refinement, (8, 12))(additive.genes[None])[0], (
            "better than where it started"
        )


def test_the_proven_network_stays_and_the_refined_predictor_picks_the_others(refined):
    goal = target(0.12, resolutions=(12,))
    plain = solve_target(goal, replace(refined, refinement=None, candidates=16), generator()).result
    found = solve_target(goal, refined, generator()).result
    assert found.optimal and found.gap == 0.0
    assert found.candidates[0].genes.tolist() == plain.candidates[0].genes.tolist()
    scores = RefinedScore(refined.refinement, (12,))(np.stack([c.genes for c in plain.candidates[1:]]))
    best = [plain.candidates[1 + i].genes.tolist() for i in np.argsort(-scores, kind="stable")[:3]]
    assert [c.genes.tolist() for c in found.candidates[1:]] == best


def test_a_refined_score_survives_the_way_to_a_child_and_other_functions_do_not(refined):
    goal = target(0.12, resolutions=(8, 12))
    score = at_resolutions(refined.score, SPACE, goal.places[0].pricing.space)
    alone = goal.problem(score, goal.places[0].pricing.space, 3)
    problem = replace(alone, evaluate=RefinedScore(refined.refinement, (8, 12)), costly=False)
    there_too = travelled(problem)
    here, there = (solve(p, "evolution", generator()).candidates for p in (problem, there_too))
    assert [(c.genes.tolist(), c.score) for c in here] == [(c.genes.tolist(), c.score) for c in there]
    with pytest.raises(InvalidSearch, match="stored predictor"):
        CODEC.write(replace(problem, evaluate=lambda genes: genes.sum(axis=1)))


@pytest.fixture(scope="module")
def reduced(refined):
    """(the same objective over networks whose blocks may be in int8 or pruned, a problem at two of its
    resolutions)."""
    base, space = refined.refinement, SPACE.with_precisions(("float32", "int8")).with_pruning()
    draw = np.random.default_rng(1)
    names = [block_name(space, s, b) for s, stage in enumerate(space.stages) for b in range(stage.depths[-1])]
    cells = all_cells(space)
    reductions = {
        "rounded": PrecisionPredictor(base, tuple(names), 0.01 * draw.random(len(names)), 0.0),
        "pruned": PruningPredictor(base, tuple(cells), 0.01 * draw.random(len(cells)), 0.1),
    }
    ranking = ReducedRanking(base, reductions, space)
    score = reduced_score(base.predictor, [*reductions.values()], space)
    fewer = space.at((8, 12))
    cost = dense_from(fewer, lambda op: (1 + op.macs) * (0.5 if "int8" in op.text else 1.0))
    priced = cost.price(fewer.chain.sample(draw, 200))
    limit = Constraint("latency_ms", cost, float(np.median(priced)))
    problem = Problem(fewer.chain, at_resolutions(score, space, fewer), (limit,), 4)
    return replace(refined, space=space, score=score, refinement=ranking), problem, fewer


def test_of_networks_in_int8_or_pruned_too_the_refined_predictor_picks_all_but_the_proven_one(reduced):
    objective, problem, space = reduced
    found = objective.solve(problem, space, solve, generator())
    plain = solve(replace(problem, candidates=16), "exact", generator())
    assert found.optimal and found.candidates[0].genes.tolist() == plain.candidates[0].genes.tolist()
    genes = [objective.space.genes(space.architecture(c.genes)) for c in plain.candidates[1:]]
    scores = objective.refinement.scores(np.stack(genes))
    best = [plain.candidates[1 + i].genes.tolist() for i in np.argsort(-scores, kind="stable")[:3]]
    assert [c.genes.tolist() for c in found.candidates[1:]] == best


def test_so_does_their_score_survive_the_way_to_a_child(reduced):
    objective, problem, _ = reduced
    asked = replace(problem, evaluate=RefinedScore(objective.refinement, (8, 12)), costly=False)
    here, there = (solve(p, "evolution", generator()).candidates for p in (asked, travelled(asked)))
    assert [c.genes.tolist() for c in here] == [c.genes.tolist() for c in there]
    assert [c.score for c in here] == pytest.approx([c.score for c in there])
    additive = ReducedRanking(objective.refinement.predictor.predictor, {}, objective.space)
    with pytest.raises(InvalidSearch, match="stored predictor"):
        CODEC.write(replace(asked, evaluate=RefinedScore(additive, (8, 12))))


@pytest.mark.parametrize("strategy", ["exact", "random"])
def test_problems_and_answers_survive_the_way_to_a_child(objective, strategy):
    goal = target(0.12)
    problem = Problem(
        SPACE.chain, objective.score, (Constraint("latency_ms", goal.places[0].pricing.held, 0.12),), 3
    )
    there_too = travelled(problem)
    here, there = (solve(p, strategy, generator()) for p in (problem, there_too))
    back = travelled(there)
    assert [c.genes.tolist() for c in back.candidates] == [c.genes.tolist() for c in here.candidates]
    assert [c.costs for c in back.candidates] == [c.costs for c in here.candidates]
    assert (back.optimal, back.gap, back.strategy) == (here.optimal, here.gap, here.strategy)


def test_every_limit_is_kept_and_the_score_pays_for_it(objective):
    free = solve_target(target(0.12), objective, generator())
    costs = costs_of(SPACE, free.architectures[0])
    limits = {name: int(costs[name] * 0.7) for name in (SIZE, MACS, MEMORY)}
    goal = target(0.12, limits=limits)
    found = solve_target(goal, objective, generator())
    for architecture in found.architectures:
        assert all(costs_of(SPACE, architecture)[name] <= limit for name, limit in limits.items())
    assert found.result.optimal and found.candidates[0].score < free.candidates[0].score
    genes = SPACE.chain.sample(generator(), 4000)
    kept = [
        row
        for row in genes
        if all(costs_of(SPACE, SPACE.architecture(row))[n] <= limit for n, limit in limits.items())
    ]
    kept = np.array([row for row in kept if goal.places[0].pricing.held.price(row[None])[0] <= 0.12])
    assert len(kept) and objective.score.price(kept).max() <= found.candidates[0].score + 1e-12


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_that_nothing_keeps_is_named_with_its_range(objective, name):
    low, high = reachable(SPACE, name)
    with pytest.raises(InfeasibleBudget, match=name) as caught:
        solve_target(target(10.0, limits={name: int(low) - 1}), objective, generator())
    assert (caught.value.constraint, caught.value.minimum, caught.value.maximum) == (name, low, high)
    assert solve_target(target(10.0, limits={name: int(low)}), objective, generator()).architectures
    smallest = costs_of(SPACE, SPACE.smallest())
    assert low <= smallest[name] <= high


def travelled(value):
    """What comes out at the other end of the way to a child, or back."""
    return CODEC.read(type(value), json.loads(json.dumps(CODEC.write(value), allow_nan=False)))


class ChildWithoutTime:
    """A torch child that has no time for problems of more than `most` constraints; errors take their
    usual way."""

    def __init__(self, most):
        self.most = most

    def solve(self, problem, strategy, seed):
        late = len(problem.constraints) > self.most
        relaxed, limit_s = (0, 0.0) if late else (constrained._RELAXED_NETWORKS, milp.TIME_LIMIT_S)
        try:
            with (
                patch.object(constrained, "_RELAXED_NETWORKS", relaxed),
                patch.object(constrained.solve, "__defaults__", (limit_s,)),
            ):
                return operations.solve(None, travelled(Solve(problem, strategy, seed)), None)
        except BespokeError as error:
            raise error_of(travelled(failure_of(error))) from None


def test_a_target_out_of_time_is_named_and_the_others_go_on(objective):
    generator, genes = np.random.default_rng(0), SPACE.chain.sample(np.random.default_rng(1), 30)
    silent = SimpleNamespace(progress=lambda *_, **__: None, event=lambda *_: None)
    predictor = QualityPredictor.fit(SPACE, genes, 0.9 + 0.01 * generator.random(30), folds=0)
    middle = {name: int(np.mean(reachable(SPACE, name))) for name in (MACS, SIZE)}
    easy, hard = target(0.12, limits={MACS: middle[MACS]}), target(0.12, 1, limits=middle)
    request, failures = SimpleNamespace(strategy="exact", candidates=5), []
    job = SearchJob(
        silent, SimpleNamespace(seed=0), request, ChildWithoutTime(2), predictor, None, [easy, hard]
    )
    solving = Solving(job, None)
    solving.objective, solving.scored = objective, lambda architectures: {}
    found = solving.all_targets(failures)
    assert [t.index for t, _ in found] == [0] and [t.index for t, _ in failures] == [1]
    document = problem_of(failures[0][1])
    assert document["type"] == "urn:bespoke:problem:search_unfinished"
    assert "raise or drop" in document["detail"] and "predicted" in document["detail"]


def test_limits_that_contradict_each_other_are_one_infeasible_budget(objective):
    """Fast but large, or slow but small: by a table in which small kernels are the slow ones."""
    space = SPACE.at((16,))
    slow = dense_from(space, lambda op: 1.0 / (1 + op.macs))
    priced = Pricing(space, "tab", slow, Calibration(), slow, None, None)
    least, macs = priced.reachable_ms()[0], int(reachable(space, MACS)[0])
    goal = Target(0, space, (priced_at(least, priced),), {MACS: macs})
    with pytest.raises(ContradictingConstraints, match="latency_ms.*macs") as caught:
        solve_target(goal, objective, generator())
    document = problem_of(caught.value)
    assert document["type"] == "urn:bespoke:problem:infeasible_budget" and "macs" in document["detail"]
    json.dumps(document, allow_nan=False)
    assert problem_of(ContradictingConstraints("a and b", -np.inf, np.inf)).keys() == {
        "type", "code", "title", "status", "detail", "constraint",
    }  # fmt: skip


def test_latency_within_the_memory_is_told_before_the_search(objective):
    space = SPACE.at((16,))
    fast_wide = dense_from(space, lambda op: 1.0 / (1 + op.macs))
    priced = Pricing(space, "tab", fast_wide, Calibration(), fast_wide, None, None)
    least = priced.reachable_ms()[0]
    goal = Target(0, space, (priced_at(least, priced),), {MEMORY: int(reachable(space, MEMORY)[0])})
    with pytest.raises(InfeasibleBudget, match="latency_ms.*within memory_bytes") as caught:
        solve_target(goal, objective, generator())
    assert caught.value.constraint == "latency_ms" and caught.value.minimum > least


def test_a_file_larger_than_its_weights_makes_the_next_one_smaller(objective):
    goal = target(10.0, limits={SIZE: int(np.mean(reachable(SPACE, SIZE)))})
    first = solve_target(goal, objective, generator()).architectures[0]
    weights = costs_of(SPACE, first)[SIZE]
    goal.outgrown(first, weights + 20_000)
    again = solve_target(goal, objective, generator()).architectures
    assert first not in again and all(costs_of(SPACE, a)[SIZE] + 20_000 <= goal.limits[SIZE] for a in again)


def test_several_limits_travel_to_a_child(objective):
    goal = target(
        0.12, limits={MACS: int(np.mean(reachable(SPACE, MACS))), MEMORY: int(reachable(SPACE, MEMORY)[0])}
    )
    problem = goal.problem(objective.score, SPACE, 2)
    there_too = travelled(problem)
    here, there = (solve(p, "exact", generator()).candidates for p in (problem, there_too))
    assert [c.genes.tolist() for c in here] == [c.genes.tolist() for c in there]
