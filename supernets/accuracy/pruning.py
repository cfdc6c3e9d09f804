"""Quality of pruned networks, without evaluating each: what every block loses alone by each number of
channels, corrected by a few whole networks that were pruned and scored (`supernets.accuracy.reduced`).

AMC (He et al., ECCV 2018) evaluates every network that its agent proposes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from latency_tables.dense import Array
from latency_tables.errors import TooFewNetworks
from supernets.accuracy.predictor import HeldOut, to_score
from supernets.accuracy.reduced import AdditiveCosts
from supernets.accuracy.refinement import Ranking
from supernets.errors import InvalidPredictor
from supernets.spaces.architecture import Architecture
from supernets.spaces.choices import KEPT, Choice
from supernets.spaces.lowering import block_name
from supernets.spaces.space import Space, Stage

MINIMUM_PRUNED: Final = 10
MOST_PRUNED: Final = 60
REFIT_SAMPLES: Final = 500
"""Of the training split, at most, that a pruned network is refitted with."""


def cell_name(block: str, stage: Stage, choice: Choice) -> str:
    """A block with a share of its channels, whatever else is chosen in it: kernels cut out nothing."""
    widths = [d.name for d in stage.operators.dimensions if d.opens == "expand"]
    return f"{block} {' '.join(f'{name}={choice[name]}' for name in widths)} kept={choice.kept}"


def cells_of(space: Space, architecture: Architecture) -> list[str]:
    """Those of a network: one for each block that channels are cut out of."""
    return [
        cell_name(block_name(space, index, block), stage, choice)
        for index, (stage, chosen) in enumerate(zip(space.stages, architecture.stages, strict=True))
        for block, choice in enumerate(chosen.blocks)
        if KEPT in choice
    ]


def all_cells(space: Space) -> list[str]:
    """Of all networks of a space with pruning."""
    found = [
        cell_name(block_name(space, index, block), stage, choice)
        for index, stage in enumerate(space.stages)
        for block, options in enumerate(stage.choices)
        for choice in options
        if KEPT in choice
    ]
    return list(dict.fromkeys(found))


@dataclass(frozen=True, eq=False)
class PruningPredictor:
    """What pruning costs each block, in the score of what ranks whole networks; additive, so that the
    exact search takes it as a cost of the width that is chosen.

    cells: blocks with a share of their channels (`cell_name`). costs: (cells,), none negative. shift: of all
    pruned networks. held_out: of qualities of pruned networks, by cross-validation.
    """

    predictor: Ranking
    cells: tuple[str, ...]
    costs: Array
    shift: float
    held_out: HeldOut | None = None

    @classmethod
    def fit(
        cls,
        predictor: Ranking,
        alone: Mapping[str, float],
        networks: Sequence[Architecture],
        qualities: Sequence[float] | Array,
        *,
        folds: int = 5,
        seed: int = 0,
    ) -> PruningPredictor:
        """alone: what the loss of a network grows by where that cell is all that is pruned. networks: pruned
        ones, with what each came to. Raises TooFewNetworks below 10 networks, InvalidPredictor for qualities
        that are no numbers and networks with cells that are not among `alone`."""
        if len(networks) < MINIMUM_PRUNED:
            raise TooFewNetworks(
                f"{len(networks)} pruned networks were scored; what pruning costs is learnt from "
                f"{MINIMUM_PRUNED} or more",
                MINIMUM_PRUNED - len(networks),
            )
        values, space = np.asarray(qualities, dtype=np.float64), predictor.space
        taken = np.zeros((len(networks), len(alone)))
        numbers = {cell: number for number, cell in enumerate(alone)}
        for row, network in zip(taken, networks, strict=True):
            own = cells_of(space, network)
            if not set(own) <= numbers.keys():
                raise InvalidPredictor(
                    "a pruned network has widths of which nobody knows what they lose alone"
                )
            row[[numbers[cell] for cell in own]] = 1.0
        if len(values) != len(networks) or not np.isfinite(values).all():
            raise InvalidPredictor("a pruned network has a quality that is no number")
        base = predictor.scores(np.stack([space.genes(space.unpruned(one)) for one in networks]))
        prior = np.array([max(0.0, lost) for lost in alone.values()])
        targets = to_score(values, predictor.ceiling) - base
        found = AdditiveCosts.fit(predictor, base, taken, targets, prior, values, folds, seed)
        return cls(predictor, tuple(alone), found.costs, found.shift, found.held_out)

    def cost(self, block: str, stage: Stage, choice: Choice) -> float:
        """What a choice of a block costs, in that score."""
        return self.known[cell_name(block, stage, choice)] if KEPT in choice else 0.0

    @cached_property
    def known(self) -> dict[str, float]:
        """The costs by name."""
        return dict(zip(self.cells, self.costs.tolist(), strict=True))

    def to_json(self) -> dict[str, Any]:
        """Plain values but for the ranking of whole networks; `from_json` reads them back."""
        return {
            "costs": self.known,
            "shift": self.shift,
            "held_out": None if self.held_out is None else asdict(self.held_out),
        }

    @classmethod
    def from_json(cls, predictor: Ranking, data: Mapping[str, Any]) -> PruningPredictor:
        """predictor: the one that `data` was learnt with."""
        held_out = None if data["held_out"] is None else HeldOut(**data["held_out"])
        costs = np.array(list(data["costs"].values()), dtype=np.float64)
        return cls(predictor, tuple(data["costs"]), costs, float(data["shift"]), held_out)
