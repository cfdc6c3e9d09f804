"""What one network of a search is wanted for: solved, aimed by what was measured, compared over devices.

Prices come from outside: whoever prices devices gives each target what `Prices` asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol

import numpy as np

from latency_tables.dense import DenseTable
from latency_tables.measurement import Context, Measurement
from latency_tables.operators.operator import FLOAT
from latency_tables.prediction.calibration import Calibration
from supernets.accuracy.refinement import Refined, RefinedScore
from supernets.errors import InfeasibleBudget, SearchUnfinished
from supernets.search.catalog import solve
from supernets.search.exact.bounds import bounds
from supernets.search.limits import BYTES_PER_VALUE, SIZE, costs_of, limited, unreachable
from supernets.search.problem import MAX_CANDIDATES, Candidate, Constraint, Problem, SearchResult
from supernets.search.restriction import at_resolutions, restricted
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space

LATENCY: Final = "latency_ms"
MORE_RESOLUTIONS: Final = 3
SHORTLIST: Final = 4  # times as many exact solutions as are asked for, of which the refined predictor picks


class Prices(Protocol):
    """Latencies in ms of every network of `space` on a device: sums, predicted, bounded (None: no bound)."""

    @property
    def space(self) -> Space: ...
    @property
    def predicted(self) -> DenseTable: ...
    @property
    def upper(self) -> DenseTable | None: ...
    @property
    def held(self) -> DenseTable: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def doubt(self) -> str | None: ...
    @property
    def lacking(self) -> tuple[str, ...]: ...
    @property
    def calibration(self) -> Calibration: ...
    @property
    def table_facts(self) -> Mapping[str, Any]: ...


class Cost(Protocol):
    """A further cost of every network on a device. read: what a measurement tells of it; None: nothing."""

    @property
    def name(self) -> str: ...
    @property
    def predicted(self) -> DenseTable: ...
    @property
    def upper(self) -> DenseTable | None: ...
    @property
    def held(self) -> DenseTable: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def read(self) -> Callable[[Measurement], float | None] | None: ...


@dataclass
class Further:
    """A further limit of a device's budget. limit: as asked for; aim: what predictions must keep now."""

    cost: Cost
    limit: float
    aim: float

    @property
    def name(self) -> str:
        return self.cost.name

    def value(self, table: DenseTable, space: Space, architecture: Architecture) -> float:
        """What one network costs by a table of the cost."""
        return float(table.price(space.genes(architecture)[None])[0])


@dataclass
class OnDevice:
    """What a target asks of one device. limit_ms: what predictions must keep now; `Target.aim` moves it.

    context: of the device; None: of one that nothing is delivered for. further: limits besides the latency.
    measured: candidates are measured on the device, so they are chosen by prediction; else they are held
    against the bound, where there is one. bounded: the bound was asked for, so it holds in either case.
    whole: prices of what is excluded too. by_prediction: nobody measures and no network keeps the bound, so
    the prediction has to do. in_float: prices of the same networks in float32, where the target has none of
    those; None: its own prices hold them, or the table lacks rows.
    """

    device: str
    device_id: str
    table_id: str
    budget_ms: float
    pricing: Prices
    limit_ms: float
    measured: bool = False
    bounded: bool = False
    whole: Prices | None = None
    context: Context | None = None
    further: tuple[Further, ...] = ()
    by_prediction: bool = False
    in_float: Prices | None = None

    @property
    def predicts(self) -> bool:
        """Whether limits are held against predictions, and not against bounds, before anything is
        measured."""
        return not self.bounded and (self.measured or self.by_prediction)

    @property
    def held(self) -> DenseTable:
        """The latencies that the budget is held against before anything is measured."""
        return self.pricing.predicted if self.predicts else self.pricing.held

    def hold_by_bound(self) -> None:
        """Nobody measures here: limits are held against bounds.

        Where no network keeps the bound of one, and the bound was not asked for, predictions have to do.
        """
        self.measured, self.limit_ms = False, self.budget_ms
        for further in self.further:
            further.aim = further.limit
        held = [(self.held, self.budget_ms), *((self.held_of(f), f.limit) for f in self.further)]
        # A bound that was asked for is a promise; one that is there by itself is better than nothing only
        # while something keeps it.
        self.by_prediction = not self.bounded and any(bounds(table)[0] > limit for table, limit in held)

    def held_of(self, further: Further) -> DenseTable:
        """The costs that a further limit is held against before anything is measured."""
        return further.cost.predicted if self.predicts else further.cost.held

    @property
    def basis(self) -> str:
        """What `held` is."""
        return "prediction" if self.held is self.pricing.predicted else "bound"

    @property
    def reachable(self) -> tuple[float, float]:
        """Least and greatest latency in ms, in terms of `held`."""
        low, high = bounds(self.held)
        return low, high

    def held_ms(self, architecture: Architecture) -> float:
        """The latency of one network in ms, in terms of `held`."""
        return float(self.held.price(self.pricing.space.genes(architecture)[None])[0])

    def predicted_ms(self, architecture: Architecture) -> float:
        """The predicted latency of one network in ms."""
        return float(self.pricing.predicted.price(self.pricing.space.genes(architecture)[None])[0])

    def upper_ms(self, architecture: Architecture) -> float | None:
        """The upper bound of one network's latency in ms; None where there is none."""
        if self.pricing.upper is None:
            return None
        return float(self.pricing.upper.price(self.pricing.space.genes(architecture)[None])[0])


@dataclass(frozen=True)
class Gauge:
    """A limit of a budget that measurements on the device tell about: its latency, or a further cost that
    agents measure."""

    place: OnDevice
    further: Further | None = None

    @property
    def name(self) -> str:
        return LATENCY if self.further is None else self.further.name

    @property
    def budget(self) -> float:
        """As it was asked for."""
        return self.place.budget_ms if self.further is None else self.further.limit

    @property
    def held(self) -> DenseTable:
        return self.place.held if self.further is None else self.place.held_of(self.further)

    def predicted(self, architecture: Architecture) -> float:
        """Of one network, in terms of `held`."""
        return float(self.held.price(self.place.pricing.space.genes(architecture)[None])[0])

    def read(self, answer: Measurement) -> float | None:
        """What a measurement says of it; None where the agent does not tell."""
        if self.further is None:
            return answer.latency_ms
        return None if self.further.cost.read is None else self.further.cost.read(answer)

    def aim(self, limit: float) -> None:
        """What predictions must keep from now on."""
        if self.further is None:
            self.place.limit_ms = limit
        else:
            self.further.aim = limit


@dataclass
class Target:
    """What one network is wanted for: devices with a budget each (several: it keeps all), and limits that
    hold anywhere.

    space: at the resolutions that may be chosen. limits: by name. mask: choices that may not be taken;
    left_out: the same for people. file_overhead_bytes: what files were seen to hold besides weights.
    ruled_out: digests of networks that were measured, or whose file is too large. broken_ms: latencies
    measured above their budget. bytes_per_value: of weights and activations in the delivered precision.
    """

    index: int
    space: Space
    places: tuple[OnDevice, ...]
    limits: dict[str, int] = field(default_factory=dict)
    mask: DenseTable | None = None
    left_out: Mapping[str, object] = field(default_factory=dict)
    ruled_out: set[str] = field(default_factory=set)
    broken_ms: list[float] = field(default_factory=list)
    file_overhead_bytes: int = 0
    bytes_per_value: int = BYTES_PER_VALUE

    @property
    def rounded(self) -> bool:
        """Whether blocks may be in another precision than float32."""
        return self.space.precisions != (FLOAT,)

    @property
    def reduced(self) -> bool:
        """Whether blocks may be less than a supernet has: in another precision, or pruned."""
        return self.rounded or self.space.pruned

    @property
    def label(self) -> str:
        """The target in messages."""
        times = [
            " and ".join(
                [
                    f"{place.device} within {place.budget_ms:g} ms",
                    *(f"{f.name} <= {f.limit:g}" for f in place.further),
                ]
            )
            for place in self.places
        ]
        return " and ".join(times or [f"{name} <= {limit}" for name, limit in self.limits.items()])

    @property
    def device(self) -> str | None:
        """The first device's name; None for limits alone."""
        return self.places[0].device if self.places else None

    @property
    def budget_ms(self) -> float | None:
        """The first device's budget."""
        return self.places[0].budget_ms if self.places else None

    @property
    def measured(self) -> tuple[OnDevice, ...]:
        """The devices on which candidates are measured."""
        return tuple(place for place in self.places if place.measured)

    @property
    def gauges(self) -> tuple[Gauge, ...]:
        """What is measured of a candidate, in this order: of every measured device its latency, then further
        costs."""
        return tuple(
            gauge
            for place in self.measured
            for gauge in (Gauge(place), *(Gauge(place, f) for f in place.further if f.cost.read is not None))
        )

    @property
    def competing(self) -> bool:
        """Whether there are several constraints, which may take the solver seconds."""
        return len(self.places) + sum(len(place.further) for place in self.places) + len(self.limits) > 1

    def aim(self, limits: Sequence[float]) -> None:
        """Hold candidates against these limits, one for each of `gauges`; never below what can be reached
        there."""
        for gauge, limit in zip(self.gauges, limits, strict=True):
            most = min(limit, gauge.budget) if gauge.place.bounded else limit
            # A limit below everything would end the target; the fastest network of all is tried before
            # that.
            least = bounds(gauge.held)[0]
            gauge.aim(max(most, least) if least <= gauge.budget else most)

    def aim_at_fastest(self) -> None:
        """Only the fastest networks of all are left, whatever else is measured of them."""
        for gauge in self.gauges:
            gauge.aim(bounds(gauge.held)[0 if gauge.further is None else 1])

    def hold_by_bound(self) -> None:
        """Nobody measures: every budget is held against the bound, or the prediction where there is none."""
        for place in self.places:
            place.hold_by_bound()

    def named(self, name: str, place: OnDevice) -> str:
        """A limit on a device as constraints and cards name it."""
        return name if len(self.places) == 1 else f"{name} on {place.device}"

    def outgrown(self, architecture: Architecture, size_bytes: int) -> None:
        """Rule out a network whose file is larger than its limit, and expect as much besides the weights of
        the others."""
        self.ruled_out.add(architecture.digest)
        weights = costs_of(self.space, architecture, self.bytes_per_value)[SIZE]
        self.file_overhead_bytes = max(self.file_overhead_bytes, size_bytes - weights)

    def problem(self, score: DenseTable, space: Space, wanted: int = 1) -> Problem:
        """What is to be solved, at the resolutions of `space`. Raises InfeasibleBudget naming the
        constraint."""
        constraints = [
            Constraint(self.named(name, place), at_resolutions(table, place.pricing.space, space), limit)
            for place in self.places
            for name, table, limit in (
                (LATENCY, place.held, place.limit_ms),
                *((f.name, place.held_of(f), f.aim) for f in place.further),
            )
        ]
        alone = Problem(space.chain, score, tuple(constraints), wanted)
        problem = limited(space, alone, self.limits, self.file_overhead_bytes, self.bytes_per_value)
        return (
            problem
            if self.mask is None
            else restricted(problem, at_resolutions(self.mask, self.space, space))
        )


@dataclass(frozen=True)
class Solved:
    """Distinct networks within the limit, best predicted first, none that was ruled out."""

    result: SearchResult
    candidates: tuple[Candidate, ...]
    architectures: tuple[Architecture, ...]


@dataclass(frozen=True)
class Objective:
    """How targets are to be solved. score: additive accuracy over the whole space; candidates: networks to be
    scored.

    refinement: what ranks better than the additive score, where something does; the exact solver cannot
    maximise it.
    """

    space: Space
    score: DenseTable
    strategy: str
    candidates: int
    refinement: Refined | None = None

    def solve(
        self, problem: Problem, space: Space, solver: Solver, generator: np.random.Generator
    ) -> SearchResult:
        """The answer to an additive problem at the resolutions of `space`, ranked by the best predictor there
        is."""
        if self.refinement is None:
            return solver(problem, self.strategy, generator)
        refined = RefinedScore(self.refinement, space.resolutions)
        if self.strategy != "exact":
            return solver(replace(problem, evaluate=refined, costly=False), self.strategy, generator)
        # Each further network within several limits is an integer program of its own, which may take seconds.
        more = SHORTLIST if len(problem.constraints) == 1 else 1
        # The refined predictor has to have something to choose from.
        most = min(more * problem.candidates, MAX_CANDIDATES)
        found = solver(replace(problem, candidates=most), self.strategy, generator)
        return replace(found, candidates=_reranked(found.candidates, refined)[: problem.candidates])


def _reranked(found: tuple[Candidate, ...], refined: RefinedScore) -> tuple[Candidate, ...]:
    """The proven best stays the first, for it is what `optimal` and `gap` speak of; the others follow by the
    refined score."""
    # Where refined scores put another network first, it is among the candidates all the same, and is
    # scored.
    first, *others = found
    scores = refined(np.stack([c.genes for c in found]))[1:]
    return (first, *(others[i] for i in np.argsort(-scores, kind="stable")))


class Solver(Protocol):
    """How a problem is solved: `supernets.search.catalog.solve`, here or in a child."""

    def __call__(self, problem: Problem, strategy: str, generator: np.random.Generator) -> SearchResult: ...


def solve_target(
    target: Target, objective: Objective, generator: np.random.Generator, solver: Solver = solve
) -> Solved:
    """The best networks whose bound keeps the limit. Raises InfeasibleBudget with the reachable range.

    Beside the best few, the best one of other resolutions: the predictor errs alike for like networks, so a
    choice among near copies would be none.
    """
    space = target.space
    _check_reachable(target)
    # Tables may cover fewer resolutions than the predictor knows.
    score = at_resolutions(objective.score, objective.space, space)
    # As many more as are thrown away below: they may be the best ones again.
    wanted = objective.candidates + len(target.ruled_out)
    result = objective.solve(target.problem(score, space, wanted), space, solver, generator)
    found = [*result.candidates]
    # The gates of `gradient` have weighed the resolutions too.
    if objective.candidates > 1 and objective.strategy != "gradient":
        # Several constraints may take HiGHS seconds, so they go where `solver` solves them.
        exactly = partial(solver if target.competing else solve, strategy="exact", generator=generator)
        found += _of_other_resolutions(target, score, {int(c.genes[0]) for c in found}, exactly)
    named = [(c, space.architecture(c.genes)) for c in found]
    kept = [(c, a) for c, a in named if a.digest not in target.ruled_out]
    if not kept:
        raise InfeasibleBudget(
            f"every network of {space.name} that should keep {target.label} was measured or has too large "
            "a file",
            *(target.places[0].reachable if target.places else (-math.inf, math.inf)),
        )
    return Solved(result, tuple(c for c, _ in kept), tuple(a for _, a in kept))


def _check_reachable(target: Target) -> None:
    """Raises InfeasibleBudget for the first limit of a device that no network keeps alone.

    The solver would find that too, after its time, and could not say on which device.
    """
    for place in target.places:
        for further in place.further:
            low, high = bounds(place.held_of(further))
            if further.aim < low:
                raise unreachable(further.name, further.limit, low, high, f" on {place.device}")
        least, most = place.reachable
        if place.limit_ms < least:
            raise InfeasibleBudget(
                f"no network of {target.space.name} keeps {place.budget_ms:g} ms on {place.device}; "
                f"reachable are {least:.4g} to {most:.4g} ms",
                least,
                most,
            )


def _of_other_resolutions(
    target: Target, score: DenseTable, covered: set[int], exactly: Callable[[Problem], SearchResult]
) -> list[Candidate]:
    """The best network of some resolutions that are not covered yet, evenly spread."""
    space = target.space
    # Three of them, evenly spread: neighbouring sizes bring near copies.
    others = [r for r in range(len(space.resolutions)) if r not in covered]
    spread = (
        sorted({others[i] for i in np.linspace(0, len(others) - 1, MORE_RESOLUTIONS).round().astype(int)})
        if others
        else []
    )
    found = []
    for index in spread:
        small = space.at([space.resolutions[index]])
        try:
            best = exactly(target.problem(at_resolutions(score, space, small), small)).candidates[0]
        # This size is too slow for the budget, or took too long: the choice is among fewer.
        except (InfeasibleBudget, SearchUnfinished):
            continue
        # Solved in a space of one resolution, whose index there is 0.
        genes = best.genes.copy()
        genes[0] = index
        found.append(Candidate(genes, best.score, best.costs))
    return found


def cross_device(
    networks: Sequence[tuple[str, Target, Architecture]], targets: Sequence[Target]
) -> dict[str, object]:
    """Predicted latency in ms of every delivered network on every target's device; null where its table lacks
    it."""
    # Of all choices: a network of one target may use what another target excludes.
    devices = {place.device: place.whole or place.pricing for t in targets for place in t.places}
    rows = []
    for model_id, own, architecture in networks:
        if own.device is None:
            continue
        latency = {device: predicted_ms(pricing, architecture) for device, pricing in devices.items()}
        rows.append(
            {"model_id": model_id, "device": own.device, "budget_ms": own.budget_ms, "latency_ms": latency}
        )
    return {"devices": list(devices), "networks": rows}


def predicted_ms(pricing: Prices, architecture: Architecture) -> float | None:
    """Predicted latency in ms, None where the table does not cover the network, or has blocks in other
    precisions."""
    if architecture not in pricing.space:
        return None
    ms = float(pricing.predicted.price(pricing.space.genes(architecture)[None])[0])
    return ms if math.isfinite(ms) else None
