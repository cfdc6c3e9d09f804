"""Choices excluded by name or because a table lacks them: no solver takes them, and what is left out wrongly
is an error."""

from itertools import product

import numpy as np
import pytest

from latency_tables.measurement import Context, Measurement
from latency_tables.table import LatencyTable
from supernets.errors import InfeasibleBudget, InvalidSearch
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import added, excluded, named_values, possible_resolutions, restricted
from supernets.spaces.catalog import SPACES, space_named
from supernets.spaces.lowering import dense_from, known_latency, lower, needed_operators

SPACE = space_named("digits-mbv3").at([8, 12])
COST = dense_from(SPACE, lambda op: 0.002 + op.macs * 2e-8)
SCORE = dense_from(SPACE, lambda op: np.log1p(op.macs) / 1000)
CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)


def networks(count=3000):
    genes = np.unique(SPACE.chain.sample(np.random.default_rng(0), count), axis=0)
    return genes, [SPACE.architecture(row) for row in genes]


@pytest.mark.parametrize(
    ("exclude", "taken"),
    [
        ({"kernel": [7]}, lambda stage, chosen: any(c["kernel"] == 7 for c in chosen.blocks)),
        (
            {"stage2.kernel": [3, 5]},
            lambda stage, chosen: stage.name == "stage2" and any(c["kernel"] < 7 for c in chosen.blocks),
        ),
        (
            {"expand": [4]},
            lambda stage, chosen: stage.family == "mbconv" and any(c["expand"] == 4 for c in chosen.blocks),
        ),
        ({"depth": [3]}, lambda stage, chosen: chosen.depth == 3),
        (
            {"kernel": [5], "depth": [2]},
            lambda stage, chosen: chosen.depth == 2 or any(c["kernel"] == 5 for c in chosen.blocks),
        ),
    ],
    ids=lambda value: None if callable(value) else str(value),  # a function's text holds its address
)
def test_a_restriction_forbids_the_networks_with_an_excluded_choice_and_no_others(exclude, taken):
    genes, architectures = networks()
    priced = added(COST, excluded(SPACE, exclude)).price(genes)
    for ms, architecture in zip(priced, architectures, strict=True):
        forbidden = any(
            taken(stage, chosen) for stage, chosen in zip(SPACE.stages, architecture.stages, strict=True)
        )
        assert np.isinf(ms) == forbidden


def test_the_best_network_of_those_that_are_left_is_found_and_proven():
    exclude, limit = {"stage1.kernel": [3], "expand": [2]}, 0.1
    mask = excluded(SPACE, exclude)
    found = exact.solve(
        restricted(Problem(SPACE.chain, SCORE, (Constraint("latency_ms", COST, limit),), 3), mask)
    )
    assert found.optimal
    genes, _ = networks(20_000)
    kept = genes[added(COST, mask).price(genes) <= limit]
    assert len(kept) and SCORE.price(kept).max() <= found.candidates[0].score + 1e-12
    assert np.isfinite(mask.price(np.stack([c.genes for c in found.candidates]))).all()


def test_a_limit_that_only_excluded_networks_keep_is_refused_with_what_is_left():
    mask = excluded(SPACE, {"stage1.kernel": [3], "expand": [2]})
    limit = (exact.bounds(COST)[0] + exact.bounds(added(COST, mask))[0]) / 2
    with pytest.raises(InfeasibleBudget, match="exclude less") as caught:
        restricted(Problem(SPACE.chain, SCORE, (Constraint("latency_ms", COST, limit),)), mask)
    assert caught.value.minimum > limit and caught.value.constraint == "latency_ms"


@pytest.mark.parametrize(
    "exclude",
    [
        {"kernels": [7]},
        {"kernel": [9]},
        {"kernel": [True]},
        {"squeeze_excite": [1]},
        {"stage9.kernel": [7]},
        {"kernel": ["7"]},
        {"stage1.depth": [9]},
        {"kernel": [7, 9]},
    ],
    ids=str,
)
def test_a_name_or_value_that_the_space_does_not_have_is_an_error_that_lists_what_it_has(exclude):
    with pytest.raises(InvalidSearch, match="kernel: 1, 3, 5, 7.*squeeze_excite: false, true.*stage1"):
        excluded(SPACE, exclude)


def test_excluding_all_of_a_stage_says_which_stage_has_no_other_choice():
    with pytest.raises(InfeasibleBudget, match="stage stage2 has no other choice; exclude less"):
        excluded(SPACE, {"stage2.kernel": [3, 5, 7]})
    with pytest.raises(InfeasibleBudget, match="no network of digits-mbv3 is left"):
        excluded(SPACE, {"depth": [1, 2, 3]})


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_named_value_of_every_space_can_be_excluded_or_says_that_nothing_is_left(name):
    space = SPACES[name].at(SPACES[name].resolutions[:1])
    for choice, values in named_values(space).items():
        for value in values:
            try:
                excluded(space, {choice: [value]})
            except InfeasibleBudget as error:
                assert "has no other choice" in str(error)


def table(keep):
    rows = {
        op: Measurement(0.002 + op.macs * 2e-8)
        for r in SPACE.resolutions
        for op in needed_operators(SPACE, r)
        if keep(op)
    }
    return LatencyTable(CONTEXT, rows)


def test_what_a_table_lacks_has_no_finite_price_and_the_rest_is_its_sum():
    held = table(lambda op: op.kernel != 7 and (op.in_height < 12 or op.family != "conv"))
    assert possible_resolutions(SPACE, held) == (8,)
    dense = known_latency(SPACE, held)
    genes, architectures = networks(300)
    for ms, architecture in zip(dense.price(genes), architectures, strict=True):
        operators = lower(SPACE, architecture)
        whole = all(op in held.rows for op in operators)
        assert np.isfinite(ms) == whole
        assert not whole or ms == pytest.approx(held.latency_ms(operators))
    assert possible_resolutions(SPACE, table(lambda op: op.family != "head")) == ()


def test_restrictions_hold_with_memory_and_several_limits():
    mask = excluded(SPACE, {"kernel": [7]})
    macs = dense_from(SPACE, lambda op: float(op.macs))
    limits = [np.mean(exact.bounds(t)) for t in (COST, macs)]
    constraints = tuple(
        Constraint(n, t, lim) for n, t, lim in zip(("latency_ms", "macs"), (COST, macs), limits, strict=True)
    )
    found = exact.solve(restricted(Problem(SPACE.chain, SCORE, constraints, 2), mask)).candidates
    assert all(np.isfinite(mask.price(c.genes[None])[0]) for c in found)
    assert all(cost <= limit for c, (cost, limit) in product(found, zip(found[0].costs, limits, strict=True)))
