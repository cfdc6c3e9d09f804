"""How deep must a network be for a data set? Depth grows while validation rises.

Source: AutoGrow (Wen et al., KDD 2020): a network begins as shallow as its space allows; every few epochs one
stage gets one more block with random weights, at a constant learning rate, and a stage whose block did not
help grows no more. Differs: what grows is the largest network of a search space, so the answer is a depth for
each of its stages; a block that did not help is left out again; and what the answer loses is measured, by
training the grown and the deepest network from the beginning with equal steps, or asked of the predictor of a
supernet of the whole space.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from supernets.accuracy.predictor import QualityPredictor
from supernets.errors import InvalidTraining
from supernets.experiments.controls import alone_recipe, train_quietly
from supernets.network import Supernet
from supernets.search.exact.strategy import front
from supernets.search.problem import Problem
from supernets.search.restriction import excluded, restricted
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_from, lower
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_named
from supernets.tasks.data import Data
from supernets.tasks.metric import Metric
from supernets.training.evaluation import Evaluator
from supernets.training.loop import Trainer
from supernets.training.recipe import Recipe
from supernets.training.tuning import alone

PERIOD_EPOCHS: Final = 3
RATE: Final = 0.5  # of the recipe's highest: it stays as it is, where a recipe's falls
LEAST_GAIN: Final = 5e-4  # of quality, as the paper has it
Depths = tuple[int, ...]


@dataclass(frozen=True)
class Period:
    """One period of growth. stage: that got a block, None in the first. quality: on validation, after it."""

    stage: str | None
    depths: Depths
    quality: float
    kept: bool


@dataclass(frozen=True)
class Advice:
    """How deep networks need to be. depths: the largest worth training, of each stage in order; deepest:
    those of the space.

    grown_quality, deepest_quality: on the test split, of these two networks trained alone with equal steps;
    macs: of both. predicted_loss: of the best network by a supernet's predictor, None where none was given.
    """

    space: str
    dataset: str
    stages: tuple[str, ...]
    depths: Depths
    deepest: Depths
    periods: tuple[Period, ...]
    grown_quality: float
    deepest_quality: float
    test_samples: int
    macs: tuple[int, int]
    growing_seconds: float
    control_seconds: float
    metric: Metric
    predicted_loss: float | None = None

    @property
    def lost_points(self) -> float:
        """What the grown network does worse than the deepest, in points (or the metric's unit)."""
        return self.metric.scale * (self.deepest_quality - self.grown_quality)

    @property
    def standard_error(self) -> float | None:
        """Of `lost_points`, from the size of the test split; None where the metric has no bounds."""
        found = [
            self.metric.variance(quality, self.test_samples)
            for quality in (self.grown_quality, self.deepest_quality)
        ]
        known = [one for one in found if one is not None]
        return self.metric.scale * float(np.sqrt(sum(known))) if len(known) == len(found) else None

    def exclusions(self) -> dict[str, list[int]]:
        """What a search has to `exclude` for it, by stage."""
        return {
            f"{name}.depth": list(range(kept + 1, most + 1))
            for name, kept, most in zip(self.stages, self.depths, self.deepest, strict=True)
            if most > kept
        }

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        scale = self.metric.scale
        return {
            "space": self.space,
            "dataset": self.dataset,
            "depths": dict(zip(self.stages, self.depths, strict=True)),
            "deepest": dict(zip(self.stages, self.deepest, strict=True)),
            "exclude": self.exclusions(),
            "periods": [{**vars(one), "depths": list(one.depths)} for one in self.periods],
            "metric": self.metric.to_json(),
            "grown": self.metric.value(self.grown_quality),
            "deepest_network": self.metric.value(self.deepest_quality),
            "lost_points": self.lost_points,
            "standard_error_points": self.standard_error,
            "test_samples": self.test_samples,
            "macs": {"grown": self.macs[0], "deepest": self.macs[1]},
            "growing_seconds": self.growing_seconds,
            "control_seconds": self.control_seconds,
            "predicted_loss_points": None if self.predicted_loss is None else scale * self.predicted_loss,
        }


def with_depths(space: Space, depths: Depths) -> Architecture:
    """The largest network of the space whose stages are that deep."""
    largest = space.largest()
    stages = tuple(
        replace(chosen, blocks=chosen.blocks[:depth])
        for chosen, depth in zip(largest.stages, depths, strict=True)
    )
    return replace(largest, stages=stages)


def advise(
    space: Space,
    dataset: Data,
    recipe: Recipe,
    seed: int,
    *,
    predictor: QualityPredictor | None = None,
    period_epochs: int = PERIOD_EPOCHS,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
) -> Advice:
    """Grow, then train the grown and the deepest network alone by the recipe.

    predictor: of a supernet of the whole space, for what the best network loses. Raises InvalidTraining for a
    space whose stages have one depth each.
    """
    if space.generation is not None:
        raise InvalidTraining(f"networks of {space.name} write sentences; only those of pictures are grown")
    if all(len(stage.depths) == 1 for stage in space.stages):
        raise InvalidTraining(
            f"the stages of {space.name} have one depth each, so nothing can grow; choose another space"
        )
    begun = time.monotonic()
    periods, depths = grow(space, dataset, recipe, seed, period_epochs, device, progress)
    grown_at = time.monotonic()
    deepest = tuple(stage.depths[-1] for stage in space.stages)
    networks = [with_depths(space, depths), with_depths(space, deepest)]
    qualities: list[float] = []
    for name, network in zip(("grown", "deepest"), networks, strict=True):
        if name == "deepest" and depths == deepest:
            qualities.append(qualities[0])
            continue
        progress(f"training the {name} network alone, {recipe.epochs} epochs")
        with tempfile.TemporaryDirectory() as folder:
            own, _ = train_quietly(
                alone(space, network), dataset, alone_recipe(recipe), seed, Path(folder), device
            )
        qualities.append(float(Evaluator(own, dataset, "test").qualities([network])[0]))
    return Advice(
        space=space.name,
        dataset=dataset.name,
        stages=tuple(stage.name for stage in space.stages),
        depths=depths,
        deepest=deepest,
        periods=tuple(periods),
        grown_quality=qualities[0],
        deepest_quality=qualities[1],
        test_samples=len(dataset.split("test")),
        macs=(_macs(space, networks[0]), _macs(space, networks[1])),
        growing_seconds=round(grown_at - begun, 1),
        control_seconds=round(time.monotonic() - grown_at, 1),
        metric=task_named(dataset.task).metric,
        predicted_loss=None if predictor is None else predicted_loss(space, predictor, depths),
    )


def grow(
    space: Space,
    dataset: Data,
    recipe: Recipe,
    seed: int,
    period_epochs: int,
    device: str,
    progress: Callable[[str], None],
) -> tuple[list[Period], Depths]:
    """(all periods, depth of each stage in the end)."""
    phase = replace(
        recipe.phases[0],
        networks=1,
        sampling="uniform",
        teacher="none",
        learning_rate=RATE * recipe.highest_rate,
    )
    trainer = Trainer(space, dataset, replace(recipe, phases=(phase,)), seed, device=device)
    # Random weights in every branch: blocks that begin as the identity grow to less accurate networks.
    random = Supernet(space, dropout=recipe.dropout, generator=torch.Generator().manual_seed(seed))
    trainer.supernet.load_state_dict(random.state_dict())
    evaluator = Evaluator(trainer.supernet, dataset)
    step, epoch = 0, 0

    def train(depths: Depths) -> float:
        nonlocal step, epoch
        network = with_depths(space, depths)
        for _ in range(period_epochs):
            for (batch,) in trainer.batches(epoch):
                trainer.step(phase, batch, step, phase.learning_rate, [network])
                step += 1
            epoch += 1
        evaluator.forget()  # the weights are others
        return float(evaluator.qualities([network])[0])

    depths = tuple(stage.depths[0] for stage in space.stages)
    quality = train(depths)
    periods = [Period(None, depths, quality, True)]
    growing = [index for index, stage in enumerate(space.stages) if len(stage.depths) > 1]
    while growing:
        index = growing.pop(0)
        stage = space.stages[index]
        place = stage.depths.index(depths[index]) + 1
        deeper = (*depths[:index], stage.depths[place], *depths[index + 1 :])
        found = train(deeper)
        kept = found > quality + LEAST_GAIN
        periods.append(Period(stage.name, deeper, found, kept))
        progress(
            f"{stage.name} with {deeper[index]} blocks: validation {found:.4f} after {quality:.4f}, "
            f"{'kept' if kept else 'left out again'}"
        )
        if kept:
            depths, quality = deeper, found
            if place + 1 < len(stage.depths):
                growing.append(index)
    return periods, depths


def predicted_loss(space: Space, predictor: QualityPredictor, depths: Depths) -> float:
    """How much less the best network of at most these depths is predicted to do than the best of all."""
    further = {
        f"{stage.name}.depth": [one for one in stage.depths if one > depth]
        for stage, depth in zip(space.stages, depths, strict=True)
        if stage.depths[-1] > depth
    }
    if not further:
        return 0.0
    macs, score = dense_from(space, lambda op: float(op.macs)), predictor.dense()
    whole = front(score, macs)
    kept = front(restricted(Problem(space.chain, score), excluded(space, further)).score, macs)
    best = [predictor.predict(found.genes[[-1]])[0] for found in (whole, kept)]
    return float(best[0] - best[1])


def _macs(space: Space, network: Architecture) -> int:
    return sum(op.macs for op in lower(space, network))
