"""What can be reached at all, and how good it can be at most: asked before anything is searched."""

from __future__ import annotations

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from supernets.errors import InfeasibleBudget
from supernets.search.problem import Constraint

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
    after: Array = np.zeros((chain.resolutions, chain.stages[-1].states))
    ways: list[tuple[Array, Array]] = []  # per stage: by (resolution, in, out, depth), by (.., block, choice)
    for shape, blocks, depth in reversed(list(zip(chain.stages, cost.blocks, cost.depth, strict=True))):
        values = signed(blocks)
        for block, choices in enumerate(shape.choices):
            values[..., block, choices:] = np.inf
        sums = np.cumsum(values.min(axis=-1), axis=-1)
        sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)
        ends = sums[..., list(shape.depths)] + signed(depth)[:, None, None, :] + after[:, None, :, None]
        ways.append((ends, values))
        after = ends.min(axis=(2, 3))
    row = np.zeros(chain.genes, dtype=np.int64)
    row[0] = np.argmin(after[:, 0] + signed(cost.constant))
    read = 0
    for column, shape, (ends, values) in zip(chain.offsets, chain.stages, reversed(ways), strict=True):
        here = ends[row[0], read]
        state, deep = np.unravel_index(int(np.argmin(here)), here.shape)
        chosen = values[row[0], read, state, : shape.depths[deep]].argmin(axis=-1)
        row[column], row[column + 1], row[column + 2 : column + 2 + len(chosen)] = state, deep, chosen
        read = int(state)
    return row


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

    after: Array = np.zeros((len(multipliers), chain.resolutions, chain.stages[-1].states))
    stages = list(zip(chain.stages, score.blocks, cost.blocks, score.depth, cost.depth, strict=True))
    for shape, values, prices, depth_values, depth_prices in reversed(stages):
        best = relaxed(values, prices)
        for block, choices in enumerate(shape.choices):
            best[..., block, choices:] = -np.inf
        sums = np.cumsum(best.max(axis=-1), axis=-1)
        sums = np.concatenate([np.zeros_like(sums[..., :1]), sums], axis=-1)[..., list(shape.depths)]
        deep = relaxed(depth_values, depth_prices)[:, :, None, None, :]
        after = ((sums + deep).max(axis=-1) + after[:, :, None, :]).max(axis=-1)
    bound: Array = (
        after[..., 0] + relaxed(score.constant, cost.constant) + multipliers[:, None] * limit
    ).min(axis=0)
    size = np.maximum(1.0, np.abs(bound)) + multipliers[-1] * abs(limit)
    slack: Array = np.where(np.isfinite(bound), ROUNDING * size, 0.0)
    return bound + slack


def _spread(table: DenseTable) -> float:
    """A typical difference between choices, to scale multipliers by."""
    values = np.concatenate([b[np.isfinite(b)] for b in table.blocks])
    return float(np.std(values)) if len(values) else 0.0
