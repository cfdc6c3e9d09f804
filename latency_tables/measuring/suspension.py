"""How long this machine has been asleep: a suspended laptop or phone measures nothing, and wakes up cold and
slow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

NOTICED_S: Final = 0.1
"""Below that it is the two clocks read one after the other, on a busy machine."""


def asleep_ns() -> int | None:
    """Nanoseconds spent suspended since the machine was started; None where the system does not tell.

    Linux: CLOCK_BOOTTIME goes on in suspension, CLOCK_MONOTONIC stands still. macOS: CLOCK_MONOTONIC goes on,
    CLOCK_UPTIME_RAW stands still.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        going, standing = time.CLOCK_BOOTTIME, time.CLOCK_MONOTONIC
    elif hasattr(time, "CLOCK_UPTIME_RAW"):
        going, standing = time.CLOCK_MONOTONIC, time.CLOCK_UPTIME_RAW
    else:
        return None
    before = time.clock_gettime_ns(standing)
    now = time.clock_gettime_ns(going)
    after = time.clock_gettime_ns(standing)
    return now - (before + after) // 2


class Suspensions:
    """Tells how long the machine was asleep since it was last asked, or since this was made."""

    def __init__(self, asleep: Callable[[], int | None] = asleep_ns) -> None:
        self._asleep = asleep
        self._known = asleep()

    def since_last_s(self) -> float:
        """Seconds, 0.0 where it was awake all the time or the system does not tell."""
        now = self._asleep()
        if now is None or self._known is None:
            return 0.0
        slept_s = (now - self._known) / 1e9
        self._known = now
        return slept_s if slept_s > NOTICED_S else 0.0
