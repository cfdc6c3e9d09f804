"""What trained weights depend on, whoever trains them: a supernet, one network of it, its controls.

Equal specifications give equal weights; a checkpoint of another specification is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from supernets.spaces.catalog import space_named
from supernets.training.catalog import recipe_named
from supernets.training.recipe import Recipe
from supernets.training.sharing import Sharing

LITE: Final = "lite"
PARTS_TRAINED: Final = ("all", "bias", "last", LITE)
"""What of a network is fine-tuned: all; biases and the last layer; the last layer; lite residuals that are
put beside its blocks, with biases and the last layer."""


@dataclass(frozen=True)
class TrainingSpec:
    """A training. space: by name; its classes are those of the data set.

    recipe: by name, or written out as `Recipe.to_json` has it. fingerprint: of the data set, which is
    refused where it has changed. start: SHA-256 of the weights to begin with, None for random ones. only:
    JSON of the one architecture that is trained, None for the whole supernet. memory_mb: most that the
    process may take, for what keeps it (statistics of smaller batches) changes weights. train: what of the
    network. distributed: how several processes share it, see `supernets.training.sharing`.
    """

    space: str
    dataset: str
    recipe: str | dict[str, Any] = "quick"
    seed: int = 0
    fingerprint: str | None = None
    start: str | None = None
    only: dict[str, Any] | None = None
    memory_mb: int | None = None
    train: str = "all"
    distributed: dict[str, Any] | None = None

    def load_recipe(self) -> Recipe:
        """The recipe itself. Raises UnknownRecipe, UnknownSpace, InvalidTraining."""
        if isinstance(self.recipe, str):
            return recipe_named(self.recipe, space_named(self.space))
        return Recipe.from_json(self.recipe)

    @property
    def digest(self) -> str:
        """SHA-256 of all of it but what follows a training. Raises UnknownRecipe, InvalidTraining."""
        inputs: list[Any] = [self.space, self.dataset, self.load_recipe().of_weights(), self.seed]
        # What is not given leaves no trace: trainings of before it could be given keep their checkpoints.
        inputs += [self.fingerprint] if self.fingerprint is not None else []
        inputs += [{"start": self.start}] if self.start is not None else []
        inputs += [{"only": self.only}] if self.only is not None else []
        inputs += [{"memory_mb": self.memory_mb}] if self.memory_mb is not None else []
        shared = {} if self.distributed is None else Sharing.from_json(self.distributed).to_json()
        inputs += [{"distributed": shared}] if shared not in ({}, Sharing().to_json()) else []
        inputs += [{"train": self.train}] if self.train != "all" else []
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
