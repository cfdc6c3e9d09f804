"""The targets of a search: priced, solved, tightened by what was measured, compared with each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from sqlalchemy.orm import Session

from latency_tables.dense import DenseTable
from latency_tables.errors import InfeasibleBudget, NoTable, SearchUnfinished
from service.db import devices
from service.pricing import PriceBook, Pricing, at_resolutions
from supernets.accuracy_refinement import RefinedScore, Refinement
from supernets.search.budgets import SIZE, costs_of, limited
from supernets.search.catalog import solve
from supernets.search.problem import MAX_CANDIDATES, Candidate, Constraint, Problem, SearchResult
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space

LATENCY: Final = "latency_ms"
MORE_RESOLUTIONS: Final = 3
SHORTLIST: Final = 4  # times as many exact solutions as are asked for, of which the refined predictor picks


@dataclass
class Target:
    """One device and budget. limit_ms: what the bound must keep; `tighten` lowers it after a broken budget.

    limits: the other limits by name. file_overhead_bytes: what files were seen to hold besides weights.
    """

    index: int
    device: str
    device_id: str
    table_id: str
    budget_ms: float
    pricing: Pricing
    limit_ms: float
    ruled_out: set[str] = field(default_factory=set)
    measured_ms: list[float] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    file_overhead_bytes: int = 0

    @property
    def reachable(self) -> tuple[float, float]:
        """Least and greatest latency in ms that the bound allows on this device."""
        return self.pricing.reachable_ms()

    @property
    def broken_by(self) -> float:
        """Measured / budget of the network that broke the budget most; 1 where none did."""
        return max((ms / self.budget_ms for ms in self.measured_ms), default=1.0)

    def tighten(self, architecture: Architecture, measured_ms: float) -> None:
        """Rule a network out and hold the bound against what its measurement says about the device."""
        self.ruled_out.add(architecture.digest)
        self.measured_ms.append(measured_ms)
        self.limit_ms = min(self.limit_ms, self.limit_ms * self.budget_ms / measured_ms)

    def slower_than_its_table(self) -> InfeasibleBudget:
        """Why no more networks are tried after some were measured and broke the budget."""
        networks = "1 network was" if len(self.measured_ms) == 1 else f"{len(self.measured_ms)} networks were"
        return InfeasibleBudget(
            f"{networks} measured on {self.device} and none kept {self.budget_ms:g} ms, the fastest took "
            f"{min(self.measured_ms):.4g} ms; the device is slower than its table says: search again when "
            "it is idle, or profile it again (`bespoke profile`)",
            min(self.measured_ms),
            self.reachable[1],
        )

    def outgrown(self, architecture: Architecture, size_bytes: int) -> None:
        """Rule out a network whose file is larger than its limit, and expect as much besides the weights of the others."""
        self.ruled_out.add(architecture.digest)
        weights = costs_of(self.pricing.space, architecture)[SIZE]
        self.file_overhead_bytes = max(self.file_overhead_bytes, size_bytes - weights)

    def problem(self, score: DenseTable, space: Space, wanted: int = 1) -> Problem:
        """What is to be solved, at the resolutions of `space`. Raises InfeasibleBudget naming the constraint."""
        bound = at_resolutions(self.pricing.held, self.pricing.space, space)
        alone = Problem(space.chain, score, (Constraint(LATENCY, bound, self.limit_ms),), wanted)
        return limited(space, alone, self.limits, self.file_overhead_bytes)


@dataclass(frozen=True)
class Solved:
    """Distinct networks within the limit, best predicted first, none that was ruled out."""

    result: SearchResult
    candidates: tuple[Candidate, ...]
    architectures: tuple[Architecture, ...]


def load_target(
    session: Session, book: PriceBook, tenant_id: str, space: Space, index: int, item: dict[str, Any], confidence: float | None
) -> Target:
    """Price one target of a request with the table it is pinned to. Raises NoTable, PoorCalibration, TooFewNetworks."""
    device = devices.named(session, tenant_id, item["device"])
    if device is None or device.id != item["device_id"]:
        raise NoTable(f"device {item['device']} of this job is no longer there; register it again")
    pricing = book.load(session, device, space, table_id=item["table_id"], confidence=confidence)
    limits = dict(item["budget"])
    budget_ms = float(limits.pop(LATENCY))
    return Target(index, device.name, device.id, pricing.table_id, budget_ms, pricing, budget_ms, limits=limits)


@dataclass(frozen=True)
class Wish:
    """How targets are to be solved. score: additive accuracy over the whole space; candidates: networks to be scored.

    refinement: what ranks better than the additive score, where something does; the exact solver cannot maximise it.
    """

    space: Space
    score: DenseTable
    strategy: str
    candidates: int
    refinement: Refinement | None = None

    def solve(self, problem: Problem, space: Space, solver: Solver, generator: np.random.Generator) -> SearchResult:
        """The answer to an additive problem at the resolutions of `space`, ranked by the best predictor there is."""
        if self.refinement is None:
            return solver(problem, self.strategy, generator)
        refined = RefinedScore(self.refinement, space.resolutions)
        if self.strategy != "exact":
            return solver(replace(problem, evaluate=refined, costly=False), self.strategy, generator)
        # Each further network within several limits is an integer program of its own, which may take seconds.
        more = SHORTLIST if len(problem.constraints) == 1 else 1
        most = min(more * problem.candidates, MAX_CANDIDATES)
        found = solver(replace(problem, candidates=most), self.strategy, generator)
        return replace(found, candidates=_reranked(found.candidates, refined)[: problem.candidates])


def _reranked(found: tuple[Candidate, ...], refined: RefinedScore) -> tuple[Candidate, ...]:
    """The proven best stays the first, for it is what `optimal` and `gap` speak of; the others follow by the refined score."""
    first, *others = found
    scores = refined(np.stack([c.genes for c in found]))[1:]
    return (first, *(others[i] for i in np.argsort(-scores, kind="stable")))


class Solver(Protocol):
    """How a problem is solved: `supernets.search.catalog.solve`, here or in a child."""

    def __call__(self, problem: Problem, strategy: str, generator: np.random.Generator) -> SearchResult: ...


def solve_target(target: Target, wish: Wish, generator: np.random.Generator, solver: Solver = solve) -> Solved:
    """The best networks whose bound keeps the limit. Raises InfeasibleBudget with the reachable range.

    Beside the best few, the best one of other resolutions: the predictor errs alike for like networks, so a choice
    among near copies would be none.
    """
    space = target.pricing.space
    least, most = target.reachable
    if target.limit_ms < least:
        if target.measured_ms:
            raise target.slower_than_its_table()
        raise InfeasibleBudget(
            f"no network of {space.name} keeps {target.budget_ms:g} ms on {target.device}; "
            f"reachable are {least:.4g} to {most:.4g} ms",
            least,
            most,
        )
    score = at_resolutions(wish.score, wish.space, space)
    wanted = wish.candidates + len(target.ruled_out)
    result = wish.solve(target.problem(score, space, wanted), space, solver, generator)
    found = [*result.candidates]
    if wish.candidates > 1 and wish.strategy != "gradient":  # its gates have weighed the resolutions too
        # Several constraints may take HiGHS seconds, so they go where `solver` solves them.
        exactly = partial(solver if target.limits else solve, strategy="exact", generator=generator)
        found += _of_other_resolutions(target, score, {int(c.genes[0]) for c in found}, exactly)
    named = [(c, space.architecture(c.genes)) for c in found]
    kept = [(c, a) for c, a in named if a.digest not in target.ruled_out]
    if not kept:
        raise InfeasibleBudget(
            f"every network of {space.name} that should keep {target.budget_ms:g} ms on {target.device} broke it when measured",
            least,
            most,
        )
    return Solved(result, tuple(c for c, _ in kept), tuple(a for _, a in kept))


def _of_other_resolutions(
    target: Target, score: DenseTable, covered: set[int], exactly: Callable[[Problem], SearchResult]
) -> list[Candidate]:
    """The best network of some resolutions that are not covered yet, evenly spread."""
    space = target.pricing.space
    others = [r for r in range(len(space.resolutions)) if r not in covered]
    spread = sorted({others[i] for i in np.linspace(0, len(others) - 1, MORE_RESOLUTIONS).round().astype(int)}) if others else []
    found = []
    for index in spread:
        small = space.at([space.resolutions[index]])
        try:
            best = exactly(target.problem(at_resolutions(score, space, small), small)).candidates[0]
        except (InfeasibleBudget, SearchUnfinished):
            continue
        genes = best.genes.copy()
        genes[0] = index
        found.append(Candidate(genes, best.score, best.costs))
    return found


def cross_device(networks: Sequence[tuple[str, Target, Architecture]], targets: Sequence[Target]) -> dict[str, Any]:
    """Predicted latency in ms of every delivered network on every target's device; null where its table lacks the resolution."""
    devices = {t.device: t.pricing for t in targets}
    rows = []
    for model_id, own, architecture in networks:
        latency = {device: predicted_ms(pricing, architecture) for device, pricing in devices.items()}
        rows.append({"model_id": model_id, "device": own.device, "budget_ms": own.budget_ms, "latency_ms": latency})
    return {"devices": list(devices), "networks": rows}


def predicted_ms(pricing: Pricing, architecture: Architecture) -> float | None:
    """Predicted latency in ms, None where the table does not cover the resolution."""
    if architecture.resolution not in pricing.space.resolutions:
        return None
    return float(pricing.predicted.price(pricing.space.genes(architecture)[None])[0])
