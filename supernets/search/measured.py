"""Choice by measurement: which networks to measure next under a latency budget, and which of the measured to
deliver.

A bound learnt from few networks leaves up to a fifth of a budget unused. Measuring the best few that keep the
budget by prediction costs seconds and tells which of them keep it. A reading has an error of its own, so a
network counts as within the budget when it lies below by `SURE` standard errors; one that lies closer is
measured again until it is settled or was read `MOST_READINGS` times. Predictions are held against the budget
over what networks near it were seen to take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Generic, TypeVar

import numpy as np

Key = TypeVar("Key")

SURE: Final = 2.3
LIKELY: Final = 1.0
"""Standard errors below the budget at which a network is still taken where the sure ones leave much of it
unused."""
BATCHES: Final = (1, 2, 4)
"""How many readings of a network are asked for at a time; the later ones only while it is not settled."""
MOST_READINGS: Final = sum(BATCHES)
ENOUGH: Final = 0.95
"""Share of the budget that a chosen network must use, or others are measured while that can make it
better."""
ROUNDS: Final = 8
UNKNOWN: Final = 0.02
"""Relative standard error of a reading whose source does not tell its own."""


class Verdict(StrEnum):
    """What readings say about a budget: kept or broken beyond their error, or too close to tell."""

    KEPT = "kept"
    BROKEN = "broken"
    UNCLEAR = "unclear"


@dataclass(frozen=True)
class Reading:
    """One measurement of a network in ms. uncertainty: relative standard error."""

    ms: float
    uncertainty: float = UNKNOWN

    def __post_init__(self) -> None:
        if not (
            math.isfinite(self.ms)
            and self.ms > 0
            and math.isfinite(self.uncertainty)
            and self.uncertainty >= 0
        ):
            raise ValueError("a reading is a latency above 0 ms with an uncertainty that is not negative")


@dataclass(frozen=True)
class Latency:
    """What some readings of one network say together. uncertainty: relative standard error of `ms`."""

    ms: float
    uncertainty: float
    readings: int

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Latency:
        """Weighted by their precision; where readings differ by more than they claim, by their own spread."""
        logs = np.log([r.ms for r in readings])
        errors = np.array([max(r.uncertainty, 1e-6) for r in readings])
        # In logarithms: errors of latencies are shares, and a factor must count the same up and down.
        weights = errors**-2 / np.sum(errors**-2)
        centre = float(weights @ logs)
        claimed = float(np.sum(errors**-2) ** -0.5)
        # Two readings may agree by chance; their spread says nothing yet.
        seen = float(np.std(logs, ddof=1)) / math.sqrt(len(logs)) if len(logs) > 2 else 0.0
        return cls(math.exp(centre), max(claimed, seen), len(readings))

    def below(self, budget_ms: float) -> float:
        """How many standard errors this lies below the budget; negative above it."""
        return math.log(budget_ms / self.ms) / max(self.uncertainty, 1e-6)

    def verdict(self, budget_ms: float) -> Verdict:
        off = self.below(budget_ms)
        return Verdict.UNCLEAR if abs(off) < SURE else Verdict.KEPT if off > 0 else Verdict.BROKEN


@dataclass(frozen=True)
class Measured(Generic[Key]):
    """A network that was measured. quality: higher is better (accuracy). predicted_ms, latencies: of each
    budget's device."""

    key: Key
    predicted_ms: tuple[float, ...]
    quality: float
    latencies: tuple[Latency, ...]

    def below(self, budgets_ms: Sequence[float]) -> float:
        """How many standard errors it lies below the budget that it is closest to breaking."""
        return min(one.below(budget) for one, budget in zip(self.latencies, budgets_ms, strict=True))

    def used(self, budgets_ms: Sequence[float]) -> float:
        """Share of a budget that it uses, of the budget of which it uses most."""
        return max(one.ms / budget for one, budget in zip(self.latencies, budgets_ms, strict=True))


@dataclass
class Choice(Generic[Key]):
    """The networks measured so far for one budget, or for those of several devices at once.

    levels: measured / predicted that is expected on each device before any of these was measured.
    """

    budgets_ms: tuple[float, ...]
    levels: tuple[float, ...]
    found: list[Measured[Key]] = field(default_factory=list)

    def limits_ms(self) -> tuple[float, ...]:
        """What predictions of the next networks to be measured must keep, so that they settle just below the
        budgets."""
        limits = []
        for i, (budget, level) in enumerate(zip(self.budgets_ms, self.levels, strict=True)):
            ratios = [m.latencies[i].ms / m.predicted_ms[i] for m in self.found] or [level]
            errors = [m.latencies[i].uncertainty for m in self.found] or [UNKNOWN / math.sqrt(MOST_READINGS)]
            # The smallest error is what a network can be read with once it is settled.
            limits.append(budget * math.exp(-SURE * min(errors)) / float(np.median(ratios)))
        return tuple(limits)

    def best(self) -> Measured[Key] | None:
        """The best network that keeps every budget beyond the error of its readings."""
        return self._best(SURE)

    def enough(self) -> bool:
        """Whether the best one uses so much of the budget that measuring others is not worth the time."""
        best = self.best()
        return best is not None and best.used(self.budgets_ms) >= ENOUGH

    def chosen(self) -> Measured[Key] | None:
        """What to deliver once no more are measured; None where every network broke a budget.

        The best that surely keeps all; where that one leaves much of the budget unused, a better one that
        likely keeps them; where there is neither, the one that lies farthest below in standard errors.
        """
        best = self.best()
        if best is not None and self.enough():
            return best
        below = [m for m in self.found if m.below(self.budgets_ms) >= 0]
        return self._best(LIKELY) or max(below, key=lambda m: m.below(self.budgets_ms), default=None)

    def _best(self, errors: float) -> Measured[Key] | None:
        kept = [m for m in self.found if m.below(self.budgets_ms) >= errors]
        return max(kept, key=lambda m: m.quality, default=None)


Readings = list[list[Reading]]
"""Of one network: readings by budget."""


def settle(
    networks: int, measure: Callable[[list[int], int], list[Readings]], budgets_ms: Sequence[float]
) -> list[tuple[Latency, ...] | None]:
    """The latencies of each of `networks`, those too close to a budget measured again. None where somebody
    did not answer.

    measure: (indices, how many times) -> the readings of each network by budget; fewer than asked for where
    nobody answers.
    """
    readings: list[Readings] = [[[] for _ in budgets_ms] for _ in range(networks)]
    open_ = list(range(networks))
    for times in BATCHES:
        answered = set()
        for index, more in zip(open_, measure(open_, times), strict=True):
            for known, new in zip(readings[index], more, strict=True):
                known.extend(new)
                answered |= {index} if new else set()
        open_ = [i for i in open_ if i in answered and _unclear(readings[i], budgets_ms)]
        if not open_:
            break
    return [tuple(Latency.of(r) for r in one) if all(one) else None for one in readings]


def _unclear(readings: Readings, budgets_ms: Sequence[float]) -> bool:
    """Whether measuring the network again may tell more: none of its budgets is surely broken and one is
    close."""
    verdicts = [Latency.of(r).verdict(b) for r, b in zip(readings, budgets_ms, strict=True) if r]
    return Verdict.BROKEN not in verdicts and Verdict.UNCLEAR in verdicts
