"""How fast the device ran while a group was measured, from several copies of one sentinel operator.

One copy does not tell: where its weights happen to lie in memory moves a single operator by some percent from
process to process, while whole networks stay where they are. So each group opens the sentinel several times;
their spread is the noise of the reading, and rows are scaled only where the speed moved by clearly more than
that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

CLEARLY: Final = 2.5  # standard errors
MOST_LOAD: Final = 2.0
"""Runnable processes for each core above which latencies say more about the other programs than about the
device."""


@dataclass(frozen=True)
class Speed:
    """sentinel_ms: median over the copies. error: its relative standard error; None where there were no
    copies."""

    sentinel_ms: float
    error: float | None = None

    @classmethod
    def of(cls, copies_ms: Sequence[float]) -> Speed:
        """From one reading in ms of every copy."""
        middle = float(np.median(copies_ms))
        # Of two copies the median is their mean, and the distance from it says nothing of either.
        if len(copies_ms) < 3:
            return cls(middle)
        spread = 1.4826 * float(np.median(np.abs(np.array(copies_ms) / middle - 1)))
        return cls(middle, spread * math.sqrt(math.pi / 2 / len(copies_ms)))


def factors(groups: Sequence[Speed], reference_ms: float | None = None) -> list[float]:
    """What the latencies of each group are multiplied by to be those of the undisturbed device; 1 within the
    noise.

    The device is undisturbed in the fastest group; reference_ms: or faster, where it was ever seen so.
    """
    if not groups:
        return []
    usual = min([*(g.sentinel_ms for g in groups), *([] if reference_ms is None else [reference_ms])])
    known = [g.error for g in groups if g.error is not None]
    shared = math.sqrt(float(np.mean(np.square(known)))) if known else math.inf

    # The fastest of many is fast by chance too; so much farther must a group lie from it.
    clearly = CLEARLY + math.sqrt(2 * math.log(len(groups)))

    def factor(group: Speed) -> float:
        noise = math.hypot(max(shared, group.error or 0.0), shared)
        ratio = group.sentinel_ms / usual
        return 1.0 if group.error is None or abs(math.log(ratio)) <= clearly * noise else 1 / ratio

    return [factor(g) for g in groups]


def spread(groups: Sequence[Speed]) -> float | None:
    """Standard deviation of the log of the readings through a session beyond their noise: what another
    session may differ by.

    None for one group.
    """
    if len(groups) < 2:
        return None
    noise = float(np.mean([(g.error or 0.0) ** 2 for g in groups]))
    return math.sqrt(max(0.0, float(np.log([g.sentinel_ms for g in groups]).var(ddof=1)) - noise))
