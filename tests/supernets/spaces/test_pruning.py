"""Widths inside blocks as choices: which there are, how they are told, counted and priced, what is refused."""

import json

import numpy as np
import pytest

from latency_tables.errors import MissingLatency
from latency_tables.measurement import Context, Measurement
from latency_tables.table import LatencyTable
from supernets.errors import InvalidArchitecture
from supernets.search.catalog import STRATEGIES, solve
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.search.restriction import excluded, named_values, restricted
from supernets.spaces.catalog import SPACES
from supernets.spaces.choices import KEPT, grid, kernel_expand
from supernets.spaces.lowering import all_operators, dense_from, dense_latency, lifted, lower
from supernets.spaces.space import MOST_WIDTHS, Space, Stage, pictures

TINY = Space(
    "tiny-pruned",
    "",
    (8,),
    pictures(1),
    4,
    (
        Stage("stem", "conv", (16,), choices=kernel_expand((3,), (1,), 1)),
        Stage("stage1", "mbconv", (16,), (1, 2), kernel_expand((3,), (3, 4), 2), {"stride": 2}),
        Stage("head", "head", (4,)),
    ),
    "",
)
PRUNED = TINY.with_pruning()
WIDE = [name for name, space in SPACES.items() if space.generation is None]


def all_genes(space):
    """Every network, canonical genes."""
    sizes = space.chain.gene_sizes
    rows = np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), -1).reshape(-1, len(sizes))
    return np.unique(space.chain.canonical(rows), axis=0)


def milliseconds(op):
    return 0.1 + (op.macs * 31 + op.parameters * 17) % 997 / 997


def inside(space, block):
    """Middle channels of what a block of stage 1 may be, ascending."""
    stages = (choice for choice in space.stages[1].choices[block])
    return sorted({int(op.mid_channels) for c in stages for op in of(space, block, c)})


def of(space, block, choice):
    stage = space.stages[1]
    return stage.operators_of(block, (16, 8, 8), space.stages[0].states[0], stage.states[0], choice)


def test_widths_are_multiples_of_eight_down_to_half_of_the_least_without_that_of_the_input():
    assert inside(TINY, 0) == inside(TINY, 1) == [48, 64]
    assert inside(PRUNED, 0) == inside(PRUNED, 1) == [24, 32, 40, 48, 56, 64]
    assert PRUNED.pruned and not TINY.pruned and PRUNED.with_all_channels() == TINY
    # Each is a share of the next wider one.
    shares = {(c["expand"], c.kept) for c in PRUNED.stages[1].choices[0] if KEPT in c}
    assert shares == {(3, 0.5), (3, 0.667), (3, 0.833), (4, 0.875)}


def test_the_count_is_exact():
    rows = all_genes(PRUNED)
    assert PRUNED.count() == len(rows) == 6 + 6 * 6
    assert len({PRUNED.architecture(row).digest for row in rows}) == len(rows)
    both = PRUNED.with_precisions(("float32", "int8"))
    assert both.count() == 2 * 2 * (12 + 12 * 12)
    assert both == TINY.with_precisions(("float32", "int8")).with_pruning()
    assert 1e28 < SPACES["ofa-mbv3"].with_pruning().count() < 1e31


@pytest.mark.parametrize("name", WIDE)
def test_few_widths_are_measured_of_every_block_and_none_is_the_same_as_another(name):
    space = SPACES[name]
    pruned, size = space.with_pruning(), space.resolutions[0]
    assert set(all_operators(space, size)) < set(all_operators(pruned, size))
    for plain, stage in zip(space.stages, pruned.stages, strict=True):
        for before, options in zip(plain.choices, stage.choices, strict=True):
            assert options[: len(before)] == before
            # Of one kernel.
            first = next((c for c in before if not c.zero), None)
            widths = [c for c in options if first and not c.zero and c["kernel"] == first["kernel"]]
            assert len(widths) <= MOST_WIDTHS
    for network in pruned.sample(np.random.default_rng(0), 20):
        whole = pruned.unpruned(network)
        assert whole in space and space.holding(whole) == space
        for op, wide in zip(lower(pruned, network), lower(space, whole), strict=True):
            assert op == wide or 0 < op.prunable_channels < wide.prunable_channels
            assert op.prunable_channels % 8 == 0 or op == wide


def test_json_tells_the_share_and_that_it_is_pruned_and_whole_networks_stay_as_they_were():
    for network in PRUNED.sample(np.random.default_rng(1), 10):
        told = json.loads(json.dumps(PRUNED.to_json(network)))
        assert TINY.from_json(told) == PRUNED.from_json(told) == network
        assert told.get("pruned", False) == (PRUNED.unpruned(network) != network)
    whole = TINY.largest()
    assert PRUNED.to_json(whole) == TINY.to_json(whole) and "pruned" not in TINY.to_json(whole)
    assert PRUNED.largest() == whole and PRUNED.smallest() != TINY.smallest()
    told = PRUNED.to_json(PRUNED.smallest())
    told["stages"][0]["blocks"][0]["kept"] = 0.9
    with pytest.raises(InvalidArchitecture, match='"kept"'):
        TINY.from_json(told)


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "gradient"])
def test_every_strategy_works_on_the_joint_problem(strategy):
    genes, cost = all_genes(PRUNED), dense_from(PRUNED, milliseconds)
    worth = lifted(dense_from(TINY, lambda op: np.log1p(op.macs)), PRUNED)
    for index, stage in enumerate(PRUNED.stages):
        for block, options in enumerate(stage.choices):
            for c, choice in enumerate(options):
                worth.blocks[index][..., block, c] -= 1 - choice.kept
    least, most = exact.bounds(cost)
    prices, scores = cost.price(genes), worth.price(genes)
    problem = Problem(PRUNED.chain, worth, (Constraint("ms", cost, (least + most) / 2),), 3)
    best = np.sort(scores[problem.feasible(prices[:, None])])[::-1][:3]
    found = solve(problem, strategy, np.random.default_rng(0)).candidates
    assert all(c.costs[0] <= problem.constraints[0].limit for c in found)
    assert all(c.score <= b + 1e-9 for c, b in zip(found, best, strict=False))
    if strategy == "exact":
        assert [c.score for c in found] == pytest.approx(list(best))
        whole = max(float(worth.price(g[None])[0]) for g in genes if PRUNED.architecture(g) in TINY)
        assert found[0].score >= min(whole, best[0])


def test_missing_rows_of_pruned_widths_are_named():
    context = Context("onnxruntime", "1", "CPUExecutionProvider", 1, "float32", 1)
    table = LatencyTable(context, {op: Measurement(1.0) for op in all_operators(TINY, 8)})
    with pytest.raises(MissingLatency) as error:
        dense_latency(PRUNED, table)
    lacking = set(all_operators(PRUNED, 8)) - set(all_operators(TINY, 8))
    assert set(error.value.operators) == {op.text for op in lacking} and len(lacking) == 2 * 4


def test_a_share_can_be_excluded_by_name():
    assert 0.5 in named_values(PRUNED)["kept"] and "kept" not in named_values(TINY)
    shares = [value for value in named_values(PRUNED)["kept"] if value != 1]
    cost = dense_from(PRUNED, milliseconds)
    problem = Problem(PRUNED.chain, dense_from(PRUNED, lambda op: -op.macs), (Constraint("ms", cost, 1e9),))
    chosen = exact.solve(restricted(problem, excluded(PRUNED, {"stage1.kept": shares}))).candidates[0]
    assert PRUNED.architecture(chosen.genes) in TINY


def test_spaces_without_channels_to_cut_out_are_refused():
    with pytest.raises(InvalidArchitecture, match="no block has channels"):
        SPACES["hat-small"].with_pruning()
    with pytest.raises(ValueError, match="choices of conv are of"):
        Stage("stem", "conv", (8,), choices=grid(1, kernel=(3,), kept=(0.5,)))
