"""What a table's rows say about each other: latency from work, an overhead for each kind, and what whole
kinds have in common.

Devices are odd in kinds, not in single rows: a block with squeeze-excite leaves the accelerator, a kernel
size has no fast path, channels are computed by 32. So a row is compared with its own kind: an overhead for
each kind (family, squeeze-excite, kernel) is fitted beside the work, and then what every class of a grouping
shares (median polish, Tukey 1977) is taken out and reported as one effect. A median is not moved by rows that
are wrong one by one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array
from latency_tables.operators import Operator
from latency_tables.prediction.least_squares import nonnegative

LEAST_MEMBERS: Final = 8
MOST_FITTED: Final = 20_000  # of a larger table an even sample
ODD_FACTOR: Final = 2.5
_OVERHEAD_SHARE: Final = 0.6
_ROUNDS: Final = 3
_OTHERS: Final = "others"


@dataclass(frozen=True)
class Effect:
    """Something that all operators of a kind share. factor: how many times longer (below 1: shorter) than
    others like them.

    overhead_ms: of each operator beyond its work, where that is what is odd; then the factor is over the
    other kinds' overhead.
    """

    kind: str
    members: int
    factor: float
    overhead_ms: float | None = None


@dataclass(frozen=True, eq=False)
class Compared:
    """log_ratios: of each row, measured over what rows of its kind suggest, shape (rows,); effects: of whole
    kinds.

    judged: whether there are enough rows of its kind to judge it by, shape (rows,).
    """

    log_ratios: Array
    judged: npt.NDArray[np.bool_]
    effects: tuple[Effect, ...]


def compare_within_kinds(operators: Sequence[Operator], latency_ms: Array) -> Compared:
    """Compare every row with its kind. Works for any number of rows; a dozen is the least that says
    something."""
    # Of one run each: a row of an operator that runs thirty times a sentence has thirty overheads.
    latency_ms = latency_ms / np.array([op.runs for op in operators])
    kinds = _merged([op.row_kind for op in operators])
    labels = _groupings(operators)
    model, overheads = _work_model(operators, latency_ms, kinds)
    ratios = np.log(latency_ms / model)
    shared, totals = _shared_by_classes(labels, ratios - np.median(ratios))
    left = ratios - shared
    odd = [Effect(name, n, math.exp(v)) for name, (n, v) in totals.items() if abs(v) > math.log(ODD_FACTOR)]
    judged = np.array([kind != _OTHERS for kind in kinds])
    return Compared(left - np.median(left), judged, (*_odd_overheads(kinds, latency_ms, overheads), *odd))


def _groupings(operators: Sequence[Operator]) -> list[list[str]]:
    """For each grouping that some family knows (`Operator.traits`), the kinds first, the class of every
    operator."""
    traits = [op.row_traits for op in operators]
    names = dict.fromkeys(name for found in traits for name in found)
    return [
        [op.row_kind for op in operators],
        *([found.get(name, _OTHERS) for found in traits] for name in names),
    ]


def _merged(labels: Sequence[str]) -> list[str]:
    """Labels of which there are too few to say anything are one class."""
    counts = Counter(labels)
    return [label if counts[label] >= LEAST_MEMBERS else _OTHERS for label in labels]


def _shared_by_classes(
    labels: Sequence[Sequence[str]], ratios: Array
) -> tuple[Array, dict[str, tuple[int, float]]]:
    """(what its classes explain of each row's log ratio, (members, log factor) of every class that shares
    something)."""
    shared, totals = np.zeros(len(ratios)), dict[str, tuple[int, float]]()
    for _ in range(_ROUNDS):
        for names in labels:
            for name, members in _classes(names):
                centre = float(np.median(ratios[members] - shared[members]))
                shared[members] += centre
                totals[name] = (len(members), totals.get(name, (0, 0.0))[1] + centre)
    return shared, totals


def _classes(names: Sequence[str]) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """(name, rows) of every class that is large enough, and is not all there is."""
    found, index = np.unique(_merged(names), return_inverse=True)
    classes = [(str(name), np.flatnonzero(index == number)) for number, name in enumerate(found)]
    return [(n, rows) for n, rows in classes if n != _OTHERS and LEAST_MEMBERS <= len(rows) < len(names)]


def _odd_overheads(kinds: Sequence[str], latency_ms: Array, overheads: dict[str, float]) -> list[Effect]:
    """Kinds whose overhead is most of their latency and much more than that of the others."""
    found = []
    for kind, overhead in overheads.items():
        members = np.array([k == kind for k in kinds])
        others = [value for other, value in overheads.items() if other != kind and value > 0]
        usual = min(others, default=0.0)
        mostly = overhead > _OVERHEAD_SHARE * float(np.median(latency_ms[members]))
        if usual > 0 and mostly and kind != _OTHERS and overhead > 2 * ODD_FACTOR * usual:
            found.append(Effect(kind, int(members.sum()), overhead / usual, overhead))
    return found


def work(op: Operator) -> tuple[float, float, float]:
    """(MACs of matrix products, operations of another rate such as depthwise MACs, bytes moved) of one run of
    an operator."""
    light = float(op.light_operations)
    return max(0.0, op.macs - light) / op.runs, light / op.runs, float(op.bytes_moved)


def _work_model(
    operators: Sequence[Operator], times: Array, kinds: Sequence[str]
) -> tuple[Array, dict[str, float]]:
    """(robustly fitted ms of each operator, overhead in ms of each kind): t = overhead + rates x work, none
    negative.

    Errors are relative to the model, never to the measured time: an entry near 0 would weigh more than all
    others. Ratios are clipped at first, and rows further off than that do not take part at last.
    """
    names, index = np.unique(np.asarray(kinds), return_inverse=True)
    features = np.hstack([np.eye(len(names))[index], np.array([work(op) for op in operators])])
    scale = features.max(axis=0)
    features = features / np.where(scale > 0, scale, 1.0)
    sample = np.unique(np.linspace(0, len(times) - 1, min(len(times), MOST_FITTED)).astype(int))
    coefficients = _fitted(features[sample], times[sample])
    model: Array = np.maximum(features @ coefficients, 1e-12)
    return model, {str(name): float(c) for name, c in zip(names, coefficients, strict=False)}


def _fitted(features: Array, times: Array) -> Array:
    """Coefficients that are not negative, robust against rows that are wrong one by one, shape
    (features,)."""
    present = features > 1e-3
    start = [
        float(np.median(times[rows] / column[rows])) if rows.any() else 0.0
        for column, rows in zip(features.T, present.T, strict=True)
    ]
    model: Array = features @ np.array(start) / np.maximum(present.sum(axis=1), 1)
    coefficients = np.array(start)
    for step in range(40):
        rows, ratios = features / model[:, None], times / model
        ratios = ratios / np.median(ratios) if step == 0 else ratios
        kept = np.abs(np.log(ratios)) < math.log(2.5) if step >= 25 else np.ones(len(times), dtype=bool)
        target = np.clip(ratios, 0.5, 2.0)
        gram = rows[kept].T @ rows[kept]
        gram += 1e-9 * max(np.trace(gram), 1e-9) * np.eye(len(gram))
        coefficients = nonnegative(gram, rows[kept].T @ target[kept])
        model = np.maximum(features @ coefficients, 1e-12)
    return coefficients
