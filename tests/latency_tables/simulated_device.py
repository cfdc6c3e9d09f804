"""A device that is arithmetic: true latencies, noise, outliers, cold calls, neighbours, throttling, and a
virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np


class VirtualClock:
    """Time passes only when something runs. others: elapsed seconds -> processes that want to run too, None:
    not told."""

    def __init__(
        self, resolution_ns: float = 1.0, others: Callable[[float], int | None] = lambda seconds: 0
    ) -> None:
        self.resolution_ns = resolution_ns
        self.elapsed_ns = self.computed_ns = 0.0
        self._others = others

    def now_ns(self) -> int:
        return int(self.elapsed_ns // self.resolution_ns * self.resolution_ns)

    def own_ns(self) -> int | None:
        return int(self.computed_ns)

    def others(self) -> int | None:
        return self._others(self.elapsed_ns / 1e9)


class SimulatedDevice:
    """Runs operators of known latency in ms.

    noise: standard deviation of each call (log-normal). outliers: share of calls that take 2 to 10 times as
    long.
    cold: first calls of every operator that take 5 times as long. preempted: share of calls in which another
    process has the processor for 3 ms. speed: elapsed seconds -> factor on latencies.
    """

    def __init__(
        self,
        latencies_ms: Mapping[str, float],
        seed: int = 0,
        noise: float = 0.0,
        outliers: float = 0.0,
        cold: int = 0,
        preempted: float = 0.0,
        speed: Callable[[float], float] = lambda seconds: 1.0,
        clock: VirtualClock | None = None,
    ) -> None:
        self.latencies_ms = dict(latencies_ms)
        self.clock = clock or VirtualClock()
        self.calls = dict.fromkeys(self.latencies_ms, 0)
        self._generator = np.random.default_rng(seed)
        self._noise, self._outliers, self._cold, self._speed = noise, outliers, cold, speed
        self._preempted = preempted

    def runners(self) -> dict[str, Callable[[], None]]:
        return {name: lambda name=name: self.run(name) for name in self.latencies_ms}

    def run(self, name: str) -> None:
        value = self.latencies_ms[name] * np.exp(self._noise * self._generator.standard_normal())
        if self._generator.random() < self._outliers:
            value *= self._generator.uniform(2, 10)
        if self.calls[name] < self._cold:
            value *= 5
        self.calls[name] += 1
        took_ns = value * 1e6 * self._speed(self.clock.elapsed_ns / 1e9)
        self.clock.elapsed_ns += took_ns
        self.clock.computed_ns += took_ns
        if self._generator.random() < self._preempted:
            self.clock.elapsed_ns += 3e6
