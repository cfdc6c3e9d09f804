"""The units that latencies may be given in. Inside there are milliseconds only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MS: Final = "ms"
UNITS_MS: Final[Mapping[str, float]] = {MS: 1.0, "us": 1e-3, "ns": 1e-6, "s": 1e3}
"""Milliseconds in one of each."""
NAMES: Final[Mapping[str, str]] = {"us": "microseconds", "ns": "nanoseconds", "s": "seconds"}


def to_ms(value: float, unit: str) -> float:
    """A value of that unit in ms. Divided where the unit is smaller: 11.274 us are 0.011274 ms to the last
    digit."""
    factor = UNITS_MS[unit]
    return value * factor if factor >= 1 else value / round(1 / factor)
