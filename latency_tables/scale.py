"""Are a table's values in the unit they say? Held against the device's earlier table, other devices, and
published ones.

A table in microseconds under the name `median_ms` is a thousand times off and looks right in every other way:
each row fits the others. Only what is known of other devices can tell. Whole networks tell too
(`trust.check_scale`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from latency_tables.table import LatencyTable
from latency_tables.trust import Finding, FindingKind, Severity
from latency_tables.units import NAMES, UNITS_MS

PUBLISHED: Final[Mapping[str, tuple[float, float]]] = {
    "Samsung Galaxy S7": (7.8e5, 3.2e6),
    "Samsung Galaxy A50": (1.1e6, 3.1e6),
    "Essential Phone": (1.3e6, 5.5e6),
    "Pixel 3": (2.6e6, 6.7e6),
    "Xeon Silver 4114": (1.1e6, 3.9e6),
    "Xeon Gold 6240": (1.9e6, 7.4e6),
    "GTX 1080 Ti": (1.7e6, 8.9e6),
    "Titan RTX": (2.5e6, 1.4e7),
    "GTX 1080 Ti, batch 256": (1.7e8, 1.0e9),
}
"""MACs a millisecond of measured devices: 10th and 90th percentile over the 15,625 networks of NAS-Bench-201.

Source: the latencies published with HELP (Lee et al., NeurIPS 2021), batch 1 unless named.
"""

BEYOND: Final = (
    30.0  # a device this much slower or faster than all known ones is looked at before its table is used
)
CHANGED: Final = 20.0  # between two tables of one device
MOVED: Final = 3.0
LEAST_ROWS: Final = 12
_BEST: Final = 90
_LIKE_A_UNIT: Final = 0.7  # decades


@dataclass(frozen=True)
class Earlier:
    """The device's table in use. name: how messages call it, such as `version 2`."""

    name: str
    table: LatencyTable


def rate(table: LatencyTable) -> float | None:
    """MACs a millisecond that the table's better rows reach; None where too few rows say anything."""
    rates = [op.macs * table.context.batch_size / m.latency_ms for op, m in table.rows.items() if op.macs]
    return float(np.percentile(rates, _BEST)) if len(rates) >= LEAST_ROWS else None


def known_rates(batch_size: int, others: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Published devices of that kind of batch, and the rates of the service's other devices by name."""
    batched = batch_size > 1
    published = {name: span for name, span in PUBLISHED.items() if batched or "batch" not in name}
    return {**published, **{name: (value, value) for name, value in others.items()}}


def check_units(
    table: LatencyTable, earlier: Earlier | None = None, others: Mapping[str, float] | None = None
) -> list[Finding]:
    """Whether the values may be in another unit, or of another device. others: `rate` of the service's other
    devices.

    A table like the device's earlier one is as believable as that one was. One unlike it is believed where
    only the new one is like some known device.
    """
    known = known_rates(table.context.batch_size, others or {})
    strange = _beyond(rate(table), known)
    ratio = None if earlier is None else median_ratio(earlier.table, table)
    if earlier is None or ratio is None:
        return [] if strange is None else [Finding(FindingKind.SCALE, Severity.REVIEW, strange)]
    if 1 / CHANGED < ratio < CHANGED:
        return _moved(ratio, earlier)
    if strange is None and _beyond(rate(earlier.table), known) is not None:
        message = (
            f"{compared(ratio)} in {earlier.name}, which was unlike any known device; this one is like them"
        )
        return [Finding(FindingKind.SCALE, Severity.WARNING, f"its rows take {message}")]
    return [
        Finding(
            FindingKind.SCALE,
            Severity.REVIEW,
            f"its rows take {compared(ratio)} in {earlier.name} of this device; {_hint(ratio)}",
        )
    ]


def median_ratio(first: LatencyTable, second: LatencyTable) -> float | None:
    """Second over first, the median over the operators that both have; None where they share none."""
    shared = [op for op in second.rows if op in first.rows]
    if not shared:
        return None
    return float(np.median([second.rows[op].latency_ms / first.rows[op].latency_ms for op in shared]))


def compared(ratio: float) -> str:
    """`1,000 times as long as`, or `1/1,000 of the time`."""
    return (
        f"{number(ratio)} times as long as"
        if ratio >= 1
        else f"1/{number(1 / ratio)} of the time that they take"
    )


def check_networks(sums_ms: Sequence[float], measured_ms: Sequence[float]) -> list[Finding]:
    """Whole networks that were measured on the device against the sums of the table's rows, far apart (20
    times)."""
    if len(measured_ms) == 0:
        return []
    ratio = float(np.median(np.asarray(measured_ms) / np.asarray(sums_ms)))
    if 1 / CHANGED < ratio < CHANGED:
        return []
    factor = f"{number(ratio)} times" if ratio >= 1 else f"1/{number(1 / ratio)} of"
    message = f"{len(measured_ms)} whole networks measured on this device take {factor} the sum of their rows"
    return [Finding(FindingKind.SCALE, Severity.REVIEW, f"{message}; {_hint(1 / ratio)}")]


def unlike_known(macs: Sequence[float], measured_ms: Sequence[float], batch_size: int = 1) -> str | None:
    """What is wrong with whole networks that no known device is as fast or slow as, or None."""
    if len(measured_ms) == 0:
        return None
    found = float(np.median(np.asarray(macs) * batch_size / np.asarray(measured_ms)))
    return _beyond(found, known_rates(batch_size, {}))


def _moved(ratio: float, earlier: Earlier) -> list[Finding]:
    if 1 / MOVED < ratio < MOVED:
        return []
    return [
        Finding(
            FindingKind.SCALE,
            Severity.WARNING,
            f"its rows take {compared(ratio)} in {earlier.name} of this device",
        )
    ]


def _beyond(value: float | None, known: Mapping[str, tuple[float, float]]) -> str | None:
    """What is wrong with a rate far outside all known ones, or None."""
    if value is None:
        return None
    slowest, fastest = min(known, key=lambda n: known[n][0]), max(known, key=lambda n: known[n][1])
    low, high = known[slowest][0] / BEYOND, known[fastest][1] * BEYOND
    if low <= value <= high:
        return None
    fits = [unit for unit in NAMES if low <= value / UNITS_MS[unit] <= high]
    centre = math.log(low * high) / 2
    unit = min(fits, key=lambda u: abs(math.log(value / UNITS_MS[u]) - centre), default=None)
    if value < low:
        factor, word, device = low * BEYOND / value, "slower than the slowest", slowest
    else:
        factor, word, device = value * BEYOND / high, "faster than the fastest", fastest
    return f"its rows are {number(factor)} times {word} device known here ({device}); {_advice(unit)}"


def _hint(ratio: float) -> str:
    """What to do about values that are `ratio` times what was expected."""
    fits = [unit for unit in NAMES if abs(math.log10(ratio * UNITS_MS[unit])) < _LIKE_A_UNIT]
    return _advice(fits[0] if fits else None)


def _advice(unit: str | None) -> str:
    accept = "if they are true as they stand, accept the version (`bespoke tables accept`)"
    if unit is None:
        return f"correct them, or, {accept}"
    return f"if they are {NAMES[unit]}, import them with --unit {unit} (?unit={unit}); {accept}"


def number(value: float) -> str:
    """A factor as people write it: `1,000`, `3.2`."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
