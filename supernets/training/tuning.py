"""One network of a supernet, trained on from the weights it has there.

Once-for-All (Cai et al., ICLR 2020) offers it for whom the sub-network as it is cut out is not accurate
enough: a few epochs of one network, instead of all epochs of training it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from supernets.errors import InvalidTraining
from supernets.network import Supernet
from supernets.networks import build_supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space
from supernets.tasks.data import Data
from supernets.training.loop import Progress, Trainer
from supernets.training.memory import activations_within, resident_bytes, return_freed_memory
from supernets.training.method import MARGIN, MemoryUse
from supernets.training.recipe import Recipe, tune_recipe
from supernets.training.spec import LITE, TrainingSpec
from supernets.training.standing import settle, with_statistics


def alone(space: Space, architecture: Architecture) -> Space:
    """The space that holds this one network only."""
    stages = tuple(
        replace(stage.only(chosen.state), depths=(chosen.depth,), choices=tuple((c,) for c in chosen.blocks))
        for stage, chosen in zip(space.stages, architecture.stages, strict=True)
    )
    return replace(space, resolutions=(architecture.resolution,), stages=stages)


@torch.no_grad()
def specialised(
    supernet: Supernet,
    architecture: Architecture,
    *,
    lite: bool = False,
    generator: torch.Generator | None = None,
) -> Supernet:
    """The supernet of `alone(space, architecture)` with the weights that this network has in the given one.
    lite: with lite residuals beside its blocks, their weights by the generator, that add nothing yet."""
    form = replace(supernet.form, lite=lite)
    own = build_supernet(alone(supernet.space, architecture), form=form, generator=generator)
    own.take_from(supernet, architecture)
    return own


def tuned(
    supernet: Supernet,
    architecture: Architecture,
    dataset: Data,
    recipe: Recipe,
    epochs: int,
    seed: int,
    folder: Path,
    device: str = "cpu",
    report: Callable[[Progress], None] = lambda progress: None,
    *,
    memory_mb: int | None = None,
    train: str = "all",
) -> tuple[Supernet, float, MemoryUse]:
    """(the network after `epochs` of training on, as a supernet of itself alone; seconds; memory).

    memory_mb: most that this process may take; train: what of the network (`spec.PARTS_TRAINED`).

    Goes on where an earlier run in `folder` stopped, from the same weights. Its batch-norm statistics have to
    be recalibrated, as those of any sub-network. Raises InvalidTraining, InvalidCheckpoint (other weights,
    another training), TrainingDiverged, MemoryLimitTooLow.
    """
    if epochs < 1:
        raise InvalidTraining("fine-tuning takes at least one epoch")
    lite = train == LITE
    start = specialised(
        supernet, architecture, lite=lite, generator=torch.Generator().manual_seed(seed) if lite else None
    )
    short = tune_recipe(recipe, epochs)
    limited = memory_mb is not None or train != "all"
    if limited:
        return_freed_memory()
        with _within(memory_mb):
            with_statistics(start, dataset)  # they may have to stand
    spec = TrainingSpec(
        supernet.space.name,
        dataset.name,
        short.to_json(),
        seed,
        start=_weights_digest(start),
        only=supernet.space.to_json(architecture),
        memory_mb=memory_mb,
        train=train,
    )
    weights = start.state_dict()
    trainer = Trainer(
        start.space,
        dataset,
        short,
        seed,
        device=device,
        inputs_digest=spec.digest,
        start=weights,
        own_start=True,
        form=start.form,
        memory_mb=memory_mb,
        train=train,
    )
    trainer.run(folder, report)
    own = trainer.supernet.eval().requires_grad_(True)
    if trainer.method.frozen:
        with _within(memory_mb):
            settle(own, dataset)
    return own, trainer.seconds, trainer.memory


def _within(memory_mb: int | None) -> AbstractContextManager[None]:
    """What may be held at once while no step is taken."""
    if memory_mb is None:
        return nullcontext()
    return activations_within(int((memory_mb * 2**20 * (1 - MARGIN) - resident_bytes()) / 2))


def _weights_digest(network: Supernet) -> str:
    """SHA-256 of all parameters, in order."""
    found = hashlib.sha256()
    for parameter in network.parameters():
        found.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
