"""Which operators networks use, and which operators become dearer or cheaper together: what a transfer works
on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array
from latency_tables.operators import Operator

Labels = npt.NDArray[np.int64]


def uses_of(operators: Sequence[Operator], networks: Sequence[Sequence[Operator]]) -> Array:
    """How often each network has each operator, shape (networks, operators). KeyError for an operator that is
    none of these."""
    column = {op: i for i, op in enumerate(operators)}
    found = np.zeros((len(networks), len(operators)))
    for row, network in zip(found, networks, strict=True):
        for op in network:
            row[column[op]] += 1
    return found


def groups_of(operators: Sequence[Operator]) -> list[Labels]:
    """For each grouping that some family knows (`Operator.alike`) a label for every operator, shape
    (operators,).

    An operator whose family does not know a grouping is, in that grouping, alike to its family.
    """
    alike = [op.row_alike for op in operators]
    names = dict.fromkeys(name for labels in alike for name in labels)
    return [
        _numbered([labels.get(name, op.family) for op, labels in zip(operators, alike, strict=True)])
        for name in names
    ]


def _numbered(labels: Sequence[Hashable]) -> Labels:
    number: dict[Hashable, int] = {}
    return np.array([number.setdefault(label, len(number)) for label in labels], dtype=np.int64)
