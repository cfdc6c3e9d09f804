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

from latency_tables.dense import Array, Genes
from latency_tables.errors import InvalidSearch, TrainingDiverged
from supernets.elastic.network import Supernet
from supernets.search import exact
from supernets.search.distribution import Distribution, Expectation, Pair
from supernets.search.gates import GatedPath
from supernets.search.problem import Problem, SearchResult, ranked
from supernets.spaces.space import Space
from supernets.training.augment import resized

Batches = Iterable[tuple[Tensor, Tensor]]
LATENCY_LOSSES = ("mul#log", "add#linear")
UPDATES = ("two", "reinforce")


@dataclass(frozen=True)
class Settings:
    """The published values, but for the epochs (40 warm-up, 120 search).

    update: "two" (two-path gradient) or "reinforce". latency_loss: "mul#log" is alpha x CE x (log E / log limit)^beta,
    "add#linear" is CE + weight x (E - limit) / limit. every: weight steps for one architecture step.
    surrogate_steps: without a supernet.
    """

    warmup_epochs: int = 4
    epochs: int = 12
    update: str = "two"
    latency_loss: str = "mul#log"
    alpha: float = 0.2
    beta: float = 0.3
    latency_weight: float = 0.1
    learning_rate: float = 0.025
    warmup_learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 4e-5
    smoothing: float = 0.1
    architecture_rate: float = 1e-3
    every: int = 5
    networks: int = 10
    reward_power: float = 0.1
    baseline_decay: float = 0.99
    surrogate_steps: int = 120
    surrogate_rate: float = 0.2

    def __post_init__(self) -> None:
        if self.latency_loss not in LATENCY_LOSSES or self.update not in UPDATES:
            raise InvalidSearch(f"latency_loss must be one of {list(LATENCY_LOSSES)}, update one of {list(UPDATES)}")
        if min(self.warmup_epochs, self.epochs) < 0 or min(self.every, self.networks) < 1:
            raise InvalidSearch("epochs must not be negative; every and networks must be at least 1")


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

    train, validation: batches (x (B, C, H, W), y (B,)) that can be iterated again and again; the validation batches are
    for the architecture only; both on the supernet's device. space: the supernet's, at the resolutions of the problem. The supernet is changed in place.
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


class ArchitectureSearch:
    """The architecture parameters, their optimiser and the two latency losses."""

    def __init__(self, problem: Problem, generator: np.random.Generator, settings: Settings) -> None:
        self.problem, self.settings = problem, settings
        self.generator = torch.Generator().manual_seed(int(generator.integers(2**62)))
        self.choices = Distribution(problem.chain, self.generator)
        self.optimiser = torch.optim.Adam([self.choices.alphas], settings.architecture_rate, betas=(0.0, 0.999))
        self.costs = [Expectation(c.table) for c in problem.constraints]
        self.limits = [c.limit for c in problem.constraints]
        self.baseline: float | None = None
        self.evaluations = 0

    def expected_costs(self) -> list[Tensor]:
        p = self.choices.probabilities()
        return [cost(p) for cost in self.costs]

    def with_latency(self, loss: Tensor) -> Tensor:
        """The loss with every limited cost in it. Limits that are infinite or 0 do not pull."""
        for expected, limit in zip(self.expected_costs(), self.limits, strict=True):
            if not math.isfinite(limit) or limit <= 0:
                continue
            if self.settings.latency_loss == "add#linear":
                loss = loss + self.settings.latency_weight * (expected - limit) / limit
            else:
                # The published form needs log E > 0: budgets below ten units are counted in finer ones.
                scale = max(1.0, 10.0 / limit)
                ratio = (expected * scale).clamp_min(1.001).log() / math.log(limit * scale)
                loss = self.settings.alpha * loss * ratio**self.settings.beta
        return loss

    def step_pair(self, loss: Tensor, path: GatedPath, pair: Pair, resolution_gradient: Tensor | None = None) -> None:
        """Two-path update: shift probability within each pair and nowhere else (ProxylessNAS, section 3.2.1)."""
        alphas = self.choices.alphas
        self.optimiser.zero_grad(set_to_none=True)
        self.with_latency(loss).backward()  # type: ignore[no-untyped-call]  # torch's own
        gates = torch.zeros_like(path.gates) if path.gates.grad is None else path.gates.grad
        if resolution_gradient is not None:
            one = torch.ones(())
            gates[0] += resolution_gradient * (self.with_latency(one) - self.with_latency(one - 1)).detach()
        p = self.choices.pair_probabilities(pair.values)
        through_gates = p * (gates - (gates * p).sum(dim=1, keepdim=True))
        latency = torch.zeros_like(alphas) if alphas.grad is None else alphas.grad
        distinct = (pair.values[:, 0] != pair.values[:, 1])[:, None]
        pair_gradient = torch.where(distinct, through_gates + latency.gather(1, pair.values), 0.0)
        alphas.grad = torch.zeros_like(alphas).scatter_(1, pair.values, pair_gradient)
        before = alphas.detach().clone()
        self.optimiser.step()
        rescale(alphas, before, pair.values)

    def step_reinforce(self, genes: Genes, rewards: Array) -> None:
        """REINFORCE on rewards that are higher for better networks; genes (networks, genes)."""
        mean = float(rewards.mean())
        decay = self.settings.baseline_decay
        self.baseline = mean if self.baseline is None else decay * self.baseline + (1 - decay) * mean
        advantage = torch.from_numpy(rewards - self.baseline).float()
        self.optimiser.zero_grad(set_to_none=True)
        loss = -(advantage * self.choices.log_probability(genes)).mean()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        self.optimiser.step()

    def reward(self, accuracies: Array, genes: Genes) -> Array:
        """accuracy x (limit / cost)^power for each limit, as published."""
        rewards = accuracies.copy()
        for column, limit in enumerate(self.limits):
            if math.isfinite(limit) and limit > 0:
                cost = np.maximum(self.problem.costs(genes)[:, column], 1e-12)
                rewards *= (limit / cost) ** self.settings.reward_power
        return rewards

    def ascend(self) -> None:
        """Gradient ascent on E[score]; one standard deviation of random networks counts as one unit of loss."""
        score = Expectation(self.problem.score)
        sample = self.problem.score.price(self.choices.sample(self.generator, 256, uniform=True))
        sample = sample[np.isfinite(sample)]
        scale = max(float(np.std(sample)), 1e-9) if len(sample) else 1.0
        for _ in range(self.settings.surrogate_steps):
            self.optimiser.zero_grad(set_to_none=True)
            p = self.choices.probabilities()
            loss = -score(p) / scale
            for cost, limit in zip(self.costs, self.limits, strict=True):
                if math.isfinite(limit):
                    loss = loss + F.relu(cost(p) - limit) / max(abs(limit), 1e-9) * 10
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            self.optimiser.step()

    def reinforce_evaluate(self) -> None:
        """REINFORCE on a score that is not additive, in units of its spread; costs pull as in `reward`."""
        seen: dict[bytes, float] = {}
        for _ in range(max(1, self.settings.surrogate_steps // 4)):
            genes = self.choices.sample(self.generator, self.settings.networks)
            new = [row for row in genes if row.tobytes() not in seen]
            if new:
                rows = np.unique(np.array(new), axis=0)
                seen.update({row.tobytes(): float(s) for row, s in zip(rows, self.problem.scores(rows), strict=True)})
                self.evaluations += len(rows)
            scores = np.array([seen[row.tobytes()] for row in genes])
            over = [
                np.maximum(c / max(abs(limit), 1e-9) - 1, 0)
                for c, limit in zip(self.problem.costs(genes).T, self.limits, strict=True)
            ]
            spread = max(float(np.std(list(seen.values()))), 1e-9)
            self.step_reinforce(genes, scores / spread - 10 * np.sum(over, axis=0) if over else scores / spread)

    def answer(self, evaluations: int) -> SearchResult:
        """The most probable distinct networks within every limit, ranked by the score."""
        likely = exact.solve(replace(self.problem, score=self.choices.log_table(), evaluate=None))
        candidates = ranked(self.problem, np.array([c.genes for c in likely.candidates]))
        return SearchResult("gradient", candidates, False, None, evaluations)


def rescale(alphas: Tensor, before: Tensor, pairs: Tensor) -> None:
    """Shift each updated pair so that the probabilities of all other values stay as they were; in place."""
    with torch.no_grad():
        distinct = pairs[:, 0] != pairs[:, 1]
        new, old = (values.gather(1, pairs).logsumexp(dim=1) for values in (alphas, before))
        offset = torch.where(distinct, new - old, 0.0)
        # A gene with one value is listed twice in its pair; its offset is 0.
        alphas.scatter_(1, pairs, alphas.gather(1, pairs) - offset[:, None])


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
