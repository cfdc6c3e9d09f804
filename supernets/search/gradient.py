"""Gradient-based search: ProxylessNAS (Cai, Zhu, Han, ICLR 2019) in full, then a choice that keeps the budget (torch).

Weight steps train one sampled path; architecture steps measure two paths on validation data and shift probability between
them only. Differences from the published code: the expected latency covers every choice, not the sampled pair; the
REINFORCE baseline follows slowly, as the paper says, not at once; the pair is measured with the memory of one path; the
result is the most probable network *within every limit* (exact search over log-probabilities) where the published
argmax checks no budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latency_tables.dense import Array
from latency_tables.errors import InvalidSearch, TrainingDiverged
from supernets.elastic.network import Supernet
from supernets.search import exact
from supernets.search.architecture_updates import LATENCY_LOSSES, UPDATES, ArchitectureSearch, Settings
from supernets.search.distribution import Pair
from supernets.search.gates import GatedPath
from supernets.search.problem import Problem, SearchResult
from supernets.spaces.space import Space
from supernets.training.augment import resized

Batches = Iterable[tuple[Tensor, Tensor]]

__all__ = ["LATENCY_LOSSES", "UPDATES", "Searched", "Settings", "Step", "search", "solve"]


@dataclass(frozen=True)
class Step:
    """What one epoch of the search left: mean loss of the weight steps, E[first constraint], entropy of the choices."""

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
    """Without a supernet: gradient ascent on the expected additive score, or REINFORCE on a score that is not additive."""
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
    train: Batches,
    validation: Batches,
    generator: np.random.Generator,
    settings: Settings | None = None,
    *,
    space: Space | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Searched:
    """Train the weights of a supernet and its choices together, then pick within the limits.

    train, validation: batches (x (B, C, H, W), y (B,)) on the supernet's device that can be iterated again and again; the
    validation batches are for the architecture only. space: the supernet's, at the resolutions of the problem. The
    supernet is changed in place.
    Raises InfeasibleBudget before anything is trained, TrainingDiverged for a loss that is not finite.
    """
    chosen, space = settings or Settings(), space or supernet.space
    if space.chain != problem.chain:
        raise InvalidSearch("the problem is of another space than the supernet; pass `space=space.at(resolutions)`")
    exact.solve(replace(problem, candidates=1, evaluate=None))
    run = _SupernetRun(ArchitectureSearch(problem, generator, chosen), supernet, space, train, validation, chosen)
    history = []
    for step in run.epochs():
        history.append(step)
        if progress is not None:
            progress(step)
    return Searched(run.search.answer(run.steps), run.search.choices.probabilities().detach().double().numpy(), tuple(history))


class _SupernetRun:
    """Warm-up and search on one supernet."""

    def __init__(
        self,
        search: ArchitectureSearch,
        supernet: Supernet,
        space: Space,
        train: Batches,
        validation: Batches,
        settings: Settings,
    ) -> None:
        self.search, self.supernet, self.space, self.settings = search, supernet, space, settings
        self.train, self.validation = train, validation
        self.steps = 0
        parameters = [p for p in supernet.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(
            parameters, settings.learning_rate, settings.momentum, weight_decay=settings.weight_decay, nesterov=True
        )
        self.held_out = self._endless()

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            batches = 0
            for batch in self.validation:
                batches += 1
                yield batch
            if not batches:
                raise InvalidSearch("the validation data have no batches")

    def epochs(self) -> Iterator[Step]:
        for phase, count, rate in (
            ("warm-up", self.settings.warmup_epochs, self.settings.warmup_learning_rate),
            ("search", self.settings.epochs, self.settings.learning_rate),
        ):
            for epoch in range(count):
                for group in self.optimiser.param_groups:
                    group["lr"] = rate * (1 + math.cos(math.pi * epoch / count)) / 2
                # As published, the architecture rests in the first epoch of the search.
                loss = self._epoch(phase, epoch, architecture=phase == "search" and (epoch > 0 or count == 1))
                expected = self.search.expected_costs()
                cost = float(expected[0].detach()) if expected else 0.0
                yield Step(phase, epoch + 1, loss, cost, self.search.choices.entropy())

    def _epoch(self, phase: str, epoch: int, architecture: bool) -> float:
        losses = []
        for number, (x, y) in enumerate(self.train, 1):
            losses.append(self.weight_step(x, y, uniform=phase == "warm-up"))
            if not math.isfinite(losses[-1]):
                raise TrainingDiverged(phase, epoch + 1, number)
            if architecture and number % self.settings.every == 0:
                x, y = next(self.held_out)  # noqa: PLW2901
                (self.pair_step if self.settings.update == "two" else self.reinforce_step)(x, y)
        if not losses:
            raise InvalidSearch("the training data have no batches")
        return float(np.mean(losses))

    def weight_step(self, x: Tensor, y: Tensor, *, uniform: bool = False) -> float:
        """One step of the weights on one sampled path."""
        self.supernet.train()
        architecture = self.space.architecture(self.search.choices.sample(self.search.generator, uniform=uniform)[0])
        self.optimiser.zero_grad(set_to_none=True)
        logits = self.supernet(resized(x, architecture.resolution), architecture)
        loss = F.cross_entropy(logits, y, label_smoothing=self.settings.smoothing)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimiser.step()
        self.steps += 1
        return float(loss.detach())

    def pair_step(self, x: Tensor, y: Tensor) -> None:
        """One step of the architecture on two paths; the weights stay."""
        pair = self.search.choices.sample_pair(self.search.generator)
        path = GatedPath(self.supernet, self.space, pair)
        with _frozen(self.supernet):
            loss = F.cross_entropy(path(resized(x, path.resolution)), y)
            between = self._between_resolutions(pair, float(loss.detach()), x, y)
            self.search.step_pair(loss, path, pair, between)

    def _between_resolutions(self, pair: Pair, loss: float, x: Tensor, y: Tensor) -> Tensor | None:
        """Two input sizes share no features: the gate's gradient is the loss at each, (2,)."""
        if pair.values[0, 0] == pair.values[0, 1]:
            return None
        row = pair.path.clone()
        row[0] = pair.values[0, 1 - int(pair.active[0])]
        other = self.space.architecture(self.search.problem.chain.canonical(row[None].numpy())[0])
        with torch.no_grad():
            found = float(F.cross_entropy(self.supernet(resized(x, other.resolution), other), y))
        return torch.tensor([loss, found] if pair.active[0] == 0 else [found, loss])

    def reinforce_step(self, x: Tensor, y: Tensor) -> None:
        """One step of the architecture on the accuracies of sampled networks on one batch."""
        genes = self.search.choices.sample(self.search.generator, self.settings.networks)
        accuracies = []
        with torch.no_grad():
            for row in genes:
                architecture = self.space.architecture(row)
                logits = self.supernet(resized(x, architecture.resolution), architecture)
                accuracies.append(float((logits.argmax(dim=1) == y).double().mean()))
        self.search.step_reinforce(genes, self.search.reward(np.array(accuracies), genes))


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
