"""A precision for every block: a space knows what it costs to change it, and every solver counts that."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from latency_tables.errors import InvalidOperator, MissingLatency
from latency_tables.measurement import Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from supernets.errors import InfeasibleBudget, InvalidArchitecture
from supernets.search.catalog import STRATEGIES, solve
from supernets.search.exact import strategy as exact
from supernets.search.limits import costs_of, limited, reachable
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import excluded, named_values, restricted
from supernets.spaces.catalog import SPACES
from supernets.spaces.choices import ZERO, Choice, grid
from supernets.spaces.lowering import (
    all_operators,
    boundary_operators,
    dense_from,
    dense_latency,
    lifted,
    lower,
)
from supernets.spaces.space import Space, Stage, pictures

BOTH = ("float32", "int8")
SKIPPED = {"stride": 1, "residual": True}
TINY = Space(
    "tiny",
    "for tests: two widths, two depths, a block that may be left out",
    (8, 12),
    pictures(1),
    4,
    (
        Stage("stem", "conv", (8,), choices=grid(1, kernel=(3,))),
        Stage("body", "mbconv", (8, 16), (1, 2), grid(2, kernel=(3, 5), expand=(3,)), {"stride": 2}),
        Stage(
            "tail",
            "mbconv",
            (16,),
            (2,),
            (*grid(1, kernel=(3,), expand=(2,)), (Choice(kernel=3), ZERO)),
            SKIPPED,
        ),
        Stage("head", "head", (4,)),
    ),
    "tests",
)
MIXED = TINY.with_precisions(BOTH)
SOME = ["tiny", "digits-mbv3", "ofa-proxyless"]


def spaces(name: str) -> tuple[Space, Space]:
    """(in float32, with both precisions) at its least resolution."""
    plain = TINY if name == "tiny" else SPACES[name]
    plain = plain.at([plain.resolutions[0]])
    return plain, plain.with_precisions(BOTH)


def milliseconds(op: Operator) -> float:
    """Distinct for every operator; changing the precision is dear enough to matter."""
    work = 0.01 + op.macs / 1e6 + (sum(op.text.encode()) % 97) / 1e3
    if op.family in ("quantize", "dequantize"):
        return 0.02 + op.light_operations / 2e5
    return work / (1.6 if op.precision == "int8" else 1.0)


def all_genes(space: Space) -> np.ndarray:
    rows = np.array(list(product(*(range(n) for n in space.chain.gene_sizes))))
    return np.unique(space.chain.canonical(rows), axis=0)


@pytest.mark.parametrize("name", SOME)
def test_every_block_has_a_precision_and_nothing_else_changes(name: str) -> None:
    plain, mixed = spaces(name)
    assert (
        plain.precisions == ("float32",)
        and plain.chain.lanes == 1
        and "precisions" not in plain.to_json(plain.largest())
    )
    assert mixed.precisions == BOTH and mixed.chain.lanes == 2
    assert (
        mixed.with_precisions(["float32"])
        == plain
        == mixed.with_precisions(["float32"]).with_precisions(["float32"])
    )
    assert (
        mixed.ref == plain.ref and mixed.largest() == plain.largest() and mixed.smallest() == plain.smallest()
    )
    for network in plain.sample(np.random.default_rng(0), 5):
        genes = mixed.genes(network)
        assert mixed.architecture(genes).digest == network.digest and (genes == plain.genes(network)).all()
        assert lower(mixed, network) == lower(plain, network)


def test_the_count_is_exact() -> None:
    rows = all_genes(MIXED)
    assert MIXED.count() == len(rows) == 2 * 2 * 2 * (4 + 16) * 2 * 3 * 2
    assert len({MIXED.architecture(row).digest for row in rows}) == len(rows)
    assert 1e25 < SPACES["ofa-mbv3"].with_precisions(BOTH).count() < 1e29


@pytest.mark.parametrize("name", SOME)
def test_prices_are_the_sums_of_the_rows_changes_of_precision_included(name: str) -> None:
    _, mixed = spaces(name)
    genes = mixed.chain.sample(np.random.default_rng(1), 40)
    networks = [lower(mixed, mixed.architecture(row)) for row in genes]
    prices = dense_from(mixed, milliseconds).price(genes)
    assert np.allclose(prices, [sum(map(milliseconds, network)) for network in networks])
    listed = set(all_operators(mixed, mixed.resolutions[0]))
    assert all(set(network) <= listed for network in networks)
    assert any(op.family == "quantize" for network in networks for op in network)
    for network in networks:
        given = [spec.dtype for op in network for spec in op.fed[:1]]
        assert given == ["float32", *(op.stored for op in network[:-1])] and network[-1].stored == "float32"
    # Each quantity that no change of precision has is free of the lanes.
    assert dense_from(mixed, lambda op: op.macs).switch == ()


@pytest.mark.parametrize("name", SOME)
def test_json_tells_the_precision_of_each_block(name: str) -> None:
    plain, mixed = spaces(name)
    for network in mixed.sample(np.random.default_rng(2), 5):
        told = json.loads(json.dumps(mixed.to_json(network)))
        assert told["precisions"] == list(BOTH) and mixed.from_json(told) == network
        assert plain.from_json(told) == network  # whoever has the space's name reads it
        assert plain.genes(
            plain.with_precisions(["float32"]).architecture(plain.genes(mixed.in_float(network)))
        ).size
        told["stages"][-1]["blocks"][0]["precision"] = "int4"
        with pytest.raises(InvalidArchitecture, match="precision"):
            mixed.from_json(told)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_works_on_the_joint_problem(strategy: str) -> None:
    space = MIXED.at([8])
    genes, cost = all_genes(space), dense_from(space, milliseconds)
    worth = lifted(dense_from(TINY.at([8]), lambda op: np.log1p(op.macs)), space)
    least, most = exact.bounds(cost)
    prices, scores = cost.price(genes), worth.price(genes)
    assert (least, most) == pytest.approx((prices.min(), prices.max()))
    for share in (0.3,) if strategy == "gradient" else (0.0, 0.3, 0.7):
        problem = Problem(space.chain, worth, (Constraint("ms", cost, least + share * (most - least)),), 3)
        best = np.sort(scores[problem.feasible(prices[:, None])])[::-1][:3]
        found = solve(problem, strategy, np.random.default_rng(0)).candidates
        assert all(c.costs[0] <= problem.constraints[0].limit for c in found)
        assert all(c.score <= b + 1e-9 for c, b in zip(found, best, strict=False))
        if strategy != "gradient":
            assert found[0].score == pytest.approx(best[0])
        if strategy == "exact":
            assert [c.score for c in found] == pytest.approx(list(best))


def test_the_whole_front_is_that_of_all_networks_and_no_sequence_beats_it() -> None:
    space, plain = MIXED.at([8]), TINY.at([8])
    cost, score = (
        dense_from(space, milliseconds),
        dense_from(space, lambda op: np.log1p(op.macs) - 0.1 * (op.precision == "int8")),
    )
    genes = all_genes(space)
    front = exact.front(score, cost)
    prices, scores = cost.price(genes), score.price(genes)
    for price, value in zip(front.costs, front.scores, strict=True):
        assert value == pytest.approx(scores[prices <= price].max())
    for limit in np.quantile(prices, [0.1, 0.5]):
        of_floats = [g for g in genes if space.in_float(space.architecture(g)) == space.architecture(g)]
        kept = [g for g in of_floats if cost.price(g[None])[0] <= limit]
        if kept:
            chosen = max(kept, key=lambda g: float(score.price(g[None])[0]))
            assert plain.from_json(plain.to_json(space.architecture(chosen)))
            assert front.scores[front.within(limit)] >= float(score.price(chosen[None])[0])


def test_missing_rows_of_a_precision_are_named() -> None:
    context = Context("onnxruntime", "1", "CPUExecutionProvider", 1, "float32", 1)
    table = LatencyTable(context, {op: Measurement(1.0) for op in all_operators(TINY, 8)})
    assert dense_latency(TINY.at([8]), table).price(all_genes(TINY.at([8]))).min() > 0
    with pytest.raises(MissingLatency) as error:
        dense_latency(MIXED.at([8]), table)
    lacking = set(all_operators(MIXED, 8)) - set(all_operators(TINY, 8))
    assert set(error.value.operators) == {op.text for op in lacking}
    assert any("precision=int8" in text for text in error.value.operators)
    assert any(text.startswith("quantize/in=") for text in error.value.operators)


def test_a_limit_of_size_counts_eight_bit() -> None:
    space = MIXED.at([8])
    cost = dense_from(space, milliseconds)
    problem = Problem(space.chain, dense_from(space, lambda op: op.macs), (Constraint("ms", cost, 1e9),))
    low, high = reachable(space, "size_bytes")
    assert (low, high) == pytest.approx(
        (min(s := [costs_of(space, space.architecture(g))["size_bytes"] for g in all_genes(space)]), max(s))
    )
    small = limited(space, problem, {"size_bytes": low + (high - low) / 4})
    chosen = space.architecture(exact.solve(small).candidates[0].genes)
    assert costs_of(space, chosen)["size_bytes"] <= low + (high - low) / 4
    assert any(c.precision == "int8" for stage in chosen.stages for c in stage.blocks)
    peaks = sorted({costs_of(space, space.architecture(g))["memory_bytes"] for g in all_genes(space)})
    tight = limited(space, problem, {"memory_bytes": peaks[0]})
    chosen = space.architecture(exact.solve(tight).candidates[0].genes)
    assert costs_of(space, chosen)["memory_bytes"] == peaks[0]
    with pytest.raises(InfeasibleBudget):
        limited(space, problem, {"memory_bytes": peaks[0] - 1})


def test_a_precision_can_be_excluded_by_name() -> None:
    space = MIXED.at([8])
    assert named_values(space)["precision"] == ["float32", "int8"] and "precision" not in named_values(TINY)
    mask = excluded(space, {"precision": ["float32"], "stem.precision": ["int8"]} | {"precision": ["int8"]})
    cost = dense_from(space, milliseconds)
    problem = Problem(space.chain, dense_from(space, lambda op: op.macs), (Constraint("ms", cost, 1e9),))
    chosen = space.architecture(exact.solve(restricted(problem, mask)).candidates[0].genes)
    assert space.in_float(chosen) == chosen


def test_what_cannot_be_is_refused() -> None:
    for odd in ((), ("float64",), ("float32", "int4")):
        with pytest.raises(InvalidArchitecture, match="precisions are float32"):
            TINY.with_precisions(odd)
    with pytest.raises(ValueError, match="is computed in float32 or"):
        Stage("stem", "conv", (8,), choices=grid(1, precision=("int4",)))
    with pytest.raises(InvalidOperator, match="cannot follow each other"):
        boundary_operators((8, 4, 4), "int8", "float16")
    heads = (*TINY.stages[:-1], Stage("head", "head", (4,), (1, 2), grid(2)))
    with pytest.raises(InvalidArchitecture, match="several blocks"):
        Space("odd", "", (8,), pictures(1), 4, heads, "").with_precisions(BOTH)
    with pytest.raises(InvalidArchitecture, match="a block must be one of"):
        TINY.genes(MIXED.architecture(all_genes(MIXED)[-1]))
