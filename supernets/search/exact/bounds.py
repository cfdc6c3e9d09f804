"""What can be reached at all, and how good it can be at most: asked before anything is searched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes, StageShape
from supernets.errors import InfeasibleBudget
from supernets.search.problem import Constraint
from supernets.search.rest import rests

# Sums in another order differ in the last bits: the search allows that much, the price decides.
ROUNDING = 1e-12
_MULTIPLIERS = 40


def bounds(cost: DenseTable) -> tuple[float, float]:
    """(least, largest) finite price of any network, by dynamic programming. Raises InfeasibleBudget when all
    are forbidden."""
    # Priced as networks are: a budget of exactly the least price must be reachable, to the last bit.
    extremes = cost.price(np.stack([_extreme(cost, 1.0), _extreme(cost, -1.0)]))
    if not np.isfinite(extremes).all():
        raise InfeasibleBudget(
            "every network of the space is forbidden; allow more choices or resolutions", np.inf, -np.inf
        )
    return float(extremes[0]), float(extremes[1])


def cheapest(cost: DenseTable) -> Genes:
    """Canonical genes of the network of least price, shape (genes,); any network where all are forbidden."""
    return _extreme(cost, 1.0)


def _extreme(cost: DenseTable, sign: float) -> Genes:
    """Canonical genes of the network of least sign x price; any network where all are forbidden."""

    def signed(values: Array) -> Array:
        return np.where(np.isfinite(values), sign * values, np.inf)

    chain = cost.chain
    worst = [_padded(signed(blocks), shape.choices, np.inf) for shape, blocks in _stages(cost)]
    switches: list[Array | None] = [None] * len(worst)
    if cost.switch:
        switches = [signed(switch) for switch in cost.switch]
    stages = list(zip(worst, map(signed, cost.depth), switches, strict=True))
    rest = list(rests(chain, iter(stages[::-1]), np.min))[::-1]
    row = np.zeros(chain.genes, dtype=np.int64)
    row[0] = np.argmin(rest[0][..., 0, 0].min(axis=(1, 2, 3)) + signed(cost.constant))
    read = lane = 0
    for stage, (column, shape) in enumerate(zip(chain.offsets, chain.stages, strict=True)):
        here = rest[stage][row[0], read, :, :, 0, lane]
        state, deep = (int(n) for n in np.unravel_index(int(np.argmin(here)), here.shape))
        row[column], row[column + 1] = state, deep
        values, _, switch = stages[stage]
        for block in range(shape.depths[deep]):
            after = chain.after(stage, block)[lane]
            ways = values[row[0], read, state, block, : len(after)]
            if switch is not None:
                ways = ways + switch[row[0], read, state, block, lane, : len(after)]
            chosen = int(np.argmin(ways + rest[stage][row[0], read, state, deep, block + 1, after]))
            row[column + 2 + block], lane = chosen, int(after[chosen])
        read = state
    return row


def _stages(table: DenseTable) -> Iterator[tuple[StageShape, Array]]:
    return zip(table.chain.stages, table.blocks, strict=True)


def _padded(blocks: Array, choices: tuple[int, ...], value: float) -> Array:
    """A copy in which choices that a block does not have are `value`."""
    found = blocks.copy()
    for block, count in enumerate(choices):
        found[..., block, count:] = value
    return found


def infeasible(constraint: Constraint) -> InfeasibleBudget:
    """The error that says what can be reached."""
    least, largest = bounds(constraint.table)
    return InfeasibleBudget(
        f"no network keeps {constraint.name} <= {constraint.limit:g}; from {least:g} to {largest:g} can be "
        "reached: "
        "raise the budget, or allow smaller resolutions",
        least,
        largest,
        constraint.name,
    )


def lagrangian_bounds(score: DenseTable, cost: DenseTable, limit: float) -> Array:
    """An upper bound of the best score within the limit at each resolution, (resolutions,); minus infinity:
    none fits.

    Lagrangian relaxation over a geometric grid of multipliers (Everett 1963): max of score - m x (cost -
    limit).
    """
    chain = score.chain
    scale = _spread(score) / max(_spread(cost), 1e-30)
    multipliers = np.concatenate([[0.0], scale * np.geomspace(1e-3, 1e3, _MULTIPLIERS)])
    if not np.isfinite(limit):
        limit, multipliers = 0.0, np.zeros(1)

    def relaxed(values: Array, prices: Array) -> Array:
        """(multipliers, *shape)"""
        allowed = (values > -np.inf) & (prices < np.inf)
        weight = multipliers.reshape(-1, *(1,) * values.ndim)
        safe: Array = np.where(allowed, values, 0.0) - weight * np.where(allowed, prices, 0.0)
        return np.where(allowed, safe, -np.inf)

    def stages() -> Iterator[tuple[Array, Array, Array | None]]:
        """One at a time: with all multipliers they are large."""
        switched = bool(score.switch or cost.switch)
        for number in reversed(range(len(chain.stages))):
            switch = relaxed(score.switches[number], cost.switches[number]) if switched else None
            depth = relaxed(score.depth[number], cost.depth[number])
            yield relaxed(score.blocks[number], cost.blocks[number]), depth, switch

    *_, first = rests(chain, stages(), np.max, (len(multipliers),))
    after = first[..., 0, 0].max(axis=(-3, -2, -1))
    bound: Array = (after + relaxed(score.constant, cost.constant) + multipliers[:, None] * limit).min(axis=0)
    size = np.maximum(1.0, np.abs(bound)) + multipliers[-1] * abs(limit)
    slack: Array = np.where(np.isfinite(bound), ROUNDING * size, 0.0)
    return bound + slack


def _spread(table: DenseTable) -> float:
    """A typical difference between choices, to scale multipliers by."""
    values = np.concatenate([b[np.isfinite(b)] for b in table.blocks])
    return float(np.std(values)) if len(values) else 0.0
