"""Controls: is a sub-network as good as the same network trained alone, and does progressive shrinking pay?

Once-for-All (Cai et al., ICLR 2020) claims both; the published code tests neither on one's own data.
Everything here trains with the same number of steps, batches and augmentation as the supernet. Networks that
write sentences are held against HAT's published sampling (Wang et al., ACL 2020) in place of no shrinking.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from supernets.accuracy.predictor import HeldOut, QualityPredictor
from supernets.errors import InvalidTraining
from supernets.experiments.ranking import RANKED, Ranking, ranking_of
from supernets.network import Supernet
from supernets.search.exact.strategy import front
from supernets.search.pareto import Front
from supernets.spaces.architecture import Architecture
from supernets.spaces.lowering import dense_from, lower
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.tasks.metric import ACCURACY, Metric
from supernets.training.batching import batching_of
from supernets.training.catalog import RECIPES_OF_SENTENCES
from supernets.training.evaluation import score
from supernets.training.loop import Trainer
from supernets.training.method import MemoryUse
from supernets.training.recipe import Phase, Recipe
from supernets.training.spec import TrainingSpec
from supernets.training.tuning import alone, tuned


@dataclass(frozen=True)
class Compared:
    """One network, trained in several ways. Qualities on the test split; None where it was not
    asked for.

    described: the architecture as its space writes it. tuned: the sub-network of the supernet, trained on for
    some epochs.
    """

    architecture: Architecture
    described: dict[str, Any]
    macs: int
    predicted: float
    supernet: float
    without_shrinking: float | None
    alone: float
    alone_seconds: float
    tuned: float | None = None
    tuned_seconds: float | None = None


@dataclass(frozen=True)
class Controls:
    """What a run of controls found.

    steps: of the supernet; networks alone have those of tune_epochs on top, so that they are equal to tuned
    sub-networks.
    predictor: held-out error on validation, in [0, 1]. target_seconds: exact front of one more target,
    predictor given.
    supernet_seconds: of training the supernet (None where it was given), score_seconds: of the predictor's
    data. against: what `without_shrinking` was trained by. condition: what the networks' `resolution` counts.
    ranking: how well networks that write sentences are ranked by their loss, and by what they write.
    """

    space: str
    dataset: str
    recipe: str
    seed: int
    steps: int
    networks: tuple[Compared, ...]
    predictor: HeldOut
    scored: int
    supernet_seconds: float | None
    score_seconds: float
    target_seconds: float
    tune_epochs: int = 0
    metric: Metric = ACCURACY
    against: str = "uniform sampling from the start"
    condition: str = "px"
    ranking: Ranking | None = None

    @property
    def loss_points(self) -> float:
        """Mean of stand-alone minus sub-network quality, in points (or the metric's unit); positive where the
        supernet costs quality."""
        return self.metric.scale * float(np.mean([c.alone - c.supernet for c in self.networks]))

    @property
    def tuned_loss_points(self) -> float | None:
        """The same for the sub-networks after fine-tuning; None where it was not asked for."""
        losses = [c.alone - c.tuned for c in self.networks if c.tuned is not None]
        return self.metric.scale * float(np.mean(losses)) if losses else None

    @property
    def shrinking_gain_points(self) -> float | None:
        """Mean of the recipe minus uniform sampling from the start, in points; None where it was not asked
        for."""
        gains = [c.supernet - c.without_shrinking for c in self.networks if c.without_shrinking is not None]
        return self.metric.scale * float(np.mean(gains)) if gains else None


def alone_recipe(recipe: Recipe, more_epochs: int = 0) -> Recipe:
    """The recipe for one network: as many epochs (and some more), the highest learning rate, labels only."""
    epochs = recipe.epochs + more_epochs
    phase = Phase("alone", epochs, recipe.highest_rate, warmup_epochs=min(_warmup(recipe), epochs))
    return replace(recipe, name=f"{recipe.name}, alone", phases=(phase,))


def _warmup(recipe: Recipe) -> int:
    """Epochs: two for pictures; sentences have epochs of a few steps, and their recipes say it."""
    return recipe.phases[0].warmup_epochs if recipe.batch_tokens else 2


def published_recipe(recipe: Recipe) -> Recipe:
    """HAT's sampling and schedule: one sub-network an update, with as many batches passed through
    sub-networks as the recipe has (so fewer or more updates), of as many tokens."""
    hat = RECIPES_OF_SENTENCES["hat"]
    passes = recipe.accumulate * sum(p.epochs * p.networks for p in recipe.phases)
    epochs = max(1, round(passes / hat.accumulate))
    (phase,) = hat.phases
    phase = replace(phase, epochs=epochs, warmup_epochs=min(phase.warmup_epochs, epochs))
    return replace(hat, phases=(phase,), batch_tokens=recipe.batch_tokens, epoch_steps=recipe.epoch_steps)


def unshrunk_recipe(recipe: Recipe) -> Recipe:
    """Uniform sampling of everything from the first step: as many steps and, as near as whole numbers go,
    sub-networks. Of recipes for sentences `published_recipe`."""
    if recipe.batch_tokens:
        return published_recipe(recipe)
    networks = round(sum(p.epochs * p.networks for p in recipe.phases) / recipe.epochs)
    phase = Phase(
        "uniform",
        recipe.epochs,
        recipe.highest_rate,
        warmup_epochs=min(2, recipe.epochs),
        networks=max(1, networks),
    )
    return replace(recipe, name=f"{recipe.name}, without shrinking", phases=(phase,))


def train_quietly(
    space: Space, dataset: Data, recipe: Recipe, seed: int, folder: Path, device: str
) -> tuple[Supernet, float]:
    """(trained supernet, seconds); goes on where an earlier run in `folder` stopped."""
    spec = TrainingSpec(space.name, dataset.name, recipe.to_json(), seed)
    trainer = Trainer(space, dataset, recipe, seed, device=device, inputs_digest=spec.digest)
    trainer.run(folder)
    return trainer.supernet.eval(), trainer.seconds


def budget_networks(
    space: Space, predictor: QualityPredictor, networks: int
) -> tuple[list[Architecture], float]:
    """(best networks at budgets spread evenly over the front in log MACs, smallest first; seconds to solve
    the front)."""
    macs = dense_from(space, lambda operator: float(operator.macs))
    start = time.perf_counter()
    solved: Front = front(predictor.dense(), macs)
    seconds = time.perf_counter() - start
    budgets = np.geomspace(solved.costs[0], solved.costs[-1], networks)
    chosen = dict.fromkeys(
        int(np.searchsorted(solved.costs, budget * (1 + 1e-9), side="right")) - 1 for budget in budgets
    )
    return [space.architecture(solved.genes[index]) for index in chosen], seconds


def run_controls(
    space: Space,
    dataset: Data,
    recipe: Recipe,
    seed: int,
    folder: Path,
    *,
    networks: Sequence[Architecture] | int = 5,
    scored: int = 120,
    supernet: Supernet | None = None,
    without_shrinking: bool = True,
    tune_epochs: int = 0,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda message: None,
) -> Controls:
    """Train, compare, report. `networks`: which, or how many budgets; `supernet`: one already trained by this
    recipe.

    tune_epochs: sub-networks are also trained on for that many epochs, and networks alone for as many more
    than the supernet. Checkpoints go to `folder`, so an interrupted run goes on. Raises InvalidTraining when
    no network is asked for.
    """
    if (networks if isinstance(networks, int) else len(networks)) < 1:
        raise InvalidTraining("ask for at least one sub-network")
    if tune_epochs < 0:
        raise InvalidTraining("the epochs of fine-tuning are 0 (none) or more")
    seconds: float | None = None
    if supernet is None:
        progress("training the supernet")
        supernet, seconds = train_quietly(space, dataset, recipe, seed, folder / "supernet", device)
    progress(f"scoring {scored} sub-networks")
    start = time.perf_counter()
    predictor = score(
        task_of(dataset).evaluator(supernet, dataset, "validation"), scored, np.random.default_rng([seed, 1])
    )
    score_seconds = time.perf_counter() - start
    ranking: Ranking | None = None
    if space.generation is not None:
        progress("ranking networks by their loss, and by what they write")
        ranking = ranking_of(supernet, dataset, min(scored, RANKED), np.random.default_rng([seed, 2]))
    chosen, target_seconds = budget_networks(space, predictor, networks if isinstance(networks, int) else 5)
    chosen = chosen if isinstance(networks, int) else list(networks)
    control: Supernet | None = None
    if without_shrinking:
        progress("training without shrinking")
        control, _ = train_quietly(
            space, dataset, unshrunk_recipe(recipe), seed, folder / "without_shrinking", device
        )
    rows = []
    for number, architecture in enumerate(chosen, 1):
        progress(
            f"training network {number} of {len(chosen)} "
            f"alone{' and on from the supernet' if tune_epochs else ''}"
        )
        rows.append(
            _compare(
                architecture, supernet, control, predictor, dataset, recipe, seed, folder, device, tune_epochs
            )
        )
    held_out = predictor.held_out or predictor.cross_validate(5)
    samples = task_of(dataset).batches(dataset, "train", torch.device("cpu"))
    steps = recipe.epochs * batching_of(samples, recipe, seed).steps_per_epoch
    return Controls(
        space=space.name,
        dataset=dataset.name,
        recipe=recipe.name,
        seed=seed,
        steps=steps,
        networks=tuple(rows),
        predictor=held_out,
        scored=scored,
        supernet_seconds=seconds,
        score_seconds=score_seconds,
        target_seconds=target_seconds,
        tune_epochs=tune_epochs,
        metric=predictor.metric,
        against="HAT's published sampling" if recipe.batch_tokens else Controls.against,
        condition="px" if space.generation is None else "source tokens",
        ranking=ranking,
    )


def _compare(
    architecture: Architecture,
    supernet: Supernet,
    control: Supernet | None,
    predictor: QualityPredictor,
    dataset: Data,
    recipe: Recipe,
    seed: int,
    folder: Path,
    device: str,
    tune_epochs: int,
) -> Compared:
    space, whole = supernet.space, alone_recipe(recipe, tune_epochs)
    place = folder / architecture.digest[:16]
    own, seconds = train_quietly(
        alone(space, architecture), dataset, whole, seed, place / f"alone-{whole.epochs}", device
    )
    trained_on: tuple[Supernet, float, MemoryUse] | None = None
    if tune_epochs:
        trained_on = tuned(
            supernet, architecture, dataset, recipe, tune_epochs, seed, place / f"tuned-{tune_epochs}", device
        )

    def test(network: Supernet) -> float:
        whole = len(dataset.split("test"))
        evaluator = task_of(dataset).evaluator(network, dataset, "test", limit=whole)
        return float(evaluator.qualities([architecture])[0])

    return Compared(
        architecture=architecture,
        described=space.to_json(architecture),
        macs=sum(operator.macs for operator in lower(space, architecture)),
        predicted=float(predictor.predict(space.genes(architecture)[None])[0]),
        supernet=test(supernet),
        without_shrinking=None if control is None else test(control),
        alone=test(own),
        alone_seconds=seconds,
        tuned=None if trained_on is None else test(trained_on[0]),
        tuned_seconds=None if trained_on is None else trained_on[1],
    )
