"""Small random problems whose every network can be listed."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import strategies as st

from latency_tables.dense import KEEPS, Chain, DenseTable, Genes, StageShape


def random_table(
    chain: Chain,
    generator: np.random.Generator,
    low: float = 0.0,
    *,
    whole_numbers: bool = False,
    forbid: float = 0.0,
) -> DenseTable:
    """Values from [low, low + 10]; whole numbers make ties; a share of choices is free (Zero), a share
    forbidden."""

    def draw(*shape: int) -> np.ndarray:
        values = generator.uniform(low, low + 10, size=shape)
        values = np.where(generator.random(shape) < 0.1, 0.0, values)
        return np.round(values) if whole_numbers else values

    blocks, depth, switches, before = [], [], [], 1
    for shape in chain.stages:
        size = max(shape.choices)
        switch = draw(chain.resolutions, before, shape.states, shape.blocks, chain.lanes, size)
        switch[generator.random(switch.shape) < forbid] = np.inf
        switch[:, :, :, 1:] = switch[:, :1, :, 1:]
        switches.append(switch)
        first = draw(chain.resolutions, before, shape.states, shape.blocks, size)
        first[:, :, :, 1:] = first[:, :1, :, 1:]  # later blocks read the stage's own width
        first[generator.random(first.shape) < forbid] = np.inf
        first[:, :, :, 1:] = first[:, :1, :, 1:]
        for block, choices in enumerate(shape.choices):
            first[..., block, choices:] = np.inf
        blocks.append(first)
        depth.append(draw(chain.resolutions, len(shape.depths)))
        before = shape.states
    # A score seldom depends on what is carried, so half of the tables do not.
    carried = chain.lanes > 1 and generator.random() < 0.5
    return DenseTable(
        chain, draw(chain.resolutions), tuple(blocks), tuple(depth), tuple(switches) if carried else ()
    )


def every_network(chain: Chain) -> Genes:
    """All distinct networks."""
    rows = np.array(list(product(*(range(n) for n in chain.gene_sizes))), dtype=np.int64)
    return np.unique(chain.canonical(rows), axis=0)


@st.composite
def stage_shapes(draw: st.DrawFn) -> StageShape:
    blocks = draw(st.integers(1, 3))
    depths = draw(st.sets(st.integers(1, blocks), min_size=1)) | {blocks}
    choices = tuple(draw(st.integers(1, 3)) for _ in range(blocks))
    lanes = tuple(tuple(draw(st.integers(KEEPS, 1)) for _ in range(count)) for count in choices)
    carries = draw(st.booleans())
    return StageShape(draw(st.integers(1, 3)), tuple(sorted(depths)), choices, lanes if carries else ())


chains = st.builds(
    Chain, st.integers(1, 3), st.lists(stage_shapes(), min_size=1, max_size=3).map(tuple)
).filter(lambda chain: np.prod(chain.gene_sizes) <= 20_000)
seeds = st.integers(0, 2**32 - 1)
