"""The control of a transfer: one network from random weights, with as many steps as the transferred one had.

Whether given weights help is a question about the data at hand: unrelated ones gain little with a hundred
pictures a class, and may cost points (He et al., "Rethinking ImageNet pre-training", ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.batching import batching_of
from supernets.training.loop import Progress, Trainer
from supernets.training.recipe import Phase, Recipe
from supernets.training.spec import TrainingSpec
from supernets.training.tuning import alone

SCRATCH_RATE: Final = 1e-2
"""Random weights want a higher rate than trained ones: over three times that of the recipe `transfer`."""
SCRATCH_RATE_OF_SENTENCES: Final = 1.5e-3
"""Of transformers, which do not learn at the rate of pictures."""


def control_recipe(recipe: Recipe, steps: int, steps_per_epoch: int) -> Recipe:
    """One network from random weights, labels only, for that many steps, rounded up to whole epochs."""
    epochs = -(-steps // max(1, steps_per_epoch))
    sentences = bool(recipe.batch_tokens)
    rate = max(SCRATCH_RATE_OF_SENTENCES if sentences else SCRATCH_RATE, recipe.highest_rate)
    warmup = recipe.phases[0].warmup_epochs if sentences else 2
    phase = Phase("from scratch", epochs, rate, warmup_epochs=min(warmup, epochs))
    return replace(recipe, name=f"{recipe.name}, from scratch", phases=(phase,), least_steps=0)


def from_scratch(
    space: Space,
    architecture: Architecture,
    dataset: Data,
    recipe: Recipe,
    steps: int,
    seed: int,
    folder: Path,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
) -> tuple[Supernet, int]:
    """(the network trained alone from random weights, steps taken: at least those asked for).

    dataset: normalised by its own moments, for no weights expect others. Resumes in `folder`.
    Raises InvalidCheckpoint (another training), TrainingDiverged.
    """
    own = alone(space, architecture)
    samples = task_of(dataset).batches(dataset, "train", torch.device("cpu"))
    whole = control_recipe(recipe, steps, batching_of(samples, recipe, seed).steps_per_epoch)
    only = space.to_json(architecture)
    spec = TrainingSpec(space.name, dataset.name, whole.to_json(), seed, only=only)
    trainer = Trainer(own, dataset, whole, seed, device=device, inputs_digest=spec.digest)
    trainer.run(folder, report)
    return trainer.supernet.eval(), trainer.position.step
