"""What the rest of a chain costs or gives at best, from any point of a stage: dynamic programming from the
last block to the first, over states, depths and lanes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from latency_tables.dense import Array, Chain

Best = Callable[..., Array]
"""`numpy.min` or `numpy.max`."""


def rests(
    chain: Chain,
    stages: Iterator[tuple[Array, Array, Array | None]],
    best: Best,
    leading: tuple[int, ...] = (),
) -> Iterator[Array]:
    """The best rest of the chain after so many blocks, for each stage from the last to the first, shape
    (*leading, resolutions, states in, states out, depths, blocks + 1, lanes).

    stages: from the last to the first: blocks, depth and switch (None: none) of a dense table, with
    `leading` axes before. The constant is not in it.
    """
    after: Array = np.zeros((*leading, chain.resolutions, chain.stages[-1].states, chain.lanes))
    for number, (blocks, depth, switch) in zip(reversed(range(len(chain.stages))), stages, strict=True):
        ends = depth[..., None, None, :, None] + after[..., None, :, None, :]
        rest = _rest(chain, number, blocks, switch, ends, best)
        yield rest
        after = best(rest[..., 0, :], axis=(-3, -2))


def _rest(chain: Chain, stage: int, blocks: Array, switch: Array | None, ends: Array, best: Best) -> Array:
    """One stage. ends (..., depths, lanes): what leaving it at each depth in each lane makes of the rest."""
    shape = chain.stages[stage]
    size = (*blocks.shape[:-2], len(shape.depths), shape.blocks + 1, chain.lanes)
    rest: Array = np.zeros(size)
    if chain.lanes == 1:
        # Without lanes the best choice of a block does not depend on what follows.
        each = np.stack([best(blocks[..., b, :n], axis=-1) for b, n in enumerate(shape.choices)], axis=-1)
        if switch is not None:
            each = np.stack(
                [
                    best(blocks[..., b, :n] + switch[..., b, 0, :n], axis=-1)
                    for b, n in enumerate(shape.choices)
                ],
                axis=-1,
            )
        for index, deep in enumerate(shape.depths):
            rest[..., index, :deep, 0] = np.cumsum(each[..., :deep][..., ::-1], axis=-1)[..., ::-1]
        rest += ends[..., None, :]
        return rest
    rest += ends[..., None, :]
    for block in reversed(range(shape.blocks)):
        choices = shape.choices[block]
        deeper = [index for index, deep in enumerate(shape.depths) if deep > block]
        step = blocks[..., block, None, :choices]
        if switch is not None:
            step = step + switch[..., block, :, :choices]
        follow = rest[..., deeper, block + 1, :][..., chain.after(stage, block)]
        rest[..., deeper, block, :] = best(step[..., None, :, :] + follow, axis=-1)
    return rest
