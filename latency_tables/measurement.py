"""What a measurement is: the numbers of one row, and the context they are only valid in."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Final

from latency_tables.errors import InvalidMeasurement

MAX_LATENCY_MS: Final = 1e6


@dataclass(frozen=True, order=True)
class Context:
    """The conditions a latency is valid in. Rows of two contexts never mix."""

    runtime: str
    runtime_version: str
    provider: str
    threads: int
    precision: str
    batch_size: int

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


@dataclass(frozen=True)
class Measurement:
    """Latency of one operator or one whole network, from many short rounds. Means are never kept.

    median_ms, lower_quartile_ms: over the rounds; mad_ms: median absolute deviation; count: rounds.
    The last three are None where the source of the table does not tell.
    """

    median_ms: float
    lower_quartile_ms: float | None = None
    mad_ms: float | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        for value in (self.median_ms, self.lower_quartile_ms):
            if value is not None and not (math.isfinite(value) and 0 < value <= MAX_LATENCY_MS):
                raise InvalidMeasurement(f"a latency must be a finite number of milliseconds in (0, {MAX_LATENCY_MS:g}]")
        if self.mad_ms is not None and not (math.isfinite(self.mad_ms) and 0 <= self.mad_ms <= MAX_LATENCY_MS):
            raise InvalidMeasurement("mad_ms must be finite and not negative")
        if self.count is not None and self.count < 1:
            raise InvalidMeasurement("count must be at least 1")
        if self.lower_quartile_ms is not None and self.lower_quartile_ms > self.median_ms:
            raise InvalidMeasurement("the lower quartile cannot be above the median")

    def times(self, factor: float) -> Measurement:
        """The same on a device that takes that many times as long."""
        lower, mad = (None if v is None else v * factor for v in (self.lower_quartile_ms, self.mad_ms))
        return Measurement(float(self.median_ms * factor), lower, mad, self.count)
