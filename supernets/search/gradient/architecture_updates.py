"""Updates of the architecture parameters: two-path gradients, REINFORCE, both latency losses (torch).

Source: ProxylessNAS (Cai, Zhu, Han, ICLR 2019), sections 3.2 and 3.3. Differences from the published code:
the expected latency covers every choice, not the sampled pair, and the REINFORCE baseline follows slowly, as
the paper says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latency_tables.dense import Array, Genes
from supernets.errors import InvalidSearch
from supernets.search.gradient.distribution import Distribution, Expectation, Pair
from supernets.search.gradient.gates import GatedPath
from supernets.search.likely import most_probable
from supernets.search.problem import Problem, SearchResult

LATENCY_LOSSES = ("mul#log", "add#linear")
UPDATES = ("two", "reinforce")


@dataclass(frozen=True)
class Settings:
    """The published values, but for the epochs (40 warm-up, 120 search).

    update: "two" (two-path gradient) or "reinforce". latency_loss: "mul#log" is alpha x CE x (log E / log
    limit)^beta, "add#linear" is CE + weight x (E - limit) / limit. every: weight steps for one architecture
    step.
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
    surrogate_steps: int = 60
    surrogate_rate: float = 0.3

    def __post_init__(self) -> None:
        if self.latency_loss not in LATENCY_LOSSES or self.update not in UPDATES:
            raise InvalidSearch(
                f"latency_loss must be one of {list(LATENCY_LOSSES)}, update one of {list(UPDATES)}"
            )
        if min(self.warmup_epochs, self.epochs) < 0 or min(self.every, self.networks) < 1:
            raise InvalidSearch("epochs must not be negative; every and networks must be at least 1")


class ArchitectureSearch:
    """The architecture parameters, their optimiser and the two latency losses."""

    def __init__(self, problem: Problem, generator: np.random.Generator, settings: Settings) -> None:
        self.problem, self.settings = problem, settings
        self.generator = torch.Generator().manual_seed(int(generator.integers(2**62)))
        self.choices = Distribution(problem.chain, self.generator)
        self.optimiser = torch.optim.Adam(
            [self.choices.alphas], settings.architecture_rate, betas=(0.0, 0.999)
        )
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

    def step_pair(
        self, loss: Tensor, path: GatedPath, pair: Pair, resolution_gradient: Tensor | None = None
    ) -> None:
        """Two-path update: shift probability within each pair and nowhere else (ProxylessNAS, section
        3.2.1)."""
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
        """Gradient ascent on E[score]; one standard deviation of random networks counts as one unit of
        loss."""
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
        for _ in range(max(1, self.settings.surrogate_steps // 2)):
            genes = self.choices.sample(self.generator, self.settings.networks)
            new = [row for row in genes if row.tobytes() not in seen]
            if new:
                rows = np.unique(np.array(new), axis=0)
                seen.update(
                    {row.tobytes(): float(s) for row, s in zip(rows, self.problem.scores(rows), strict=True)}
                )
                self.evaluations += len(rows)
            scores = np.array([seen[row.tobytes()] for row in genes])
            over = [
                np.maximum(c / max(abs(limit), 1e-9) - 1, 0)
                for c, limit in zip(self.problem.costs(genes).T, self.limits, strict=True)
            ]
            spread = max(float(np.std(list(seen.values()))), 1e-9)
            self.step_reinforce(
                genes, scores / spread - 10 * np.sum(over, axis=0) if over else scores / spread
            )

    def answer(self, evaluations: int) -> SearchResult:
        """The most probable distinct networks within every limit, ranked by the score."""
        return most_probable(self.problem, self.choices.logs(), evaluations)


def rescale(alphas: Tensor, before: Tensor, pairs: Tensor) -> None:
    """Shift each updated pair so that the probabilities of all other values stay as they were; in place."""
    with torch.no_grad():
        distinct = pairs[:, 0] != pairs[:, 1]
        new, old = (values.gather(1, pairs).logsumexp(dim=1) for values in (alphas, before))
        offset = torch.where(distinct, new - old, 0.0)
        # A gene with one value is listed twice in its pair; its offset is 0.
        alphas.scatter_(1, pairs, alphas.gather(1, pairs) - offset[:, None])
