"""What a measurement is: the numbers of one row, and the context they are only valid in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from latency_tables.errors import InvalidMeasurement

MAX_LATENCY_MS: Final = 1e6
MAX_ENERGY_MJ: Final = 1e9


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

    def differing(self, other: Context) -> tuple[str, ...]:
        """Fields in which the two differ."""
        mine, theirs = self.as_dict(), other.as_dict()
        return tuple(field for field in mine if mine[field] != theirs[field])


@dataclass(frozen=True)
class Measurement:
    """Latency of one operator or one whole network, from many short samples. Means are never kept.

    median_ms, lower_quartile_ms, p90_ms, p95_ms: over the samples, neighbours of the device included; mad_ms:
    median absolute deviation; count: samples. undisturbed_ms: what the device takes when nobody disturbs it
    (lower decile of the samples); uncertainty: relative, how far that statistic of one half of the samples
    lies from that of the other.
    energy_mj: millijoules of one run, which adds up over operators as latency does.
    All but the median are None where the source of the table does not tell.
    """

    median_ms: float
    lower_quartile_ms: float | None = None
    mad_ms: float | None = None
    count: int | None = None
    undisturbed_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    uncertainty: float | None = None
    energy_mj: float | None = None

    def __post_init__(self) -> None:
        for value in (self.median_ms, self.lower_quartile_ms, self.undisturbed_ms, self.p90_ms, self.p95_ms):
            if value is not None and not (math.isfinite(value) and 0 < value <= MAX_LATENCY_MS):
                raise InvalidMeasurement(
                    f"a latency must be a finite number of milliseconds in (0, {MAX_LATENCY_MS:g}]"
                )
        for name, spread in (("mad_ms", self.mad_ms), ("uncertainty", self.uncertainty)):
            if spread is not None and not (math.isfinite(spread) and 0 <= spread <= MAX_LATENCY_MS):
                raise InvalidMeasurement(f"{name} must be finite and not negative")
        if self.energy_mj is not None and not (
            math.isfinite(self.energy_mj) and 0 < self.energy_mj <= MAX_ENERGY_MJ
        ):
            raise InvalidMeasurement(
                f"energy_mj must be a finite number of millijoules in (0, {MAX_ENERGY_MJ:g}]"
            )
        if self.count is not None and self.count < 1:
            raise InvalidMeasurement("count must be at least 1")
        if self.lower_quartile_ms is not None and self.lower_quartile_ms > self.median_ms:
            raise InvalidMeasurement("the lower quartile cannot be above the median")
        ordered = [
            v for v in (self.undisturbed_ms, self.median_ms, self.p90_ms, self.p95_ms) if v is not None
        ]
        if ordered != sorted(ordered):
            raise InvalidMeasurement(
                "undisturbed_ms, median_ms, p90_ms and p95_ms must not fall in this order"
            )

    @property
    def latency_ms(self) -> float:
        """What prices, calibrations and verification use: the undisturbed latency, the median where that is
        not known."""
        return self.median_ms if self.undisturbed_ms is None else self.undisturbed_ms

    def times(self, factor: float) -> Measurement:
        """The same on a device that takes that many times as long."""
        scaled = {f.name: getattr(self, f.name) for f in fields(self)}
        for name, value in scaled.items():
            if name.endswith("_ms") and value is not None:
                scaled[name] = float(value * factor)
        return Measurement(**scaled)

    def to_json(self) -> dict[str, Any]:
        """Plain values by field name, all of them; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """From a mapping that holds at least `median_ms`; other keys are not looked at. Raises
        InvalidMeasurement, KeyError."""
        optional = {f.name: data.get(f.name) for f in fields(cls) if f.name != "median_ms"}
        return cls(median_ms=data["median_ms"], **optional)


LATER_FIELDS: Final = ("undisturbed_ms", "p90_ms", "p95_ms", "uncertainty", "energy_mj")
"""Fields that tables of earlier versions did not have: written only where they are known, so that old tables
keep their bytes."""
