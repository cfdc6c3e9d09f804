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
from functools import cached_property
from typing import Any, Final

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from latency_tables.errors import TooFewNetworks
from latency_tables.operators.operator import FLOAT
from supernets.accuracy.predictor import HeldOut, to_score
from supernets.accuracy.reduced import AdditiveCosts, reduced_score
from supernets.accuracy.refinement import Ranking
from supernets.errors import InvalidPredictor
from supernets.spaces.choices import Choice
from supernets.spaces.space import Space, Stage

MINIMUM_ROUNDED: Final = 10
MOST_ROUNDED: Final = 60


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
    """What int8 costs each block, in the score of what ranks networks in float32; additive, so that the exact
    search takes it as a cost of the precision that is chosen.

    blocks: their names. costs: (blocks,), positive where int8 loses. shift: of all rounded networks, what the
    float32 ranking is off on this sample. held_out: of qualities of rounded networks, by cross-validation.
    """

    predictor: Ranking
    blocks: tuple[str, ...]
    costs: Array
    shift: float
    held_out: HeldOut | None = None

    @classmethod
    def fit(
        cls,
        predictor: Ranking,
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
        base = predictor.scores(scores.genes)
        targets = to_score(scores.qualities, predictor.ceiling) - base
        found = AdditiveCosts.fit(predictor, base, scores.int8, targets, prior, scores.qualities, folds, seed)
        return cls(predictor, names, found.costs, found.shift, found.held_out)

    def scores(self, genes: Genes, int8: Array) -> Array:
        """In the unit of `predictor.dense()`, shape (networks,)."""
        return np.asarray(self.predictor.scores(genes) + self.shift - int8 @ self.costs)

    def dense(self, space: Space) -> DenseTable:
        """`predictor.dense()` for the same space with the precision of every block to choose, less what int8
        costs there. Without the shift, which no choice changes."""
        return reduced_score(self.predictor, [self], space)

    def cost(self, block: str, stage: Stage, choice: Choice) -> float:
        """What a choice of a block costs, in that score."""
        return 0.0 if choice.precision == FLOAT else self.known.get(block, 0.0)

    @cached_property
    def known(self) -> dict[str, float]:
        """The costs by name."""
        return dict(zip(self.blocks, self.costs.tolist(), strict=True))

    def predict(self, genes: Genes, int8: Array) -> Array:
        """Expected quality of each rounded network, shape (networks,)."""
        return self.predictor.quality_of(self.scores(genes, int8))

    def to_json(self) -> dict[str, Any]:
        """Plain values but for the float32 ranking; `from_json` reads them back."""
        return {
            "costs": dict(zip(self.blocks, self.costs.tolist(), strict=True)),
            "shift": self.shift,
            "held_out": None if self.held_out is None else asdict(self.held_out),
        }

    @classmethod
    def from_json(cls, predictor: Ranking, data: Mapping[str, Any]) -> PrecisionPredictor:
        """predictor: the one that `data` was learnt with."""
        held_out = None if data["held_out"] is None else HeldOut(**data["held_out"])
        costs = np.array(list(data["costs"].values()), dtype=np.float64)
        return cls(predictor, tuple(data["costs"]), costs, float(data["shift"]), held_out)
