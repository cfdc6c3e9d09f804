"""Is a table to be believed? Consistency within kinds of operators, units, replays, replication, drift.

Every check is a pure function. A finding of severity `review` keeps a table from being used silently; a
`warning` is shown. docs/devices.md lists every finding with its meaning. A cross-check against whole networks
finds wrong units and wrong scales but misses single poisoned entries, so these are found by comparing each
row with what the others say about such an operator.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array
from latency_tables.kinds import Effect, compare_within_kinds
from latency_tables.measurement import Measurement
from latency_tables.measuring.speed import CLEARLY, MOST_LOAD, Speed
from latency_tables.operators import Operator
from latency_tables.prediction.uses import groups_of
from latency_tables.table import LatencyTable


class Severity(StrEnum):
    """Whether a finding keeps a table from being used."""

    REVIEW = "review"  # not before somebody has looked at it
    WARNING = "warning"  # it is told, and nothing more


class FindingKind(StrEnum):
    """What may be odd about a table; `docs/devices.md` says what to do about each. Agents may tell others."""

    NEIGHBOURS = "neighbours"  # a row is far from what the other rows of its kind say
    ODD_KIND = "odd_kind"  # a kind of operators is alike, and unlike others
    NOT_MONOTONE = "not_monotone"  # a larger operator is faster than a smaller one
    IDENTICAL_ROWS = "identical_rows"  # copies
    NO_SPREAD = "no_spread"  # a clock too coarse, or numbers that nobody measured
    SCALE = "scale"  # another unit, or another device
    SESSIONS_DIFFER = "sessions_differ"  # the device was slower in some sessions
    BUSY = "busy"  # more wanted to run than there are cores
    CPU_QUOTA = "cpu_quota"  # a container's quota pauses the network
    UNSTABLE = "unstable"  # a row did not settle
    THROTTLED = "throttled"  # the device got slow for good
    SUSPENDED = "suspended"  # it slept meanwhile
    IMPORTED = "imported"  # it needed a review where it was exported from


LEAST_ROWS: Final = 12
TOO_FAST: Final = 0.3
TOO_FAST_ALONE: Final = 0.06  # of a kind of which there are too few rows to know what is usual
TOO_SLOW: Final = 6.0
MONOTONE: Final = 0.6
MOST_SINGLY: Final = 10
UNIT_RANGE: Final = (0.35, 1.6)
UNIT_RANGE_OF_SENTENCES: Final = (0.35, 12.0)
"""Where networks write sentences: between two steps their host chooses words and hands caches on, which no
row holds and a calibration learns; of small networks it is most of the time."""
SCALE_GATE: Final = 1.2
REPLICATION: Final = 0.05
REPLICATION_TAU: Final = 0.95
DRIFT: Final = 0.05


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd. operator: canonical text, where it concerns one row."""

    kind: str
    severity: Severity
    message: str
    operator: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        return {
            "kind": self.kind,
            "severity": self.severity,
            "message": self.message,
            "operator": self.operator,
        }


def needs_review(findings: Iterable[Finding]) -> bool:
    """Whether a table with these findings must not be used before somebody has looked at it."""
    return any(f.severity == Severity.REVIEW for f in findings)


def review_table(table: LatencyTable, flags: Mapping[Operator, Sequence[str]] | None = None) -> list[Finding]:
    """Everything that can be said from the rows alone. `flags`: what the agent said of a row (`unstable`,
    `throttled`)."""
    return [
        *against_kind(table),
        *not_monotone(table),
        *repeated(table),
        *flagged(flags or {}),
    ]


def against_kind(table: LatencyTable) -> list[Finding]:
    """Rows that do not fit what the table's other rows of their kind say, and kinds that are odd as a whole.

    A row far off in the logarithm, seen against the spread of its family, is reported; one that is too fast
    keeps the table from being used. What a whole kind shares (see `latency_tables.kinds`) is a property of
    the device: a warning.
    """
    if len(table.rows) < LEAST_ROWS:
        return []
    operators = list(table.rows)
    times = np.array([table.rows[op].latency_ms for op in operators])
    compared = compare_within_kinds(operators, times)
    # Seen against the spread of what is most alike: a family at one kernel size, say.
    families = groups_of(operators)[0]
    found = [_odd_kind(effect) for effect in compared.effects]
    for family in np.unique(families):
        members = np.flatnonzero(families == family)
        spread = 1.4826 * np.median(np.abs(compared.log_ratios[members]))
        low = max(min(math.log(TOO_FAST), -5 * spread), math.log(TOO_FAST / 2))
        high = max(math.log(TOO_SLOW), 5 * spread)
        for index in members:
            off = compared.log_ratios[index]
            least = low if compared.judged[index] else math.log(TOO_FAST_ALONE)
            if not least <= off <= high:
                found.append(_odd_row(operators[index], float(times[index]), float(off)))
    return found


def _odd_row(operator: Operator, latency_ms: float, off: float) -> Finding:
    word, factor = "faster" if off < 0 else "slower", math.exp(abs(off))
    message = (
        f"{latency_ms:.3g} ms is {factor:.1f} times {word} than the table's other rows of that kind "
        "suggest; measure it again"
    )
    return Finding(
        FindingKind.NEIGHBOURS, Severity.REVIEW if off < 0 else Severity.WARNING, message, operator.text
    )


def _odd_kind(effect: Effect) -> Finding:
    if effect.overhead_ms is not None:
        what = (
            f"take {effect.overhead_ms:.3g} ms each beyond their work, {effect.factor:.0f} times the "
            "overhead of other kinds"
        )
    else:
        factor = effect.factor if effect.factor > 1 else 1 / effect.factor
        what = (
            f"take {factor:.1f} times as {'long' if effect.factor > 1 else 'little'} as their work suggests"
        )
    return Finding(
        FindingKind.ODD_KIND,
        Severity.WARNING,
        f"all {effect.members} operators of one kind ({effect.kind}) {what}",
    )


def not_monotone(table: LatencyTable) -> list[Finding]:
    """Rows much faster than an operator that is smaller along one axis of their family (`Operator.axes`): a
    smaller image, say, fewer mid channels, a smaller kernel."""
    found: dict[str, Finding] = {}
    for size in dict.fromkeys(name for op in table.rows for name in op.axes):
        groups: dict[tuple[object, ...], list[Operator]] = {}
        for op in table.rows:
            if size in op.axes:
                groups.setdefault(_without(op, size), []).append(op)
        for group in groups.values():
            ordered = sorted(group, key=lambda op: getattr(op, size))
            for small, large in pairwise(ordered):
                fast, slow = table.rows[large].latency_ms, table.rows[small].latency_ms
                if fast < MONOTONE * slow:
                    message = (
                        f"faster than the same operator with a smaller {size} ({fast:.3g} ms against "
                        f"{slow:.3g} ms)"
                    )
                    found.setdefault(
                        large.text, Finding(FindingKind.NOT_MONOTONE, Severity.WARNING, message, large.text)
                    )
    if len(found) <= MOST_SINGLY:
        return list(found.values())
    example = next(iter(found.values()))
    message = (
        f"{len(found)} operators are faster than smaller ones of their kind; one is "
        f"{example.operator}, {example.message}"
    )
    return [Finding(FindingKind.NOT_MONOTONE, Severity.WARNING, message)]


def _without(op: Operator, size: str) -> tuple[object, ...]:
    """What has to agree between operators that are compared along an axis."""
    dropped = (size, *op.axes[size])
    return (op.family, *(value for name, value in op.values.items() if name not in dropped))


def repeated(table: LatencyTable) -> list[Finding]:
    """Replays: operators of different work with the same latency to the last digit, or repeats that never
    differ.

    Operators of equal work may agree: tables from a formula or a simulator are tables too.
    """
    found = []
    distinct = {(m.latency_ms, op.macs) for op, m in table.rows.items()}
    precise = [v for v, _ in distinct if len(repr(v).replace(".", "").strip("0")) >= 6]
    most = Counter(precise).most_common(1)
    if most and most[0][1] >= max(3, 0.02 * len(table.rows)):
        message = (
            f"{most[0][1]} different operators have the same latency to the last digit; measurements do not"
        )
        found.append(Finding(FindingKind.IDENTICAL_ROWS, Severity.REVIEW, message))
    told = [m for m in table.rows.values() if m.mad_ms is not None and (m.count or 0) >= 10]
    still = sum(m.mad_ms == 0 for m in told)
    if len(told) >= LEAST_ROWS and still > 0.5 * len(told):
        message = (
            f"{still} of {len(told)} rows were measured 10 times or more without any spread; a clock "
            "this coarse, or copies"
        )
        found.append(Finding(FindingKind.NO_SPREAD, Severity.REVIEW, message))
    return found


def flagged(flags: Mapping[Operator, Sequence[str]]) -> list[Finding]:
    """What the agent noticed, as warnings: these rows are used, but not silently."""
    return [
        Finding(flag, Severity.WARNING, f"the agent found this operator {flag} after repeats", op.text)
        for op, names in flags.items()
        for flag in names
    ]


def check_scale(
    sums_ms: Sequence[float] | Array,
    measured_ms: Sequence[float] | Array,
    expected: float | None = None,
    *,
    sentences: bool = False,
) -> list[Finding]:
    """Wrong units or a foreign table: whole networks against the sums of their rows (8 networks or more are
    best).

    expected: measured / sum that an earlier table of this device had; without it only what no device shows is
    reported. sentences: whether the networks write sentences.
    """
    ratios = np.asarray(measured_ms, dtype=np.float64) / np.asarray(sums_ms, dtype=np.float64)
    if len(ratios) == 0:
        return []
    ratio = float(np.median(ratios))
    usual = UNIT_RANGE_OF_SENTENCES if sentences else UNIT_RANGE
    low, high = usual if expected is None else (expected / SCALE_GATE, expected * SCALE_GATE)
    if low <= ratio <= high:
        return []
    hint = (
        "the unit is not ms"
        if not 0.02 < ratio < 50
        else "the table is of another context or device, or its values are scaled"
    )
    message = (
        f"whole networks take {ratio:.3g} times the sum of their rows, {low:.2f} to {high:.2f} was "
        f"expected: {hint}"
    )
    return [Finding(FindingKind.SCALE, Severity.REVIEW, message)]


def check_speeds(groups: Sequence[Speed]) -> list[Finding]:
    """The sentinel through a session: more than 5 % apart, beyond its noise, means that the device ran at
    different speeds."""
    if len(groups) < 2:
        return []
    fast, slow = min(groups, key=lambda g: g.sentinel_ms), max(groups, key=lambda g: g.sentinel_ms)
    noise = CLEARLY * math.hypot(fast.error or 0.0, slow.error or 0.0)
    apart = slow.sentinel_ms / fast.sentinel_ms - 1 - noise
    if apart <= DRIFT:
        return []
    message = (
        f"the device was {apart:.0%} slower in some sessions than in others beyond their noise; the rows "
        "are those of the "
        "undisturbed device, and bounds allow for the difference"
    )
    return [Finding(FindingKind.SESSIONS_DIFFER, Severity.WARNING, message)]


def check_load(loads: Sequence[float]) -> list[Finding]:
    """Runnable processes a core while each group was measured; an agent starts below the limit, and others
    may come later."""
    busy = [load for load in loads if load > MOST_LOAD]
    if not busy:
        return []
    message = (
        f"{len(busy)} of {len(loads)} sessions were measured while up to {max(busy):.1f} processes a core "
        "wanted to run; "
        "they took longer, until enough quiet moments were seen"
    )
    return [Finding(FindingKind.BUSY, Severity.WARNING, message)]


def check_quota(cpu_quota: object, threads: int) -> list[Finding]:
    """A container's limit of processor time, in cores, as an agent told it (so of any type) beside the
    runtime's threads.

    A limited process runs at full speed until its share of a period is used up, and then stands still:
    medians are those of the undisturbed runs, while some requests wait for tens of milliseconds.
    """
    if not isinstance(cpu_quota, int | float) or isinstance(cpu_quota, bool) or not 0 < cpu_quota <= threads:
        return []
    message = (
        f"a CPU quota allows the agent {cpu_quota:g} cores for {threads} threads: medians do not show the "
        "pauses that it makes. "
        "Measure without it (docker run without --cpus), or compare the 95th percentiles"
    )
    return [Finding(FindingKind.CPU_QUOTA, Severity.WARNING, message)]


@dataclass(frozen=True)
class Comparison:
    """Two measurements of the same operators. change: median of |second / first - 1|; kendall_tau: of their
    order.

    moved: operators that changed by more than the limit, most changed first. holds: within 5 % (and tau 0.95
    for tables).
    """

    operators: int
    change: float
    kendall_tau: float
    moved: tuple[Operator, ...]
    holds: bool


def replication(first: LatencyTable, second: LatencyTable) -> Comparison:
    """The same device profiled twice: reproducible when the median difference is <= 5 % and Kendall's tau >=
    0.95."""
    comparison = _compare(first.rows, second.rows)
    holds = (
        comparison.operators >= 2
        and comparison.change <= REPLICATION
        and comparison.kendall_tau >= REPLICATION_TAU
    )
    return Comparison(
        comparison.operators, comparison.change, comparison.kendall_tau, comparison.moved, holds
    )


def drift(table: LatencyTable, again: Mapping[Operator, Measurement]) -> Comparison:
    """Does the table still hold? A few operators measured again; `moved` says what to re-measure, all of it
    if they all moved."""
    comparison = _compare(table.rows, again)
    mostly = len(comparison.moved) > comparison.operators / 2
    moved = tuple(table.rows) if mostly else comparison.moved
    holds = comparison.operators >= 1 and comparison.change <= DRIFT and not mostly
    return Comparison(
        comparison.operators, comparison.change, comparison.kendall_tau, () if holds else moved, holds
    )


def _compare(first: Mapping[Operator, Measurement], second: Mapping[Operator, Measurement]) -> Comparison:
    shared = [op for op in first if op in second]
    if not shared:
        return Comparison(0, math.inf, 0.0, (), False)
    a = np.array([first[op].latency_ms for op in shared])
    b = np.array([second[op].latency_ms for op in shared])
    changes = np.abs(b / a - 1)
    moved = tuple(shared[i] for i in np.argsort(-changes) if changes[i] > DRIFT)
    return Comparison(len(shared), float(np.median(changes)), kendall_tau(a, b), moved, False)


def kendall_tau(a: npt.ArrayLike, b: npt.ArrayLike, most: int = 3000) -> float:
    """Kendall's tau-b; of an even sample of `most` pairs of values when there are more."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(x) > most:
        index = np.linspace(0, len(x) - 1, most).astype(int)
        x, y = x[index], y[index]
    if len(x) < 2:
        return 1.0
    upper = np.triu_indices(len(x), 1)
    dx, dy = np.sign(np.subtract.outer(x, x)[upper]), np.sign(np.subtract.outer(y, y)[upper])
    pairs = math.sqrt(float((dx != 0).sum()) * float((dy != 0).sum()))
    return float((dx * dy).sum() / pairs) if pairs else 1.0
