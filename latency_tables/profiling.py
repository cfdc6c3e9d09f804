"""The measuring protocol: what is called, how often, in which order, and what is thrown away.

Calls are warmed up and repeated until one sample is well above the timer's resolution. Samples are taken in many
short rounds, every round in a new random order, so that a slow spell of the machine hits all operators alike. A
sentinel operator is timed all through; a segment of rounds in which it drifted is discarded and taken again after a
pause. What is still noisy is repeated, then flagged. Reported are median, lower quartile and MAD, never a mean: with
3 % outliers a drift check on means gives 74 % false alarms, on medians none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from latency_tables.errors import InvalidMeasurement
from latency_tables.measurement import Measurement
from latency_tables.speed import Speed

Runner = Callable[[], object]


class Clock(Protocol):
    """A monotonic clock. `resolution_ns` is its smallest step.

    busy_ns: time in which this thread was really running, so that samples in which another process had the processor
    are seen; the same as now_ns where that cannot be told.
    """

    resolution_ns: float

    def now_ns(self) -> int: ...

    def busy_ns(self) -> int: ...

    def sleep(self, seconds: float) -> None: ...


class MonotonicClock:
    """The machine's performance counter; never the wall clock, which may jump."""

    resolution_ns = max(1.0, time.get_clock_info("perf_counter").resolution * 1e9)

    def __init__(self, single_thread: bool = False) -> None:
        self._single_thread = single_thread

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def busy_ns(self) -> int:
        return time.thread_time_ns() if self._single_thread else time.perf_counter_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


@dataclass(frozen=True)
class Settings:
    """How to measure. The defaults give 30 samples of every operator in 3 segments of 10 rounds.

    sample_ms: least duration of one sample. drift: relative change of the sentinel at which a segment is discarded.
    discards: segments discarded in a row before the new speed of the device is taken as its speed.
    stolen: share of a sample in which another process had the processor, above which it is taken again, `retakes` times.
    retries: how often an unstable operator is measured again. unstable_ratio: 90th percentile over median;
    unstable_spread: relative spread of the segments' medians; unstable_error: relative standard error of the median.
    """

    warm_up_calls: int = 12
    sample_ms: float = 0.5
    rounds: int = 10
    segments: int = 3
    sentinel_every: int = 12
    drift: float = 0.05
    cool_down_s: float = 1.0
    discards: int = 4
    stolen: float = 0.02
    retakes: int = 4
    retries: int = 3
    unstable_ratio: float = 1.3
    unstable_spread: float = 0.05
    unstable_error: float = 0.03


@dataclass(frozen=True)
class Reading:
    """What one runner gave. sentinel_ms, sentinel_error: the speed of the group. flags: `unstable`, `throttled`."""

    measurement: Measurement
    sentinel_ms: float
    flags: tuple[str, ...] = ()
    sentinel_error: float | None = None


@dataclass
class _Samples:
    """Samples in ms of one runner, by attempt and segment."""

    attempts: list[list[list[float]]] = field(default_factory=list)

    def pooled(self) -> list[float]:
        return [value for attempt in self.attempts for segment in attempt for value in segment]


def measure(
    runners: Mapping[str, Runner],
    settings: Settings,
    clock: Clock,
    generator: np.random.Generator,
    sentinel: str | None = None,
    reference_ms: float | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    copies: Sequence[str] = (),
) -> dict[str, Reading]:
    """Time every runner, interleaved. `sentinel` names the runner that watches for drift (default: the first).

    reference_ms: what the sentinel took when the session began; measured now when left out. `progress` is told the
    fraction done, from 0 to 1. copies: runners that are the sentinel too, elsewhere in memory.
    """
    if not runners:
        return {}
    session = _Session(runners, settings, clock, generator, [sentinel or next(iter(runners)), *copies], progress)
    session.warm_up()
    return session.run(reference_ms)


class _Session:
    def __init__(
        self,
        runners: Mapping[str, Runner],
        settings: Settings,
        clock: Clock,
        generator: np.random.Generator,
        copies: Sequence[str],
        progress: Callable[[float], None],
    ) -> None:
        self._runners, self._settings, self._clock, self._generator = runners, settings, clock, generator
        self._sentinel, self._copies, self._progress = copies[0], copies, progress
        self._inner: dict[str, int] = {}
        self._throttled = False
        self._reference = 0.0

    def warm_up(self) -> None:
        """Drop the cold calls and find how many calls make one sample."""
        least_ns = max(self._settings.sample_ms * 1e6, 100 * self._clock.resolution_ns)
        for name, runner in self._runners.items():
            for _ in range(self._settings.warm_up_calls):
                runner()
            fastest: float = min(self._time_ns(runner, 1) for _ in range(3))
            if fastest <= 0:  # below the timer's step: take more calls at once
                fastest = max(self._time_ns(runner, 1000) / 1000, 1.0)
            self._inner[name] = int(min(10_000, max(1, -(-least_ns // fastest))))

    def run(self, reference_ms: float | None) -> dict[str, Reading]:
        names = list(self._runners)
        samples = {name: _Samples() for name in names}
        first = [_quartile([self._sample_ms(copy) for _ in range(31)]) for copy in self._copies]
        # The session's reference is that of all copies; this one may be faster or slower by where it lies.
        self._reference = first[0] if reference_ms is None else reference_ms * first[0] / Speed.of(first).sentinel_ms
        wanted = names
        for attempt in range(1 + self._settings.retries):
            self._attempt(wanted, samples, attempt)
            wanted = [name for name in wanted if self._unstable(samples[name].attempts[-1])]
            if not wanted:
                break
        self._progress(1.0)
        summaries = {name: self._summary(samples[name]) for name in names}
        speed = Speed.of([m.lower_quartile_ms or m.median_ms for m, _ in (summaries[copy] for copy in self._copies)])
        return {name: Reading(m, speed.sentinel_ms, flags, speed.error) for name, (m, flags) in summaries.items()}

    def _attempt(self, names: Sequence[str], samples: Mapping[str, _Samples], attempt: int) -> None:
        """One set of segments for these runners; segments in which the sentinel drifted are taken again."""
        kept: list[dict[str, list[float]]] = []
        discarded = 0
        while len(kept) < self._settings.segments:
            segment, sentinel_ms = self._segment(names, len(kept), attempt)
            if abs(sentinel_ms / self._reference - 1) <= self._settings.drift:
                kept.append(segment)
                discarded = 0
                continue
            discarded += 1
            if discarded > self._settings.discards:  # it stays that way: start again at the device's new speed
                self._reference, self._throttled = sentinel_ms, True
                kept, discarded = [segment], 0
                continue
            self._clock.sleep(self._settings.cool_down_s)
        for name in names:
            samples[name].attempts.append([segment[name] for segment in kept])

    def _segment(self, names: Sequence[str], done: int, attempt: int) -> tuple[dict[str, list[float]], float]:
        """Samples of some rounds, and the sentinel's lower quartile over them, in ms."""
        found: dict[str, list[float]] = {name: [] for name in names}
        sentinel: list[float] = []
        for turn in range(self._settings.rounds):
            for position, index in enumerate(self._generator.permutation(len(names))):
                if position % self._settings.sentinel_every == 0:
                    sentinel.append(self._sample_ms(self._sentinel))
                found[names[index]].append(self._sample_ms(names[index]))
            sentinel.append(self._sample_ms(self._sentinel))
            share = (done + (turn + 1) / self._settings.rounds) / self._settings.segments
            self._progress(min(0.99, share if attempt == 0 else 0.9 + 0.03 * attempt))
        return found, _quartile(sentinel)

    def _unstable(self, attempt: Sequence[Sequence[float]]) -> bool:
        pooled = np.concatenate([np.asarray(segment) for segment in attempt])
        medians = np.array([np.median(segment) for segment in attempt])
        median = float(np.median(pooled))
        error = 1.4826 * np.median(np.abs(pooled - median)) * np.sqrt(np.pi / 2 / len(pooled))  # of a median, were it normal
        limits = self._settings
        wide = np.quantile(pooled, 0.9) > limits.unstable_ratio * median
        return bool(wide or medians.std() > limits.unstable_spread * median or error > limits.unstable_error * median)

    def _summary(self, samples: _Samples) -> tuple[Measurement, tuple[str, ...]]:
        flags = ("throttled",) if self._throttled else ()
        if not self._unstable(samples.attempts[-1]):
            last = [value for segment in samples.attempts[-1] for value in segment]
            return summarise(last), flags
        return summarise(samples.pooled()), ("unstable", *flags)

    def _sample_ms(self, name: str) -> float:
        """One sample; of several when others took the processor away, the one they took least of."""
        runner, inner = self._runners[name], self._inner[name]
        best, least = 0.0, float("inf")
        for _ in range(1 + self._settings.retakes):
            before = self._clock.busy_ns()
            elapsed = self._time_ns(runner, inner)
            stolen = elapsed - (self._clock.busy_ns() - before)
            if stolen < least:
                best, least = elapsed / inner / 1e6, stolen
            if stolen <= self._settings.stolen * elapsed:
                break
        return best

    def _time_ns(self, runner: Runner, calls: int) -> int:
        start = self._clock.now_ns()
        for _ in range(calls):
            runner()
        elapsed = self._clock.now_ns() - start
        if elapsed < 0:
            raise InvalidMeasurement("the clock went backwards; a monotonic clock is needed")
        return elapsed


def summarise(samples_ms: Sequence[float]) -> Measurement:
    """Median, lower quartile, median absolute deviation and count of samples in ms."""
    values = np.asarray(samples_ms, dtype=np.float64)
    median = float(np.median(values))
    return Measurement(
        median_ms=median,
        lower_quartile_ms=_quartile(values.tolist()),
        mad_ms=float(np.median(np.abs(values - median))),
        count=len(values),
    )


def _quartile(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.25))
