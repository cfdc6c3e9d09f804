"""Quality of sub-networks with blocks in int8, without evaluating each: what every block loses alone,
corrected by a few whole networks that were rounded and scored.

HAQ (Wang et al., CVPR 2019) learns what each network loses by reinforcement; APQ (Wang et al., CVPR 2020)
transfers a predictor of float32 networks to rounded ones, but encodes every precision alike. Here the float32
predictor stays, and what int8 costs is a sum over blocks in the unit that adds up, its score: the prior of a
block is what it alone loses, and whole networks say by how much that is to be scaled and where it is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from latency_tables.errors import TooFewNetworks
from latency_tables.operators.operator import FLOAT
from supernets.accuracy.predictor import HeldOut, QualityPredictor, to_score
from supernets.errors import InvalidPredictor
from supernets.search.restriction import at_resolutions
from supernets.spaces.lowering import block_name, lifted
from supernets.spaces.space import Space
from supernets.tasks.metric import Metric

MINIMUM_ROUNDED: Final = 10
MOST_ROUNDED: Final = 60
_RIDGES: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Tried: noise of a score over what a block may be off its prior."""


@dataclass(frozen=True, eq=False)
class RoundedScores:
    """Sub-networks that were rounded and scored. genes (networks, genes); int8 (networks, blocks): whether
    each block was; qualities (networks,)."""

    genes: Genes
    int8: Array
    qualities: Array

    def __post_init__(self) -> None:
        if not len(self.genes) == len(self.int8) == len(self.qualities):
            raise InvalidPredictor("rounded scores need genes, precisions and qualities of the same networks")
        if not np.isfinite(self.qualities).all():
            raise InvalidPredictor("a rounded network has a quality that is no number")


@dataclass(frozen=True, eq=False)
class PrecisionPredictor:
    """What int8 costs each block, in the score of the float32 predictor; additive, so that the exact search
    takes it as a cost of the precision that is chosen.

    blocks: their names. costs: (blocks,), positive where int8 loses. shift: of all rounded networks, what the
    float32 predictor is off on this sample. held_out: of qualities of rounded networks, by cross-validation.
    """

    predictor: QualityPredictor
    blocks: tuple[str, ...]
    costs: Array
    shift: float
    held_out: HeldOut | None = None

    @classmethod
    def fit(
        cls,
        predictor: QualityPredictor,
        sensitivity: Mapping[str, float],
        scores: RoundedScores,
        *,
        folds: int = 5,
        seed: int = 0,
    ) -> PrecisionPredictor:
        """sensitivity: what the loss of a network grows by where that block alone is in int8, in the order of
        the columns of `scores.int8`. Raises TooFewNetworks below 10 networks."""
        if len(scores.qualities) < MINIMUM_ROUNDED:
            raise TooFewNetworks(
                f"{len(scores.qualities)} rounded networks were scored; what int8 costs is learnt from "
                f"{MINIMUM_ROUNDED} or more",
                MINIMUM_ROUNDED - len(scores.qualities),
            )
        names = tuple(sensitivity)
        if scores.int8.shape[1:] != (len(names),):
            raise InvalidPredictor("the sensitivity and the rounded scores are not of the same blocks")
        prior = np.array([max(0.0, sensitivity[name]) for name in names])
        base = predictor.belief_of(scores.genes)
        targets = to_score(scores.qualities, predictor.ceiling) - base
        ridge = _best_ridge(scores.int8, targets, prior, seed)
        costs, shift = _solved(scores.int8, targets, prior, ridge)
        held_out = _held_out(predictor, scores, base, targets, prior, ridge, folds, seed) if folds else None
        return cls(predictor, names, costs, shift, held_out)

    def scores(self, genes: Genes, int8: Array) -> Array:
        """In the unit of `predictor.dense()`, shape (networks,)."""
        return np.asarray(self.predictor.belief_of(genes) + self.shift - int8 @ self.costs)

    def dense(self, space: Space) -> DenseTable:
        """`predictor.dense()` for the same space with the precision of every block to choose, less what int8
        costs there. Without the shift, which no choice changes."""
        own = self.predictor.space
        kept = at_resolutions(self.predictor.dense(), own, own.at(space.resolutions))
        found = lifted(kept, space)
        costs = dict(zip(self.blocks, self.costs.tolist(), strict=True))
        for index, (stage, values) in enumerate(zip(space.stages, found.blocks, strict=True)):
            for block, options in enumerate(stage.choices):
                for c, choice in enumerate(options):
                    if choice.precision != FLOAT:
                        values[..., block, c] -= costs.get(block_name(space, index, block), 0.0)
        return found

    def predict(self, genes: Genes, int8: Array) -> Array:
        """Expected quality of each rounded network, shape (networks,)."""
        return self.predictor.quality_of(self.scores(genes, int8))

    def to_json(self) -> dict[str, Any]:
        """Plain values but for the float32 predictor; `from_json` reads them back."""
        return {
            "costs": dict(zip(self.blocks, self.costs.tolist(), strict=True)),
            "shift": self.shift,
            "held_out": None if self.held_out is None else asdict(self.held_out),
        }

    @classmethod
    def from_json(cls, predictor: QualityPredictor, data: Mapping[str, Any]) -> PrecisionPredictor:
        """predictor: the one that `data` was learnt with."""
        held_out = None if data["held_out"] is None else HeldOut(**data["held_out"])
        costs = np.array(list(data["costs"].values()), dtype=np.float64)
        return cls(predictor, tuple(data["costs"]), costs, float(data["shift"]), held_out)


@dataclass(frozen=True, eq=False)
class RoundedRanking:
    """What ranks networks of a space with the precision of every block to choose."""

    found: PrecisionPredictor
    space: Space

    @property
    def metric(self) -> Metric:
        """What its qualities are of."""
        return self.found.predictor.metric

    def predict(self, genes: Genes) -> Array:
        """Expected quality of each network, genes (networks, genes) of `space`, shape (networks,)."""
        architectures = [self.space.architecture(row) for row in genes]
        plain = [self.found.predictor.space.genes(self.space.in_float(one)) for one in architectures]
        int8 = np.zeros((len(architectures), len(self.found.blocks)))
        for row, one in zip(int8, architectures, strict=True):
            rounded = {
                block_name(self.space, stage, block)
                for stage, chosen in enumerate(one.stages)
                for block, choice in enumerate(chosen.blocks)
                if choice.precision != FLOAT
            }
            row[:] = [name in rounded for name in self.found.blocks]
        return self.found.predict(np.stack(plain), int8)

    def summary(self) -> dict[str, Any]:
        """As `supernets.accuracy.refinement.summary`."""
        held_out = self.found.held_out
        return {
            "name": "rounded",
            "networks": len(self.found.predictor.genes),
            "rmse": None if held_out is None else held_out.rmse,
            "kendall_tau": None if held_out is None else held_out.kendall_tau,
            "held_out_networks": None if held_out is None else held_out.networks,
            "metric": self.metric.to_json(),
        }


def _solved(int8: Array, targets: Array, prior: Array, ridge: float) -> tuple[Array, float]:
    """(cost of each block, shift): targets are shift - int8 @ costs, where costs are the prior times one
    factor, and off it by what the ridge allows."""
    unit = prior / max(float(np.mean(prior)), 1e-12)
    lost = int8 @ unit
    likely = np.maximum(unit, 1.0)
    # Factor and shift are free, the deviations are held near 0: a block that seemed to lose nothing alone may
    # lose what others do, beside them.
    features = np.column_stack([np.ones(len(int8)), -lost, -int8 * likely])
    penalty = np.diag([1e-6, 1e-3, *[ridge] * int8.shape[1]])
    found = np.linalg.solve(features.T @ features + penalty, features.T @ targets)
    costs = np.maximum(0.0, found[1] * unit + found[2:] * likely)
    return costs, float(found[0])


def _predicted(int8: Array, targets: Array, prior: Array, ridge: float, fold: Genes) -> Array:
    predicted = np.empty(len(targets))
    for number in np.unique(fold):
        kept = fold == number
        costs, shift = _solved(int8[~kept], targets[~kept], prior, ridge)
        predicted[kept] = shift - int8[kept] @ costs
    return predicted


def _folds(networks: int, folds: int, seed: int) -> Genes:
    return np.random.default_rng(seed).permutation(networks) % min(folds, networks)


def _best_ridge(int8: Array, targets: Array, prior: Array, seed: int) -> float:
    fold = _folds(len(targets), 5, seed + 1)
    errors = [float(np.square(_predicted(int8, targets, prior, r, fold) - targets).sum()) for r in _RIDGES]
    return _RIDGES[int(np.argmin(errors))]


def _held_out(
    predictor: QualityPredictor,
    scores: RoundedScores,
    base: Array,
    targets: Array,
    prior: Array,
    ridge: float,
    folds: int,
    seed: int,
) -> HeldOut:
    fold = _folds(len(targets), folds, seed)
    predicted = base + _predicted(scores.int8, targets, prior, ridge, fold)
    return HeldOut.of(predictor.quality_of(predicted), scores.qualities, int(fold.max()) + 1)
