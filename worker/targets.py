"""The targets of a search: priced, solved, tightened by what was measured, compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from latency_tables.errors import InfeasibleBudget, NoTable
from service.db import devices
from service.pricing import PriceBook, Pricing, at_resolutions
from supernets.accuracy import AccuracyPredictor
from supernets.search.catalog import solve
from supernets.search.problem import Candidate, Constraint, Problem, SearchResult
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space


@dataclass
class Target:
    """One device and budget. limit_ms: what the bound must keep; `tighten` lowers it after a broken budget."""

    index: int
    device: str
    device_id: str
    table_id: str
    budget_ms: float
    pricing: Pricing
    limit_ms: float
    ruled_out: set[str] = field(default_factory=set)
    measured_ms: list[float] = field(default_factory=list)

    @property
    def reachable(self) -> tuple[float, float]:
        """Least and greatest latency in ms that the bound allows on this device."""
        return self.pricing.reachable_ms()

    def tighten(self, architecture: Architecture, measured_ms: float) -> None:
        """Rule a network out and hold the bound against what its measurement says about the device."""
        self.ruled_out.add(architecture.digest)
        self.measured_ms.append(measured_ms)
        self.limit_ms = min(self.limit_ms, self.limit_ms * self.budget_ms / measured_ms)


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
    budget_ms = float(item["budget"]["latency_ms"])
    return Target(index, device.name, device.id, pricing.table_id, budget_ms, pricing, budget_ms)


def solve_target(
    target: Target, predictor: AccuracyPredictor, strategy: str, candidates: int, generator: np.random.Generator
) -> Solved:
    """The best networks whose bound keeps the limit. Raises InfeasibleBudget with the reachable range."""
    space, bound = target.pricing.space, target.pricing.held
    least, most = target.reachable
    if target.limit_ms < least:
        raise InfeasibleBudget(
            f"no network of {space.name} keeps {target.budget_ms:g} ms on {target.device}; "
            f"reachable are {least:.4g} to {most:.4g} ms",
            least,
            most,
        )
    score = at_resolutions(predictor.dense(), predictor.space, space)
    wanted = candidates + len(target.ruled_out)
    problem = Problem(space.chain, score, (Constraint("latency_ms", bound, target.limit_ms),), wanted)
    result = solve(problem, strategy, generator)
    named = [(c, space.architecture(c.genes)) for c in result.candidates]
    kept = [(c, a) for c, a in named if a.digest not in target.ruled_out][:candidates]
    if not kept:
        raise InfeasibleBudget(
            f"every network of {space.name} that should keep {target.budget_ms:g} ms on {target.device} broke it when measured",
            least,
            most,
        )
    return Solved(result, tuple(c for c, _ in kept), tuple(a for _, a in kept))


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
