import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from latency_tables.prediction.least_squares import nonnegative


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_agrees_with_scipy(seed, columns, more):
    generator = np.random.default_rng(seed)
    a = generator.standard_normal((columns + more + 2, columns))
    b = generator.standard_normal(len(a))
    x = nonnegative(a.T @ a, a.T @ b)
    assert (x >= 0).all()
    assert np.allclose(x, nnls(a, b)[0], atol=1e-6)
