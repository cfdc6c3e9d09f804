"""What of a profile should be measured once more, and what two measurements of the same thing say together.

Noise is no reason to give up: what is doubtful is measured again, a bounded number of times, and what is
still doubtful then carries its uncertainty. Pure functions of measurements.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np

from latency_tables.measurement import Measurement

UNSETTLED: Final = 0.05
"""Uncertainty of a row above which it is measured again."""
DISTURBED: Final = 0.95
"""Factor that brings a session to the undisturbed device, below which all of its rows are measured again."""
DOUBTFUL_ERROR: Final = 0.06
"""Held-out error of predicted networks above which these are measured again; additive devices stay under
0.04."""

Key = TypeVar("Key", bound=Hashable)


def combined(measured: Sequence[Measurement]) -> Measurement:
    """One measurement from several sessions: the fastest, for only what disturbs differs.

    Its uncertainty is how far the second fastest session lies from it.
    What the typical and the rare latencies are, all sessions say together (medians over them).
    """
    if len(measured) == 1:
        return measured[0]
    first, second = sorted(measured, key=lambda m: m.latency_ms)[:2]
    apart = second.latency_ms / first.latency_ms - 1
    # Where no undisturbed latency was told the median stands for it, so it is the fastest session's.
    names = ("p90_ms", "p95_ms") if first.undisturbed_ms is None else ("median_ms", "p90_ms", "p95_ms")
    typical = {name: _median([getattr(m, name) for m in measured], getattr(first, name)) for name in names}
    lowest = min(first.lower_quartile_ms or first.median_ms, typical.get("median_ms") or first.median_ms)
    counts = [m.count for m in measured if m.count is not None]
    return replace(
        first,
        **{name: value for name, value in typical.items() if value is not None},
        lower_quartile_ms=lowest,
        count=sum(counts) or None,
        uncertainty=apart,
    )


def _median(values: Sequence[float | None], least: float | None) -> float | None:
    """The median of those that are known, never below that of the fastest session, so that the statistics
    keep their order."""
    known = [v for v in values if v is not None]
    return None if not known or least is None else max(least, float(np.median(known)))


def unsettled(measured: Mapping[Key, Measurement]) -> list[Key]:
    """What should be measured again, for its halves or its sessions did not agree."""
    return [key for key, m in measured.items() if (m.uncertainty or 0.0) > UNSETTLED]
