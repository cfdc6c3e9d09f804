"""Least squares with coefficients that are not negative, in numpy."""

from __future__ import annotations

import numpy as np

from latency_tables.dense import Array


def nonnegative(gram: Array, moment: Array, sweeps: int = 200) -> Array:
    """Minimise x'Gx / 2 - m'x over x >= 0 by an active-set method (Lawson and Hanson, 1974), on the normal
    equations.

    gram: (n, n), positive definite; moment: (n,). Returns x of shape (n,).
    """
    size = len(moment)
    x = np.zeros(size)
    free = np.zeros(size, dtype=bool)
    tolerance = 1e-10 * max(1e-300, float(np.abs(moment).max(initial=0.0)))
    for _ in range(sweeps):
        gradient = moment - gram @ x
        gradient[free] = -np.inf
        best = int(np.argmax(gradient))
        if gradient[best] <= tolerance:
            break
        free[best] = True
        x = _restore(gram, moment, x, free)
    return x


def _restore(gram: Array, moment: Array, x: Array, free: np.typing.NDArray[np.bool_]) -> Array:
    """Solve on the free coefficients, stepping back while one of them would turn negative; updates `free`."""
    while True:
        solution = np.zeros(len(x))
        index = np.flatnonzero(free)
        solution[index] = np.linalg.solve(gram[np.ix_(index, index)], moment[index])
        wrong = free & (solution <= 0)
        if not wrong.any():
            return solution
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.where(wrong, x / (x - solution), np.inf)
        step = float(np.nanmin(steps))
        x = x + min(1.0, max(0.0, step)) * (solution - x)
        free &= x > 1e-14 * max(1e-300, float(x.max(initial=0.0)))
        x = np.where(free, x, 0.0)
        if not free.any():
            return x
