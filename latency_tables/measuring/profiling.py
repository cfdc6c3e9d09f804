"""The measuring protocol: what is called, how often, in which order, and what is kept of it.

Everything to be measured is open at once, and every runner is visited in every round of the whole session, in
random order: one untimed call, then a burst of timed ones. A spell in which neighbours slow the device down
hits all runners alike, and each has samples in the quiet moments. Kept is the latency of the *undisturbed*
device, a low order statistic of the bursts; median, 90th and 95th percentile stand beside it. Rounds go on
until the two halves of the session agree about nearly every runner, or a time limit is reached: then the row
carries its own uncertainty.

Where a network is computed by the thread that calls it, a sample of the undisturbed device is the processor
time of that thread: what it waited for a processor that others held is not the network's. A call that is
longer than a time slice has no elapsed time that is undisturbed while others want to run.

Neighbours come and go, so the quiet level returns. A device that gets hot does not: where the quiet level
itself has risen and does not come back for a time longer than spells last, the sustained speed is kept and
said (`throttled`). The trial that chose the statistic stands in docs/decisions.md. A mean is never kept: one
outlier moves it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from latency_tables.errors import InvalidMeasurement
from latency_tables.measurement import Measurement
from latency_tables.measuring.speed import Speed

Runner = Callable[[], object]
Array = npt.NDArray[np.float64]

_WINDOWS: Final = 15  # of a session, to see how its quiet level moves
_LATE: Final = 5  # the last of them, in which a throttled device has its sustained speed
_BACKWARDS: Final = 3  # readings that went backwards before the clock is refused
_ELAPSED_SHARE: Final = 1 / 100  # of the samples lie below the undisturbed latency, by elapsed time
_OWN_SHARE: Final = 1 / 20  # and by processor time, which holds no waiting: more samples are good


class Clock(Protocol):
    """A monotonic clock. `resolution_ns` is its smallest step.

    own_ns: processor time of the calling thread; None where the system does not tell, or in steps too long.
    others: processes besides this one that want to run right now; None where the system does not tell.
    """

    resolution_ns: float

    def now_ns(self) -> int: ...

    def own_ns(self) -> int | None: ...

    def others(self) -> int | None: ...


class MonotonicClock:
    """The machine's performance counter; never the wall clock, which may jump."""

    resolution_ns = max(1.0, time.get_clock_info("perf_counter").resolution * 1e9)
    _tells_own = time.get_clock_info("thread_time").resolution <= 1e-6  # Windows counts in steps of 15 ms

    def __init__(self) -> None:
        try:
            self._loadavg: int | None = os.open("/proc/loadavg", os.O_RDONLY)
        except OSError:
            self._loadavg = None

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def own_ns(self) -> int | None:
        return time.thread_time_ns() if self._tells_own else None

    def others(self) -> int | None:
        if self._loadavg is None:
            return None
        runnable = os.pread(self._loadavg, 64, 0).split()[3].partition(b"/")[0]
        return int(runnable) - 1  # this one is running too


@dataclass(frozen=True)
class Settings:
    """How to measure.

    warm_up_calls: cold calls of each runner before the first round. burst_ms: least duration of the timed
    part of a visit; burst_calls: timed calls a visit of a runner whose single call is longer than that.
    rounds: at least, where the limit allows; least_rounds: whatever the limit says. least_s: shortest
    session.
    settled: relative difference of the halves of a session below which a runner has settled; settled_share:
    of the runners that must have. limit_s, most_s: a session that has not settled ends between these, after
    `rounds` if those take longer than limit_s. returning_s: how much longer to wait for the quiet level to
    come back.
    slower: factor by which the quiet level must rise to be a change of the device.
    quiet_rounds: in which nobody else wanted to run, or the sentinel was as fast as it is known to be;
    without them a session goes on to its limit. unstable: uncertainty above which a runner is flagged.
    """

    warm_up_calls: int = 3
    burst_ms: float = 0.3
    burst_calls: int = 3
    rounds: int = 40
    least_rounds: int = 10
    least_s: float = 3.0
    settled: float = 0.02
    settled_share: float = 0.97
    limit_s: float = 40.0
    most_s: float = 110.0
    returning_s: float = 60.0
    slower: float = 1.08
    quiet_rounds: int = 10
    unstable: float = 0.05


@dataclass(frozen=True)
class Reading:
    """What one runner gave. sentinel_ms, sentinel_error: speed of the session. flags: `unstable`,
    `throttled`."""

    measurement: Measurement
    sentinel_ms: float
    flags: tuple[str, ...] = ()
    sentinel_error: float | None = None


def measure(
    runners: Mapping[str, Runner],
    settings: Settings,
    clock: Clock,
    generator: np.random.Generator,
    sentinel: str | None = None,
    reference_ms: float | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    copies: Sequence[str] = (),
    in_calling_thread: Collection[str] = (),
) -> dict[str, Reading]:
    """Time every runner, interleaved over the whole session. Raises InvalidMeasurement where the clock is
    none.

    sentinel: runner that tells the speed of the session (default: the first); copies: the same elsewhere in
    memory.
    reference_ms: what it takes on the undisturbed device as far as that is known from earlier sessions.
    progress: told the fraction done, from 0 to 1. in_calling_thread: runners that compute in the thread that
    calls them, so that its processor time is theirs.
    """
    if not runners:
        return {}
    sentinels = [sentinel or next(iter(runners)), *copies]
    session = _Session(runners, settings, clock, generator, sentinels, progress, in_calling_thread)
    session.warm_up()
    session.run(reference_ms)
    return session.readings()


def undisturbed_ms(samples_ms: npt.ArrayLike, share: float = _ELAPSED_SHARE) -> float:
    """What a quiet moment shows: the sample that a share of all lie below, or the second smallest.

    The smallest alone would be whatever the timer got wrong once.
    """
    ordered = np.sort(np.asarray(samples_ms, dtype=np.float64))
    return float(ordered[min(len(ordered), max(2, math.ceil(len(ordered) * share))) - 1])


def repeat_error(samples_ms: npt.ArrayLike, share: float = _ELAPSED_SHARE) -> float:
    """How far the undisturbed latency of the first half of the samples lies from that of the second,
    relative."""
    values = np.asarray(samples_ms, dtype=np.float64)
    if len(values) < 4:
        return 1.0
    half = len(values) // 2
    first, second = undisturbed_ms(values[:half], share), undisturbed_ms(values[half:], share)
    return abs(first - second) / min(first, second)


def summarise(
    samples_ms: Sequence[float] | Array,
    own_ms: Sequence[float] | Array | None = None,
    share: float = _ELAPSED_SHARE,
) -> Measurement:
    """All statistics of samples in ms, in the order in which they were taken.

    samples_ms: elapsed; typical latencies are of these. own_ms: the same without waiting for a processor, and
    share: of them, below the undisturbed latency; by default that is of the elapsed ones too.
    """
    values = np.asarray(samples_ms, dtype=np.float64)
    own = values if own_ms is None else np.asarray(own_ms, dtype=np.float64)
    quartile, median, p90, p95 = (float(v) for v in np.quantile(values, (0.25, 0.5, 0.9, 0.95)))
    return Measurement(
        median_ms=median,
        lower_quartile_ms=quartile,
        mad_ms=float(np.median(np.abs(values - median))),
        count=len(values),
        undisturbed_ms=min(undisturbed_ms(own, share), median),
        p90_ms=p90,
        p95_ms=p95,
        uncertainty=repeat_error(own, share),
    )


class _Level(Enum):
    """The quiet level of a session's last third, against the time before."""

    SAME = "it came back"
    RISEN = "it did not"
    UNKNOWN = "there was no quiet moment"


class _Session:
    def __init__(
        self,
        runners: Mapping[str, Runner],
        settings: Settings,
        clock: Clock,
        generator: np.random.Generator,
        copies: Sequence[str],
        progress: Callable[[float], None],
        in_calling_thread: Collection[str],
    ) -> None:
        self._runners, self._settings, self._clock, self._generator = runners, settings, clock, generator
        self._copies, self._progress = copies, progress
        self._calls: dict[str, tuple[int, int]] = {}  # (samples of a visit, calls of a sample)
        self._times_s: dict[str, list[float]] = {name: [] for name in runners}
        self._samples_ms: dict[str, list[float]] = {name: [] for name in runners}
        # Processor time where it is the runner's, else elapsed time again: what the quiet level is judged by.
        self._own_ms: dict[str, list[float]] = {name: [] for name in runners}
        tells = clock.own_ns() is not None
        self._shares = {
            name: _OWN_SHARE if tells and name in in_calling_thread else _ELAPSED_SHARE for name in runners
        }
        self._alone: dict[str, list[bool]] = {name: [] for name in runners}
        self._quiet_rounds = self._backwards = 0
        self._told = 0.0
        self._throttled = False
        self._begun_ns = 0

    def warm_up(self) -> None:
        """Drop the cold calls and find how many calls make one sample."""
        least_ns = max(self._settings.burst_ms * 1e6, 100 * self._clock.resolution_ns)
        for name, runner in self._runners.items():
            for _ in range(self._settings.warm_up_calls):
                runner()
            times = [self._time_ns(runner, 1) for _ in range(3)]
            fastest = float(min((t for t in times if t is not None), default=0))
            if fastest <= 0:  # below the timer's step: take more calls at once
                fastest = max((self._time_ns(runner, 1000) or 0) / 1000, 1.0)
            calls = int(min(10_000, max(1, -(-least_ns // fastest))))
            self._calls[name] = (1, calls) if calls > 1 else (self._settings.burst_calls, 1)

    def run(self, reference_ms: float | None) -> None:
        """Rounds over everything until it has settled; then some more of what has not."""
        self._begun_ns = self._clock.now_ns()
        names = list(self._runners)
        done = 0
        while True:
            self._round(names)
            done += 1
            limit_s = self._limit_s(done)
            self._tell(max(self._elapsed_s() / limit_s, 0.97 * min(1.0, done / self._settings.rounds)))
            if self._elapsed_s() >= limit_s and done >= self._settings.least_rounds:
                break
            # Looking at every sample costs time in which nothing is measured: not after each round.
            if done >= self._settings.rounds and done % 8 == 0 and self._may_end(reference_ms):
                break
        self._wait_for_the_quiet_level(names)
        self._settle_stragglers()
        self._progress(1.0)

    def readings(self) -> dict[str, Reading]:
        found = {
            name: summarise(
                self._kept(name, self._samples_ms[name]),
                self._kept(name, self._own_ms[name]),
                self._shares[name],
            )
            for name in self._runners
        }
        speed = Speed.of([found[copy].latency_ms for copy in self._copies])
        return {
            name: Reading(m, speed.sentinel_ms, tuple(self._flags(m)), speed.error)
            for name, m in found.items()
        }

    def _flags(self, m: Measurement) -> Iterable[str]:
        if (m.uncertainty or 0.0) > self._settings.unstable:
            yield "unstable"
        if self._throttled:
            yield "throttled"

    def _limit_s(self, done: int) -> float:
        """When a session that does not settle ends: large networks get their rounds, up to most_s."""
        wanted_s = self._elapsed_s() / done * self._settings.rounds
        return min(max(self._settings.limit_s, wanted_s), self._settings.most_s)

    def _may_end(self, reference_ms: float | None) -> bool:
        """Whether the halves agree, and somebody has seen the device undisturbed."""
        if self._elapsed_s() < self._settings.least_s:
            return False
        settled = [self._repeat_error(name) <= self._settings.settled for name in self._runners]
        if np.mean(settled) < self._settings.settled_share:
            return False
        if reference_ms is not None and self._sentinel_ms() <= reference_ms * (1 + self._settings.settled):
            return True
        return self._quiet_rounds >= self._settings.quiet_rounds

    def _sentinel_ms(self) -> float:
        return Speed.of([self._undisturbed_ms(copy) for copy in self._copies]).sentinel_ms

    def _undisturbed_ms(self, name: str) -> float:
        return undisturbed_ms(self._own_ms[name], self._shares[name])

    def _repeat_error(self, name: str) -> float:
        return repeat_error(self._own_ms[name], self._shares[name])

    def _wait_for_the_quiet_level(self, names: Sequence[str]) -> None:
        """Neighbours leave within a minute or so; a quiet level that does not come back is the device's
        own."""
        end_s = self._elapsed_s() + self._settings.returning_s
        while (now := self._quiet_level()) is not _Level.SAME:
            if now is _Level.UNKNOWN and self._elapsed_s() >= self._settings.limit_s:
                return
            if self._elapsed_s() >= end_s:
                self._throttled = now is _Level.RISEN
                return
            self._round(names)

    def _quiet_level(self) -> _Level:
        """How the last third of the session compares with the time before.

        Only samples that nobody was seen to disturb can say that it has risen: what neighbours do is no
        change of the device, and where they were there all the time nothing is known.
        """
        times_s, ratios, alone = self._relative()
        late = times_s >= self._elapsed_s() * (1 - _LATE / _WINDOWS)
        earlier = _levels(times_s[~late], ratios[~late], _WINDOWS - _LATE)
        if len(earlier) < _WINDOWS - _LATE:
            return _Level.SAME  # too short a session to tell
        risen = self._settings.slower * earlier.min()
        later = _levels(times_s[late], ratios[late], _LATE)
        if len(later) == 0 or later.min() <= risen:
            return _Level.SAME
        quiet = ratios[late & alone]
        if len(quiet) < 4 * len(self._runners):
            return _Level.UNKNOWN
        return _Level.RISEN if np.quantile(quiet, 0.1) > risen else _Level.SAME

    def _relative(self) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        """(time in s, relative to its runner's undisturbed latency, whether nobody else wanted to run) of
        every sample."""
        times = np.concatenate([np.asarray(t) for t in self._times_s.values()])
        ratios = np.concatenate([np.asarray(v) / self._undisturbed_ms(n) for n, v in self._own_ms.items()])
        return times, ratios, np.concatenate([np.asarray(a, dtype=bool) for a in self._alone.values()])

    def _settle_stragglers(self) -> None:
        """A few runners that have not settled get rounds of their own, a tenth of the session more."""
        end_s = 1.1 * self._elapsed_s()
        while self._elapsed_s() < end_s:
            late = [name for name in self._runners if self._repeat_error(name) > self._settings.settled]
            if not late or len(late) > len(self._runners) / 4:
                return
            for _ in range(8):
                self._round(late)

    def _kept(self, name: str, samples_ms: Sequence[float]) -> Array:
        """The samples that count: those of the sustained speed, where the device slowed down for good."""
        values = np.asarray(samples_ms)
        if not self._throttled:
            return values
        late = np.asarray(self._times_s[name]) >= self._elapsed_s() * (1 - _LATE / _WINDOWS)
        return values[late] if late.sum() >= 4 else values

    def _round(self, names: Sequence[str]) -> None:
        alone = 0
        for index in self._generator.permutation(len(names)):
            others = self._clock.others()
            undisturbed = others is None or others <= 0
            alone += undisturbed
            self._visit(names[index], undisturbed)
        self._quiet_rounds += alone > len(names) / 2

    def _visit(self, name: str, alone: bool) -> None:
        """One untimed call, for others have used the caches meanwhile; then the timed ones."""
        runner, (samples, calls) = self._runners[name], self._calls[name]
        runner()
        at_s = self._elapsed_s()
        computes_here = self._shares[name] == _OWN_SHARE
        for _ in range(samples):
            begun_ns = self._clock.own_ns() if computes_here else None
            elapsed_ns = self._time_ns(runner, calls)
            if elapsed_ns is not None:
                sample_ns = max(elapsed_ns, self._clock.resolution_ns)
                ended_ns = self._clock.own_ns() if begun_ns is not None else None
                own_ns = sample_ns if begun_ns is None or ended_ns is None else ended_ns - begun_ns
                self._times_s[name].append(at_s)
                self._alone[name].append(alone)
                self._samples_ms[name].append(sample_ns / calls / 1e6)
                # Never above the elapsed time: reading the second clock costs a little, too.
                self._own_ms[name].append(min(sample_ns, max(own_ns, 1.0)) / calls / 1e6)

    def _time_ns(self, runner: Runner, calls: int) -> int | None:
        """None for a reading that went backwards. Raises InvalidMeasurement where that happens again and
        again."""
        start = self._clock.now_ns()
        for _ in range(calls):
            runner()
        elapsed = self._clock.now_ns() - start
        if elapsed >= 0:
            return elapsed
        self._backwards += 1
        if self._backwards > _BACKWARDS:
            raise InvalidMeasurement("the clock went backwards; a monotonic clock is needed")
        return None

    def _elapsed_s(self) -> float:
        return (self._clock.now_ns() - self._begun_ns) / 1e9

    def _tell(self, fraction: float) -> None:
        self._told = max(self._told, min(0.99, fraction))
        self._progress(self._told)


def _levels(times_s: Array, ratios: Array, windows: int) -> Array:
    """The lower decile of the ratios in each of so many windows of time; windows with fewer than four samples
    give none."""
    if len(times_s) == 0:
        return np.empty(0)
    span = max(float(times_s.max() - times_s.min()), 1e-9)
    window = np.minimum(((times_s - times_s.min()) / span * windows).astype(int), windows - 1)
    groups = [ratios[window == w] for w in range(windows)]
    return np.array([np.quantile(group, 0.1) for group in groups if len(group) >= 4])
