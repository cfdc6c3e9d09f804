"""Quality of networks that are less than the sub-networks they come from, in bits or in channels: the score
of the sub-network, less what every block loses.

What is lost is a sum over blocks in the unit that adds up, the predictor's score. The prior of each summand
is what it alone loses; whole networks say by how much that is to be scaled and where it is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from latency_tables.operators.operator import FLOAT
from supernets.accuracy.predictor import HeldOut
from supernets.accuracy.refinement import Ranking, Refinement, summary
from supernets.search.restriction import at_resolutions
from supernets.spaces.choices import Choice
from supernets.spaces.lowering import block_name, lifted
from supernets.spaces.space import Space, Stage
from supernets.tasks.metric import Metric

_RIDGES: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Tried: noise of a score over what a summand may be off its prior."""


class Reduction(Protocol):
    """One way in which blocks may be less. shift: what the predictor is off for all that were reduced so."""

    @property
    def shift(self) -> float: ...
    @property
    def held_out(self) -> HeldOut | None: ...
    def cost(self, block: str, stage: Stage, choice: Choice) -> float: ...
    def to_json(self) -> dict[str, Any]: ...


def reduced_score(predictor: Ranking, reductions: Sequence[Reduction], space: Space) -> DenseTable:
    """`predictor.dense()` for the same space with further choices of every block, less what those cost.
    Without the shifts, which no choice changes."""
    own = predictor.space
    found = lifted(at_resolutions(predictor.dense(), own, own.at(space.resolutions)), space)
    for index, block, costs in _costs(space, reductions):
        found.blocks[index][..., block, : len(costs)] -= costs
    return found


def _costs(space: Space, reductions: Sequence[Reduction]) -> Iterator[tuple[int, int, Array]]:
    """(stage, block, what each of its choices costs in all reductions, (choices,)) of every block."""
    for index, stage in enumerate(space.stages):
        for block, options in enumerate(stage.choices):
            name = block_name(space, index, block)
            yield (
                index,
                block,
                np.array(
                    [0.0 if c.zero else sum(one.cost(name, stage, c) for one in reductions) for c in options]
                ),
            )


@dataclass(frozen=True, eq=False)
class ReducedRanking:
    """What ranks networks of a space with such choices. reductions: by name, as cards tell them."""

    predictor: Ranking
    reductions: Mapping[str, Reduction]
    space: Space

    @property
    def metric(self) -> Metric:
        """What its qualities are of."""
        return self.predictor.metric

    def scores(self, genes: Genes) -> Array:
        """In the unit of the additive score, genes (networks, genes) of `space`, shape (networks,)."""
        lost, active = np.zeros(len(genes)), self.space.chain.active(genes)
        for column, costs in self._columns:
            lost += np.where(active[:, column], costs[genes[:, column]], 0.0)
        shift = sum(reduction.shift for reduction in self.reductions.values())
        return np.asarray(self.predictor.scores(self._whole(genes)) + shift - lost)

    def predict(self, genes: Genes) -> Array:
        """Expected quality of each network, genes (networks, genes) of `space`, shape (networks,)."""
        return self.predictor.quality_of(self.scores(genes))

    @cached_property
    def _columns(self) -> list[tuple[int, Array]]:
        """(gene of a block, what each of its choices costs)."""
        offsets = self.space.chain.offsets
        return [
            (offsets[stage] + 2 + block, costs)
            for stage, block, costs in _costs(self.space, [*self.reductions.values()])
        ]

    def _whole(self, genes: Genes) -> Genes:
        """The networks in float32 with all of their channels, as genes of the predictor's space."""
        found, own = np.array(genes), self.predictor.space
        for column, numbers in self._numbers:
            found[:, column] = numbers[genes[:, column]]
        return own.chain.canonical(found)

    @cached_property
    def _numbers(self) -> list[tuple[int, Genes]]:
        """(a gene, what each of its values is in the predictor's space)."""
        own, space = self.predictor.space, self.space
        found = [(0, np.array([own.resolutions.index(r) for r in space.resolutions]))]
        for offset, stage, plain in zip(space.chain.offsets, space.stages, own.stages, strict=True):
            for block, (options, those) in enumerate(zip(stage.choices, plain.choices, strict=True)):
                known = {choice: number for number, choice in enumerate(those)}
                numbers = np.array([known[choice.whole.at(FLOAT)] for choice in options])
                found.append((offset + 2 + block, numbers))
        return found

    def summary(self) -> dict[str, Any]:
        """As `supernets.accuracy.refinement.summary`; held out is the reduction that is predicted worst."""
        known = [one.held_out for one in self.reductions.values() if one.held_out is not None]
        held_out = max(known, key=lambda one: one.rmse, default=None)
        refined = [self.predictor.name] if isinstance(self.predictor, Refinement) else []
        return {
            **summary(self.predictor),
            "name": " and ".join([*refined, *self.reductions]),
            "rmse": None if held_out is None else held_out.rmse,
            "kendall_tau": None if held_out is None else held_out.kendall_tau,
            "held_out_networks": None if held_out is None else held_out.networks,
        }


@dataclass(frozen=True, eq=False)
class AdditiveCosts:
    """costs: (summands,), none negative. shift: of all networks. held_out: of qualities, by
    cross-validation."""

    costs: Array
    shift: float
    held_out: HeldOut | None

    @classmethod
    def fit(
        cls,
        predictor: Ranking,
        base: Array,
        taken: Array,
        targets: Array,
        prior: Array,
        qualities: Array,
        folds: int,
        seed: int,
    ) -> AdditiveCosts:
        """base: scores of the sub-networks, (networks,). taken: (networks, summands) of 0 and 1. targets:
        scores of what was made of them, less the base. prior: (summands,)."""
        ridge = _best_ridge(taken, targets, prior, seed)
        costs, shift = _solved(taken, targets, prior, ridge)
        if not folds:
            return cls(costs, shift, None)
        fold = _folds(len(targets), folds, seed)
        predicted = base + _predicted(taken, targets, prior, ridge, fold)
        held_out = HeldOut.of(predictor.quality_of(predicted), qualities, int(fold.max()) + 1)
        return cls(costs, shift, held_out)


def _solved(taken: Array, targets: Array, prior: Array, ridge: float) -> tuple[Array, float]:
    """(cost of each block, shift): targets are shift - taken @ costs, where costs are the prior times one
    factor, and off it by what the ridge allows."""
    unit = prior / max(float(np.mean(prior)), 1e-12)
    lost = taken @ unit
    likely = np.maximum(unit, 1.0)
    # Factor and shift are free, the deviations are held near 0: a block that seemed to lose nothing alone may
    # lose what others do, beside them.
    features = np.column_stack([np.ones(len(taken)), -lost, -taken * likely])
    penalty = np.diag([1e-6, 1e-3, *[ridge] * taken.shape[1]])
    found = np.linalg.solve(features.T @ features + penalty, features.T @ targets)
    costs = np.maximum(0.0, found[1] * unit + found[2:] * likely)
    return costs, float(found[0])


def _predicted(taken: Array, targets: Array, prior: Array, ridge: float, fold: Genes) -> Array:
    predicted = np.empty(len(targets))
    for number in np.unique(fold):
        kept = fold == number
        costs, shift = _solved(taken[~kept], targets[~kept], prior, ridge)
        predicted[kept] = shift - taken[kept] @ costs
    return predicted


def _folds(networks: int, folds: int, seed: int) -> Genes:
    return np.random.default_rng(seed).permutation(networks) % min(folds, networks)


def _best_ridge(taken: Array, targets: Array, prior: Array, seed: int) -> float:
    fold = _folds(len(targets), 5, seed + 1)
    errors = [float(np.square(_predicted(taken, targets, prior, r, fold) - targets).sum()) for r in _RIDGES]
    return _RIDGES[int(np.argmin(errors))]
