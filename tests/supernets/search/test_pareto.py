"""Pareto fronts against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernets.search.pareto import Front, front_of, nondominated

points = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=30)


@given(points)
def test_nondominated_equals_the_definition(pairs):
    costs, scores = np.array(pairs, dtype=float).T
    expected = {(c, s) for c, s in pairs if not any(a <= c and b >= s and (a, b) != (c, s) for a, b in pairs)}
    kept = nondominated(costs, scores)
    assert [(costs[i], scores[i]) for i in kept] == sorted(expected)


def test_what_is_forbidden_is_never_on_a_front():
    costs, scores = np.array([np.inf, 1.0, 2.0]), np.array([9.0, -np.inf, 3.0])
    assert nondominated(costs, scores).tolist() == [2]
    assert nondominated(costs[:2], scores[:2]).tolist() == []
    assert nondominated(costs[:0], scores[:0]).tolist() == []


def test_hypervolume_and_budgets():
    front = front_of(np.array([3.0, 1.0, 2.0]), np.array([5.0, 1.0, 0.0]), np.arange(3)[:, None])
    assert front.costs.tolist() == [1.0, 3.0] and len(front) == 2
    assert front.hypervolume(4.0, 0.0) == pytest.approx(2 * 1 + 1 * 5)
    assert front.hypervolume(3.0, 0.0) == pytest.approx(2.0)
    assert [front.within(limit) for limit in (0.5, 1.0, 2.9, 3.0, 99.0)] == [None, 0, 0, 1, 1]


def test_an_empty_front_has_no_answer():
    empty = Front(np.empty(0), np.empty(0), np.empty((0, 3), dtype=np.int64))
    assert empty.within(1.0) is None and empty.hypervolume(1.0, 0.0) == 0.0
