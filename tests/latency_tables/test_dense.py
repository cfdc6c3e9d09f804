"""Dense tables price a whole population by one gather: always equal to the slow sum."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.dense import KEEPS, Chain, DenseTable, StageShape


@st.composite
def chains(draw: st.DrawFn, most_stages: int = 4) -> Chain:
    stages = []
    for _ in range(draw(st.integers(1, most_stages))):
        depths = tuple(sorted(draw(st.sets(st.integers(1, 3), min_size=1, max_size=3))))
        choices = tuple(draw(st.integers(1, 3)) for _ in range(depths[-1]))
        lanes = tuple(tuple(draw(st.integers(KEEPS, 2)) for _ in range(count)) for count in choices)
        carries = draw(st.booleans())
        stages.append(StageShape(draw(st.integers(1, 3)), depths, choices, lanes if carries else ()))
    return Chain(draw(st.integers(1, 3)), tuple(stages))


def random_table(chain: Chain, generator: np.random.Generator) -> DenseTable:
    blocks, depth, switch, before = [], [], [], 1
    for shape in chain.stages:
        blocks.append(
            generator.random((chain.resolutions, before, shape.states, shape.blocks, max(shape.choices)))
        )
        depth.append(generator.random((chain.resolutions, len(shape.depths))))
        switch.append(generator.random((*blocks[-1].shape[:4], chain.lanes, blocks[-1].shape[4])))
        before = shape.states
    switched = tuple(switch) if chain.lanes > 1 else ()
    return DenseTable(chain, generator.random(chain.resolutions), tuple(blocks), tuple(depth), switched)


def slow_sum(table: DenseTable, row: np.ndarray) -> float:
    """The definition, one number after the other."""
    resolution, width_in, lane = int(row[0]), 0, 0
    total = table.constant[resolution]
    for column, shape, blocks, depth, switch in zip(
        table.chain.offsets, table.chain.stages, table.blocks, table.depth, table.switches, strict=True
    ):
        width, deep = int(row[column]), int(row[column + 1])
        total += depth[resolution, deep]
        for block in range(shape.depths[deep]):
            choice = int(row[column + 2 + block])
            total += blocks[resolution, width_in, width, block, choice]
            total += switch[resolution, width_in, width, block, lane, choice]
            left = shape.lanes[block][choice] if shape.lanes else 0
            lane = lane if left == KEEPS else left
        width_in = width
    return float(total)


@settings(deadline=None)
@given(chains(), st.integers(0, 2**32 - 1))
def test_price_equals_the_slow_sum(chain, seed):
    generator = np.random.default_rng(seed)
    table = random_table(chain, generator)
    genes = generator.integers(0, chain.gene_sizes, size=(20, chain.genes))
    assert np.allclose(table.price(genes), [slow_sum(table, row) for row in genes])
    assert np.allclose(table.price(chain.canonical(genes)), table.price(genes))


def test_a_price_does_not_depend_on_company_or_memory_order():
    """Solvers compare prices of one network that were computed in different batches."""
    chain = Chain(
        3, (StageShape(2, (1, 3), (3, 2, 3)), StageShape(3, (2,), (4, 4)), StageShape(1, (1,), (1,)))
    )
    generator = np.random.default_rng(0)
    table, genes = random_table(chain, generator), chain.sample(generator, 20_001)
    prices = table.price(genes)
    assert np.array_equal(prices, table.price(np.asfortranarray(genes)))
    assert prices[[0, 9_000, 20_000]].tolist() == [
        float(table.price(genes[i : i + 1])[0]) for i in (0, 9_000, 20_000)
    ]
    assert len(table.price(genes[:0])) == 0


@settings(deadline=None)
@given(chains(), st.integers(0, 2**32 - 1))
def test_affine_is_affine(chain, seed):
    generator = np.random.default_rng(seed)
    table, genes = random_table(chain, generator), chain.sample(generator, 10)
    intercept, slope = generator.random(chain.resolutions), generator.random(chain.resolutions)
    wanted = intercept[genes[:, 0]] + slope[genes[:, 0]] * table.price(genes)
    assert np.allclose(table.affine(intercept, slope).price(genes), wanted)


@settings(deadline=None, max_examples=30)
@given(chains(most_stages=2))
def test_count_is_the_number_of_canonical_rows(chain):
    if int(np.prod(chain.gene_sizes)) > 50_000:
        return
    every = np.array(list(itertools.product(*(range(int(size)) for size in chain.gene_sizes))))
    assert len(np.unique(chain.canonical(every), axis=0)) == chain.count()


def test_arrays_that_do_not_fit_are_refused():
    chain = Chain(2, (StageShape(1, (1, 2), (3, 3)),))
    with pytest.raises(ValueError, match="do not fit"):
        DenseTable(chain, np.zeros(2), (np.zeros((2, 1, 1, 2, 4)),), (np.zeros((2, 2)),))
