"""A network of a search job chosen by measurement: the best few below the budget by prediction, measured on
the device.

The best that keeps the budget is delivered. While what was measured leaves much of it unused, or broke it,
further networks are solved for against what the measured ones took, in at most `ROUNDS` rounds. Noise never
ends a job: what lies too close to the budget is measured again by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

import numpy as np

from service.db.documents import Document
from supernets.accuracy.likelihood import standard_error
from supernets.errors import InfeasibleBudget, SearchUnfinished
from supernets.search.exact.bounds import bounds
from supernets.search.measured import ROUNDS, Choice, Latency, Measured, Reading, settle
from supernets.search.targets import Gauge, Solved, Target
from supernets.spaces.architecture import Architecture
from worker.context import JobRun
from worker.pipelines.search.exported import Equal, ExportedNetwork, compared_with_best
from worker.pipelines.search.verify import OnFile, Verification

CANDIDATES: Final = 3
UNSOLVED: Final = (InfeasibleBudget, SearchUnfinished)


class Solver(Protocol):
    """What a choice needs of the job's solving: candidates, and qualities on validation data by digest."""

    def solved(self, target: Target) -> Solved: ...

    def scored(self, architectures: Sequence[Architecture], *, reduced: bool = False) -> dict[str, float]: ...


class Exporter(Protocol):
    """What a choice needs of the job's files: those of the best candidates, best first."""

    def exported(self, target: Target, solved: Solved, most: int) -> list[ExportedNetwork]: ...


@dataclass
class Levels:
    """Measured / predicted of the networks that a job has measured so far, by device and limit: later targets
    begin there."""

    ratios: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def of(self, gauge: Gauge) -> float:
        return float(np.median(self.ratios.get((gauge.place.device_id, gauge.name), [1.0])))

    def add(self, gauge: Gauge, ratio: float) -> None:
        self.ratios.setdefault((gauge.place.device_id, gauge.name), []).append(ratio)


class Choosing:
    """The choice for one target. candidates: how many are measured at a time."""

    def __init__(
        self,
        run: JobRun,
        solver: Solver,
        files: Exporter,
        verification: Verification,
        levels: Levels,
        target: Target,
        candidates: int = CANDIDATES,
    ) -> None:
        self.run, self.solver, self.exporter = run, solver, files
        self.verification, self.levels, self.target = verification, levels, target
        self.candidates = candidates
        budgets = tuple(gauge.budget for gauge in target.gauges)
        self.choice = Choice[str](budgets, tuple(levels.of(gauge) for gauge in target.gauges))
        self.files: dict[str, ExportedNetwork] = {}
        self.rounds = 0

    def chosen(self, solved: Solved) -> ExportedNetwork | None:
        """The network to deliver, None where nobody answered. Raises InfeasibleBudget where all broke the
        budget."""
        following: Solved | None = self._allowing_for_others(solved)
        while following is not None and self.rounds < ROUNDS:
            # Enough: the best uses most of its budget, so what is left to gain is less than the noise.
            if not self._measured(following) or self.choice.enough():
                break
            following = self._better()
        if not self.choice.found:
            return None
        best = self.choice.chosen() or self._fastest()
        if best is None:
            raise self.slower_than_its_table()
        best, equal = self._fastest_equal(best)
        said = {"device": self.target.device, "networks": len(self.choice.found), "rounds": self.rounds}
        self.run.event(
            "chosen_by_measurement",
            {
                **said,
                "measured_ms": best.latencies[0].ms,
                "accuracy": self.files[best.key].metric.value(best.quality),
            },
        )
        chosen = self.files[best.key].with_latencies(best.latencies, self.lines())
        return replace(chosen, equal=equal)

    def _fastest_equal(self, best: Measured[str]) -> tuple[Measured[str], Equal | None]:
        """(the fastest of the measured networks that validation data cannot tell from the best, how they
        compare). A faster one keeps what the best keeps."""
        faster = [
            m
            for m in self.choice.found
            if all(a.ms <= b.ms for a, b in zip(m.latencies, best.latencies, strict=True))
        ]
        scored = [self.files[m.key].scored for m in (best, *(m for m in faster if m is not best))]
        known = [one for one in scored if one is not None and one.likelihoods]
        if len(known) < len(scored) or len(known) < 2:
            return best, None
        others = [best, *(m for m in faster if m is not best)]
        alike = [
            index
            for index, one in enumerate(known)
            if index == 0
            or known[0].likelihood - one.likelihood < standard_error(known[0].likelihoods, one.likelihoods)
        ]
        if len(alike) < 2:
            return best, None
        taken = min(alike, key=lambda index: others[index].latencies[0].ms)
        return others[taken], compared_with_best(known, taken, len(alike))

    def _allowing_for_others(self, solved: Solved) -> Solved:
        """Solved again where networks of another target of this job took longer on the device than predicted,
        or less."""
        self.target.aim(self.choice.limits_ms())
        if all(level == 1.0 for level in self.choice.levels):
            return solved
        try:
            return self.solver.solved(self.target)
        except UNSOLVED:  # then its own measurement decides
            return solved

    def _measured(self, solved: Solved) -> bool:
        """Measure the best few on every measured device; whether anybody answered."""
        self.rounds += 1
        networks = self.exporter.exported(self.target, solved, self.candidates)
        found = self.settled([OnFile(n.architecture, n.file) for n in networks])
        for network, latencies in zip(networks, found, strict=True):
            if latencies is not None:
                self._keep(network, latencies)
        return any(latencies is not None for latencies in found)

    def settled(self, networks: Sequence[OnFile]) -> list[tuple[Latency, ...] | None]:
        """Latencies of networks on the measured devices, those too close to the budget measured again."""

        def measure(indices: list[int], times: int) -> list[list[list[Reading]]]:
            if times > 1:
                why = "too close to the budget to tell"
                self.run.event(
                    "measuring_again", {"device": self.target.device, "networks": len(indices), "reason": why}
                )
            return self.verification.readings(self.target, [networks[i] for i in indices], times)

        return settle(len(networks), measure, self.choice.budgets_ms)

    def _keep(self, network: ExportedNetwork, latencies: tuple[Latency, ...]) -> None:
        target, digest = self.target, network.architecture.digest
        predicted = tuple(gauge.predicted(network.architecture) for gauge in target.gauges)
        # Measured is known: the next solution must offer other networks, or no round would bring anything.
        target.ruled_out.add(digest)
        self.files[digest] = network
        self.choice.found.append(Measured(digest, predicted, network.validation_accuracy, latencies))
        for gauge, latency, expected in zip(target.gauges, latencies, predicted, strict=True):
            # A device that is slower than its table is so for every network: the next targets aim lower at
            # once.
            self.levels.add(gauge, latency.ms / expected)
            device = gauge.place.device
            broken: Document
            # A whole network is a row of the calibration by its latency; further costs have none.
            if gauge.further is None:
                self.verification.keep(gauge.place, OnFile(network.architecture, network.file), latency)
                broken = {"device": device, "budget_ms": gauge.budget, "measured_ms": latency.ms}
            else:
                broken = {
                    "device": device,
                    "constraint": gauge.name,
                    "limit": gauge.budget,
                    "value": latency.ms,
                }
            if latency.ms > gauge.budget:
                target.broken_ms.extend([latency.ms] if gauge.further is None else [])
                self.run.event("budget_broken", broken)

    def _better(self) -> Solved | None:
        """The next networks, None where none of them can be better than the best that was measured."""
        self.target.aim(self.choice.limits_ms())
        try:
            solved = self.solver.solved(self.target)
        except UNSOLVED:
            return None
        # Measuring costs seconds a network; it is not worth them for one that is less accurate on paper.
        score = partial(self.solver.scored, reduced=True) if self.target.reduced else self.solver.scored
        best, accuracies = self.choice.best(), score(solved.architectures)
        return solved if best is None or max(accuracies.values()) > best.quality else None

    def _fastest(self) -> Measured[str] | None:
        """Before a budget is given up: the fastest network of all is measured."""
        # A table may be wrong about the rest and right about this one; the user waits for a network, not
        # for us.
        self.target.aim_at_fastest()
        try:
            self._measured(self.solver.solved(self.target))
        except UNSOLVED:
            return None
        return self.choice.chosen()

    def lines(self) -> tuple[Document, ...]:
        """What the card says of every measured network, best first."""
        found: list[Document] = []
        for one in sorted(self.choice.found, key=lambda m: -m.quality):
            network = self.files[one.key]
            for gauge, latency in zip(self.target.gauges, one.latencies, strict=True):
                said = {
                    "uncertainty": latency.uncertainty,
                    "readings": latency.readings,
                    "verdict": latency.verdict(gauge.budget).value,
                }
                if gauge.further is not None:  # it follows the latency on its device
                    predicted = gauge.predicted(network.architecture)
                    found[-1][gauge.name] = {"predicted": predicted, "measured": latency.ms, **said}
                    continue
                place = gauge.place
                found.append(
                    {
                        "device": place.device,
                        "architecture": place.pricing.space.to_json(network.architecture),
                        "accuracy_validation": network.metric.value(one.quality),
                        "predicted_ms": place.predicted_ms(network.architecture),
                        "measured_ms": latency.ms,
                        **said,
                    }
                )
        return tuple(found)

    def slower_than_its_table(self) -> InfeasibleBudget:
        """Why no network is delivered: even the fastest that was measured broke the budget. Says what can be
        kept."""
        worst = int(
            np.argmax(
                [
                    min(m.latencies[i].ms for m in self.choice.found) / b
                    for i, b in enumerate(self.choice.budgets_ms)
                ]
            )
        )
        gauge = self.target.gauges[worst]
        place, what = gauge.place, "" if gauge.further is None else f" of {gauge.name}"
        taken = [m.latencies[worst] for m in self.choice.found]
        fastest = min(latency.ms for latency in taken)
        networks = "1 network was" if len(taken) == 1 else f"{len(taken)} networks were"
        readings = sum(latency.readings for latency in taken)
        return InfeasibleBudget(
            f"{networks} measured on {place.device} in {readings} measurements and none kept "
            f"{gauge.budget:g} ms{what}, the fastest took {fastest:.4g} ms; the device takes "
            f"{self.levels.of(gauge):.3g} times what its table predicts. The measurements are kept, so later "
            f"searches allow for it: ask for {1.02 * fastest:.4g} ms or more",
            fastest,
            bounds(gauge.held)[1],
            gauge.name,
        )
