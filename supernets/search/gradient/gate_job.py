"""Gate training as a job runs it: from the weights of a trained supernet, on a data set, with a checkpoint
after every epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from supernets.errors import InvalidCheckpoint
from supernets.network import Supernet
from supernets.search.gradient.architecture_updates import Settings
from supernets.search.gradient.strategy import GateTraining, Samples, Step
from supernets.search.problem import Problem
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_named, task_of
from supernets.tasks.data import Data
from supernets.training.checkpoint import attempt_folder, load_checkpoint, save_checkpoint
from supernets.training.recipe import Augmentation, Recipe

TRAVEL = (
    12.0  # how far a logit could go in all architecture steps; Adam's steps are about as long as its rate
)
SAY_S = 2.0


@dataclass(frozen=True)
class GateProgress:
    """Where a gate training stands. epochs: of the phase; done, total: weight steps; whole_s: all of it, from
    nothing."""

    step: Step
    epochs: int
    done: int
    total: int
    eta_s: float
    whole_s: float


def gate_settings(recipe: Recipe, steps_per_epoch: int, epochs: int | None = None) -> Settings:
    """Settings for a supernet that a recipe has trained. epochs: of the search, instead of the recipe's.

    The published ones but for the epochs, and for the architecture's rate and share of steps: with hundreds
    of steps in place of 600,000 every weight step is followed by one of the architecture, at a rate that lets
    it decide by the end.
    """
    warmup, search = recipe.gate_epochs
    search = search if epochs is None else epochs
    steps = max(1, search - 1) * steps_per_epoch
    rate = float(np.clip(TRAVEL / steps, Settings.architecture_rate, 0.1))
    return Settings(warmup_epochs=warmup, epochs=search, every=1, architecture_rate=rate)


def steps_per_epoch(dataset: Data, recipe: Recipe) -> int:
    """Weight steps of one epoch: full batches only, or one of all there is."""
    return max(1, len(dataset.split("train")) // recipe.batch_size)


def train_gates(
    problem: Problem,
    supernet: Supernet,
    space: Space,
    dataset: Data,
    recipe: Recipe,
    settings: Settings,
    *,
    seed: int,
    folder: Path,
    inputs: str,
    device: str = "cpu",
    report: Callable[[GateProgress], None] = lambda progress: None,
) -> GateTraining:
    """Train gates to their end, from the newest whole checkpoint in `folder`; the supernet itself stays as it
    is.

    space: the supernet's, at the resolutions of the problem. recipe: gives batch size and augmentation.
    inputs: names the training, so that a checkpoint of another one is refused. Everything random follows from
    the seed and the epoch, or is in the checkpoint: a training that was interrupted ends as one that was not.
    Raises InfeasibleBudget, TrainingDiverged, InvalidCheckpoint.
    """
    where = torch.device(device)
    own = copy.deepcopy(supernet).to(where)
    train = _Shuffled(dataset, "train", recipe.batch_size, seed, where, recipe.augmentation)
    held_out = _Shuffled(dataset, "validation", recipe.batch_size, seed, where, Augmentation())
    info = task_named(dataset.task)
    training = GateTraining(
        problem,
        own,
        Samples(train.batches, train.prepare, info),
        Samples(held_out.batches, held_out.prepare, info),
        np.random.default_rng(seed),
        settings,
        space=space,
    )
    _resume(training, folder, inputs)
    attempt = attempt_folder(folder)
    clock = _Clock(training, steps_per_epoch(dataset, recipe), report)
    while not training.done:
        training.epoch(clock.tick)
        state = {"inputs": inputs, "training": training.state()}
        save_checkpoint(attempt, f"checkpoint-{len(training.history):08d}", training.tensors(), state)
    return training


def _resume(training: GateTraining, folder: Path, inputs: str) -> None:
    found = load_checkpoint(folder)
    if found is None:
        return
    if found.state["inputs"] != inputs:
        raise InvalidCheckpoint(
            f"{folder.name} holds checkpoints of another training; give this one a folder of its own"
        )
    training.restore(found.tensors, found.state["training"])


class _Shuffled:
    """A split in full batches, in another order in each epoch; made ready on the device, one batch at a
    time."""

    def __init__(
        self, data: Data, split: str, size: int, seed: int, device: torch.device, augmentation: Augmentation
    ) -> None:
        self.task = task_of(data)
        self.samples = self.task.batches(data, split, device)
        self.size, self.seed, self.device = min(size, len(self.samples)), seed, device
        self.augmentation, self.generator = augmentation, torch.Generator(device)

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        mixed = np.random.default_rng([self.seed, epoch])
        self.generator.manual_seed(int(mixed.integers(2**62)))
        order = torch.from_numpy(mixed.permutation(len(self.samples)))
        for start in range(0, len(order) - self.size + 1, self.size):
            yield self.samples[order[start : start + self.size].to(self.device)]

    def prepare(self, inputs: Tensor, condition: int) -> Tensor:
        return self.task.prepare(inputs, condition, self.augmentation, self.generator)


class _Clock:
    """Says now and then how far a gate training is; at the end of every epoch in any case."""

    def __init__(self, training: GateTraining, steps: int, report: Callable[[GateProgress], None]) -> None:
        self.training, self.steps, self.report = training, steps, report
        self.total = training.epochs * steps
        self.before = len(training.history) * steps
        self.start = self.said = time.monotonic()

    def tick(self, number: int, loss: float) -> None:
        """A weight step of the epoch under way is done."""
        now = time.monotonic()
        if number < self.steps and now - self.said < SAY_S:
            return
        self.said = now
        done = len(self.training.history) * self.steps + number
        each = (now - self.start) / max(1, done - self.before)
        _, _, epochs = self.training.position()
        left = round(each * (self.total - done), 1)
        whole = round(each * self.total, 1)
        self.report(GateProgress(self.training.standing(loss), epochs, done, self.total, left, whole))
