"""How a training step is computed so that it keeps a limit on memory: parts of the batch one after the other,
batch-norm by standing statistics, blocks recomputed in the backward pass.

Found on 224-pixel steps: freezing weights saves nothing by itself; with standing statistics, one sample at a
time and recomputation a full fine-tuning takes a fraction of the tensors and the same gradients
(docs/adapt.md, "Memory"). The faster a method, the more it keeps, so the fastest that keeps the limit is
taken. What a method takes is measured on this very process, from the thriftiest on upwards: a method is tried
only where what was measured before says that it fits, so that looking for one does not break the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from supernets.errors import InvalidCheckpoint, MemoryLimitTooLow
from supernets.training import memory

LEAST_FOR_STATISTICS: Final = 8  # samples that batch statistics are taken over
MARGIN: Final = 0.05  # of the limit, for what differs from step to step
_MB: Final = 2**20


@dataclass(frozen=True)
class Method:
    """micro_batch: samples that go through the network together, None for the whole batch. frozen: batch-norm
    by the statistics that stand, so that micro-batches give the gradients of one batch. recompute: each
    block's inside in the backward pass."""

    micro_batch: int | None = None
    frozen: bool = False
    recompute: bool = False

    def parts(self, samples: int) -> Iterator[tuple[slice, float]]:
        """The parts of a batch, each with its share of the samples; none is a left-over too small for
        statistics."""
        size = samples if self.micro_batch is None else self.micro_batch
        count = max(1, math.ceil(samples / size) if self.frozen else samples // size)
        edges = [round(samples * part / count) for part in range(count + 1)]
        for start, end in pairwise(edges):
            yield slice(start, end), (end - start) / samples

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Method:
        """Raises InvalidCheckpoint."""
        try:
            return cls(**data)
        except TypeError as error:
            raise InvalidCheckpoint(
                f"the checkpoint names a method that is not known here: {error}"
            ) from error

    def __str__(self) -> str:
        batch = "whole batches" if self.micro_batch is None else f"micro-batches of {self.micro_batch}"
        statistics = ", batch-norm statistics stand" if self.frozen else ""
        return batch + statistics + (", blocks recomputed" if self.recompute else "")


@dataclass(frozen=True)
class MemoryUse:
    """What a training took. peak_mb: most memory of its process (resident, with Python and torch); limit_mb:
    what it was allowed, None where nobody asked."""

    limit_mb: int | None
    peak_mb: float
    method: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Stepping(Protocol):
    """Computes gradients of one step by a method, and takes none."""

    def __call__(self, method: Method) -> None: ...


def methods(batch: int, *, standing: bool, must_stand: bool = False) -> list[Method]:
    """All methods for a batch of that many samples, the fastest first.

    standing: whether the network may be trained with the statistics it has. A supernet may not, for each of
    its sub-networks has others: its micro-batches stay large enough for statistics of their own.
    must_stand: weights are frozen, which only standing statistics make use of.
    """
    least = 1 if standing else min(batch, LEAST_FOR_STATISTICS)
    sizes = [batch]
    while sizes[-1] // 2 >= least:
        sizes.append(sizes[-1] // 2)
    found = []
    for recompute in (False, True):
        for size in sizes:
            frozen = must_stand or size < min(batch, LEAST_FOR_STATISTICS)
            found.append(Method(None if size == batch else size, frozen, recompute))
    return found


def kept_bytes(step: Callable[[], object]) -> int:
    """What autograd would keep from a forward pass to its backward pass, parameters included; nothing of it
    is held. `step` must not go backwards."""
    total = 0

    def count(tensor: Tensor) -> None:
        nonlocal total
        total += tensor.nbytes

    with torch.autograd.graph.saved_tensors_hooks(count, _nothing):
        step()
    return total


def _nothing(_: object) -> Tensor:
    raise AssertionError("a counted step does not go backwards")


class Meter:
    """The peak of this process over several measurements, each of which begins again."""

    def __init__(self) -> None:
        self.peak = memory.peak_bytes()

    def of(self, work: Callable[[], None]) -> int:
        """The peak while that is done, bytes."""
        self.peak = max(self.peak, memory.peak_bytes())
        memory.begin_peak()
        work()
        found = memory.peak_bytes()
        self.peak = max(self.peak, found)
        return found

    def whole(self) -> int:
        """The peak since the process began."""
        self.peak = max(self.peak, memory.peak_bytes())
        return self.peak


def choose(
    limit_mb: int,
    candidates: list[Method],
    batch: int,
    step: Stepping,
    kept: Callable[[Method], int],
    meter: Meter,
    greatest: Callable[[float], float] = float,
) -> Method:
    """The fastest method whose measured step keeps the limit.

    step: gradients of one step by a method. kept: what autograd keeps of its first part. greatest: of the
    values of all processes that train together. Raises MemoryLimitTooLow with the least limit that works.
    """
    limit = limit_mb * _MB * (1 - MARGIN)
    rest, thrifty = greatest(memory.resident_bytes()), candidates[-1]
    peak = greatest(meter.of(lambda: step(thrifty)))
    before = greatest(meter.whole())
    if before > limit:
        raise too_low(limit_mb, before)
    least = thrifty.micro_batch or batch
    inside, open_bytes = max(peak - rest, 0), greatest(kept(_without_recomputing(thrifty)))
    for method in candidates[:-1]:
        times = (method.micro_batch or batch) / least
        expected = rest + times * (inside + (0 if method.recompute else open_bytes))
        if expected > limit:
            continue
        if greatest(meter.of(partial(step, method))) <= limit:
            return method
    return thrifty


def too_low(limit_mb: int, peak: float) -> MemoryLimitTooLow:
    """The error that names the least limit that works."""
    least = math.ceil(peak / (1 - MARGIN) / _MB)
    return MemoryLimitTooLow(
        f"no method keeps {limit_mb} MB: the thriftiest was measured at {peak / _MB:.0f} MB, with Python and "
        f"torch; the least limit that works here is memory_mb={least}. A smaller network or resolution takes "
        "less",
        least,
    )


def _without_recomputing(method: Method) -> Method:
    return Method(method.micro_batch, method.frozen)
