"""How many samples may go through a network together: as many as their activations fit into a budget; and how
much memory this process has taken."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from pathlib import Path
from typing import Final

from latency_tables.operators import Operator
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space

ACTIVATION_BYTES: Final = 7 * 2**27  # of float32 activations held at once, beside weights and samples
_COPIES: Final = 2.5
"""Of the values that an operator needs at its peak: each layer of a module makes a tensor of its own where a
deployed operator is fused, and a convolution copies them into the order of channels that suits it."""
_STATUS: Final = Path("/proc/self/status")
_RESET: Final = Path("/proc/self/clear_refs")
_MMAP_THRESHOLD: Final = -3  # of mallopt(3)
_RETURNED_ABOVE: Final = 2**19  # every smaller block would be cleared by the kernel each time it is asked for
_allowed: ContextVar[int] = ContextVar("activation_bytes", default=ACTIVATION_BYTES)


def samples_at_once(operators: Iterable[Operator]) -> int:
    """Samples, at least one, for a walk over many networks of such operators, which keeps the output of every
    operator on the path to the current network and what the largest one needs inside."""
    ops = tuple(operators)
    values = _COPIES * max(op.peak_values for op in ops) + sum(prod(op.output_shape) for op in ops)
    return max(1, int(_allowed.get() / (4 * values)))


def samples_of_space(space: Space, condition: int) -> int:
    """Samples that go through any network of a space together. condition: the resolution of pictures."""
    return samples_at_once(lower(space, space.largest(condition)))


@contextmanager
def activations_within(size_bytes: int) -> Iterator[None]:
    """Fewer samples together than usual, as long as this lasts: recalibrating and scoring within a limit."""
    token = _allowed.set(max(1, min(size_bytes, ACTIVATION_BYTES)))
    try:
        yield
    finally:
        _allowed.reset(token)


def return_freed_memory() -> None:
    """Have the C library give large blocks back when they are freed, instead of keeping them for later.

    Without it the memory of a process never falls, and smaller steps save nothing. Costs a few percent of
    time; does nothing where the C library is not glibc.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(_MMAP_THRESHOLD, _RETURNED_ABOVE)
        libc.malloc_trim(0)


def resident_bytes() -> int:
    """Memory of this process now; the peak where the system does not tell."""
    return _status("VmRSS") or peak_bytes()


def peak_bytes() -> int:
    """Most memory of this process since it began, or since `begin_peak`."""
    told = _status("VmHWM")
    if told:
        return told
    # Not on Linux: there it counts what the parent had before this program was loaded.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def begin_peak() -> None:
    """Count the peak from now on, where the system can; else it stays that of the whole process."""
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return


def _status(name: str) -> int:
    """A line of the kernel's report about this process, in bytes; 0 where there is none."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)
