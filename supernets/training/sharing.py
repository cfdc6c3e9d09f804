"""How the processes of one training tell each other what they learnt, as data: `distributed` of a training.

No torch here, the service reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from supernets.errors import InvalidTraining

SYNCS: Final = ("every", "delayed")
LONGEST_DELAY: Final = 1000  # steps


@dataclass(frozen=True)
class Sharing:
    """sync: `every` step waits for the gradients of all processes; `delayed`: a process goes on with its own
    steps, and what the others did comes in `delay` steps later (Zhu et al., "Delayed Gradient Averaging",
    NeurIPS 2021). top: only that share of the gradients is sent, the largest; the others add up until they
    are among them (Lin et al., "Deep Gradient Compression", ICLR 2018). Raises InvalidTraining.
    """

    sync: str = "every"
    delay: int = 8
    top: float | None = None

    def __post_init__(self) -> None:
        if self.sync not in SYNCS:
            raise InvalidTraining(f"distributed: sync is one of {', '.join(SYNCS)}")
        if not 1 <= self.delay <= LONGEST_DELAY:
            raise InvalidTraining(f"distributed: delay is a number of steps from 1 to {LONGEST_DELAY}")
        if self.top is not None and not 0 < self.top <= 0.5:
            raise InvalidTraining("distributed: top is a share of the gradients, above 0 and at most 0.5")
        if self.top is not None and self.sync != "every":
            raise InvalidTraining(
                "distributed: top goes with sync every, which it makes cheap; leave one out"
            )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sharing:
        """Raises InvalidTraining."""
        try:
            return cls(**data)
        except TypeError as error:
            raise InvalidTraining(f"not settings of a distributed training: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """What weights depend on: without what the other settings make meaningless."""
        used = {"every": ("sync", "top"), "delayed": ("sync", "delay")}[self.sync]
        return {name: value for name, value in asdict(self).items() if name in used and value is not None}


def check_recipe(sharing: Sharing, name: str, optimiser: str) -> None:
    """Raises InvalidTraining where a recipe with that optimiser cannot be shared so."""
    if sharing.top is not None and optimiser != "sgd":
        raise InvalidTraining(
            f"distributed: top corrects the momentum of SGD, and recipe {name!r} has {optimiser}; take the "
            "recipe sgd"
        )
