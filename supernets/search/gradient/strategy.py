"""Gradient-based search: ProxylessNAS (Cai, Zhu, Han, ICLR 2019) in full, then a choice that keeps the budget
(torch).

Weight steps train one sampled path; architecture steps measure two paths on validation data and shift
probability between them only. Differences from the published code: the expected latency covers every choice,
not the sampled pair; the REINFORCE baseline follows slowly, as the paper says, not at once; the pair is
measured with the memory of one path; the result is the most probable network *within every limit* (exact
search over log-probabilities) where the published argmax checks no budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latency_tables.dense import Array
from supernets.errors import InvalidSearch, TrainingDiverged
from supernets.network import Supernet
from supernets.search.exact import strategy as exact
from supernets.search.gradient.architecture_updates import (
    LATENCY_LOSSES,
    UPDATES,
    ArchitectureSearch,
    Settings,
)
from supernets.search.gradient.distribution import Pair
from supernets.search.gradient.gates import GatedPath
from supernets.search.problem import Problem, SearchResult
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_named
from supernets.tasks.info import IMAGES, TaskInfo
from supernets.training.augment import resized
from supernets.training.loop import load_optimiser, optimiser_tensors

__all__ = [
    "LATENCY_LOSSES",
    "UPDATES",
    "GateTraining",
    "Samples",
    "Searched",
    "Settings",
    "Step",
    "search",
    "solve",
]

WARM_UP, SEARCH = "warm-up", "search"
ADVICE = "Search with another strategy (exact needs no training), or train the supernet with another recipe."


@dataclass(frozen=True)
class Samples:
    """Data on the supernet's device. batches: number of the epoch -> (inputs (B, ...), targets (B, ...)), the
    same whenever it is asked.

    prepare: gives a batch its resolution, and may change it at random. task: whose data they are.
    """

    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]]
    prepare: Callable[[Tensor, int], Tensor] = resized
    task: TaskInfo = field(default_factory=lambda: task_named(IMAGES))


@dataclass(frozen=True)
class Step:
    """What one epoch of the search left: mean loss of the weight steps, E[first constraint], entropy of the
    choices."""

    phase: str
    epoch: int
    loss: float
    expected_cost: float
    entropy: float


@dataclass(frozen=True, eq=False)
class Searched:
    """The answer, the probabilities it was chosen by (genes, values), and the curve."""

    result: SearchResult
    probabilities: Array
    history: tuple[Step, ...]


def solve(problem: Problem, generator: np.random.Generator, settings: Settings | None = None) -> SearchResult:
    """Without a supernet: gradient ascent on the expected additive score, or REINFORCE on a score that is not
    additive."""
    chosen = settings or Settings()
    exact.solve(replace(problem, candidates=1, evaluate=None))  # raises where the limits cannot be kept
    search = ArchitectureSearch(problem, generator, replace(chosen, architecture_rate=chosen.surrogate_rate))
    if problem.additive:
        search.ascend()
    else:
        search.reinforce_evaluate()
    return search.answer(search.evaluations)


def search(
    problem: Problem,
    supernet: Supernet,
    train: Samples,
    validation: Samples,
    generator: np.random.Generator,
    settings: Settings | None = None,
    *,
    space: Space | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Searched:
    """Train the weights of a supernet and its choices together, then pick within the limits: `GateTraining`
    to its end.

    Raises InfeasibleBudget before anything is trained, TrainingDiverged for a loss that is not finite.
    """
    training = GateTraining(problem, supernet, train, validation, generator, settings, space=space)
    while not training.done:
        step = training.epoch()
        if progress is not None:
            progress(step)
    return Searched(
        training.search.answer(training.steps),
        np.exp(training.search.choices.logs()),
        tuple(training.history),
    )


class GateTraining:
    """Warm-up and search on one supernet, epoch by epoch; the supernet is changed in place.

    validation: its batches are for the architecture only. space: the supernet's, at the resolutions of the
    problem. After any epoch `tensors` and `state` hold all of it; `restore` goes on from there and gives what
    would have come. Raises InfeasibleBudget where no network keeps the limits, InvalidSearch.
    """

    def __init__(
        self,
        problem: Problem,
        supernet: Supernet,
        train: Samples,
        validation: Samples,
        generator: np.random.Generator,
        settings: Settings | None = None,
        *,
        space: Space | None = None,
    ) -> None:
        self.settings, self.space = settings or Settings(), space or supernet.space
        if self.space.chain != problem.chain:
            raise InvalidSearch(
                "the problem is of another space than the supernet; pass `space=space.at(resolutions)`"
            )
        exact.solve(replace(problem, candidates=1, evaluate=None))
        self.search = ArchitectureSearch(problem, generator, self.settings)
        self.supernet, self.train, self.validation, self.task = supernet, train, validation, train.task.task
        self.steps = 0
        self.history: list[Step] = []
        parameters = [p for p in supernet.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(
            parameters,
            self.settings.learning_rate,
            self.settings.momentum,
            weight_decay=self.settings.weight_decay,
            nesterov=True,
        )

    @property
    def epochs(self) -> int:
        """Of both phases."""
        return self.settings.warmup_epochs + self.settings.epochs

    @property
    def done(self) -> bool:
        return len(self.history) >= self.epochs

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All that is trained, in groups: weights, choices, both optimisers, the generator."""
        search = self.search
        return {
            "supernet": self.supernet.state_dict(),
            "weight_optimiser": optimiser_tensors(self.optimiser),
            "choices": {"alphas": search.choices.alphas, "generator": search.generator.get_state()},
            "choice_optimiser": optimiser_tensors(search.optimiser),
        }

    def state(self) -> dict[str, Any]:
        """What stands beside the tensors, as plain values."""
        return {
            "steps": self.steps,
            "baseline": self.search.baseline,
            "history": [asdict(step) for step in self.history],
        }

    def restore(self, tensors: Mapping[str, dict[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Go on from what `tensors` and `state` gave."""
        search = self.search
        self.supernet.load_state_dict(tensors["supernet"])
        load_optimiser(self.optimiser, tensors["weight_optimiser"])
        load_optimiser(search.optimiser, tensors["choice_optimiser"])
        with torch.no_grad():
            search.choices.alphas.copy_(tensors["choices"]["alphas"])
        search.generator.set_state(tensors["choices"]["generator"])
        self.steps, search.baseline = int(state["steps"]), state["baseline"]
        self.history = [Step(**step) for step in state["history"]]

    def position(self) -> tuple[str, int, int]:
        """(phase, its next epoch from 0, its epochs)."""
        done, warmup = len(self.history), self.settings.warmup_epochs
        return (WARM_UP, done, warmup) if done < warmup else (SEARCH, done - warmup, self.settings.epochs)

    def epoch(self, tick: Callable[[int, float], None] | None = None) -> Step:
        """Train the next epoch. tick: called after every weight step with its number from 1 and its loss."""
        phase, epoch, count = self.position()
        rate = self.settings.warmup_learning_rate if phase == WARM_UP else self.settings.learning_rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * epoch / count)) / 2
        # As published, the architecture rests in the first epoch of the search.
        architecture = phase == SEARCH and (epoch > 0 or count == 1)
        held_out = self._endless(len(self.history))
        losses = []
        for number, (x, y) in enumerate(self.train.batches(len(self.history)), 1):
            losses.append(self.weight_step(x, y, uniform=phase == WARM_UP))
            sound = math.isfinite(losses[-1])
            if sound and architecture and number % self.settings.every == 0:
                sound = self._architecture_step(*next(held_out))
            if not sound:
                raise TrainingDiverged(phase, epoch + 1, number, ADVICE)
            if tick is not None:
                tick(number, losses[-1])
        if not losses:
            raise InvalidSearch("the training data have no batches")
        self.history.append(self.standing(float(np.mean(losses))))
        return self.history[-1]

    def standing(self, loss: float) -> Step:
        """Where the epoch under way stands."""
        phase, epoch, _ = self.position()
        expected = self.search.expected_costs()
        cost = float(expected[0].detach()) if expected else 0.0
        return Step(phase, epoch + 1, loss, cost, self.search.choices.entropy())

    def _architecture_step(self, x: Tensor, y: Tensor) -> bool:
        """One step of the choices; whether they are still numbers."""
        (self.pair_step if self.settings.update == "two" else self.reinforce_step)(x, y)
        return bool(self.search.choices.alphas.detach().isfinite().all())

    def _endless(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            batches = 0
            for batch in self.validation.batches(epoch):
                batches += 1
                yield batch
            if not batches:
                raise InvalidSearch("the validation data have no batches")

    def weight_step(self, x: Tensor, y: Tensor, *, uniform: bool = False) -> float:
        """One step of the weights on one sampled path."""
        self.supernet.train()
        architecture = self.space.architecture(
            self.search.choices.sample(self.search.generator, uniform=uniform)[0]
        )
        self.optimiser.zero_grad(set_to_none=True)
        logits = self.supernet(self.train.prepare(x, architecture.resolution), architecture)
        loss = self.task.loss(logits, y, smoothing=self.settings.smoothing)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimiser.step()
        self.steps += 1
        return float(loss.detach())

    def pair_step(self, x: Tensor, y: Tensor) -> None:
        """One step of the architecture on two paths; the weights stay."""
        pair = self.search.choices.sample_pair(self.search.generator)
        path = GatedPath(self.supernet, self.space, pair)
        with _frozen(self.supernet):
            loss = self.task.loss(path(self.validation.prepare(x, path.resolution)), y)
            between = self._between_resolutions(pair, float(loss.detach()), x, y)
            self.search.step_pair(loss, path, pair, between)

    def _between_resolutions(self, pair: Pair, loss: float, x: Tensor, y: Tensor) -> Tensor | None:
        """Two input sizes share no features: the gate's gradient is the loss at each, (2,)."""
        if pair.values[0, 0] == pair.values[0, 1]:
            return None
        row = pair.path.clone()
        # Gene 0 is the resolution.
        row[0] = pair.values[0, 1 - int(pair.active[0])]
        other = self.space.architecture(self.search.problem.chain.canonical(row[None].numpy())[0])
        with torch.no_grad():
            found = float(
                self.task.loss(self.supernet(self.validation.prepare(x, other.resolution), other), y)
            )
        return torch.tensor([loss, found] if pair.active[0] == 0 else [found, loss])

    def reinforce_step(self, x: Tensor, y: Tensor) -> None:
        """One step of the architecture on the qualities of sampled networks on one batch, as shares of
        the range."""
        genes = self.search.choices.sample(self.search.generator, self.settings.networks)
        shares = []
        with torch.no_grad():
            for row in genes:
                architecture = self.space.architecture(row)
                logits = self.supernet(self.validation.prepare(x, architecture.resolution), architecture)
                quality = self.task.quality(self.task.tally(logits, y))
                shares.append(self.train.task.metric.share(quality))
        self.search.step_reinforce(genes, self.search.reward(np.array(shares), genes))


class _frozen:  # noqa: N801  (a context manager)
    """Weights ask for no gradient inside."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]

    def __enter__(self) -> None:
        for p in self.parameters:
            p.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for p in self.parameters:
            p.requires_grad_(True)
