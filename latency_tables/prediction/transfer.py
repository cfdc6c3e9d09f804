"""A table for a new device from 10 to 50 whole networks, given the tables of known devices. Closed form, no
training.

A latency is x . w: x says which cells of the additive table a network uses, w are the cells' latencies. The
known devices give a Gaussian prior over w: their mean, how they differ from it, and how whole groups of cells
(the same choice, the same stage) become dearer or cheaper together. The posterior given the measured networks
is again an additive table. How much each part of the prior counts is averaged over a small grid by marginal
likelihood (empirical Bayes). Which networks to measure is chosen by greedy reduction of the posterior
variance. Unlike HELP (Lee et al., NeurIPS 2021) nothing is meta-trained, and the exact search runs on the
result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np

from latency_tables.dense import Array
from latency_tables.errors import PoorCalibration, TooFewNetworks
from latency_tables.prediction.calibration import LEAST_TRANSFERRED, Calibration
from latency_tables.prediction.uses import Labels

MAX_ERROR: Final = 0.25
"""Held-out error above which a transferred table is refused."""
_DEVICES: Final = (0.3, 1.0, 2.0)
_GROUPS: Final = (0.01, 0.05, 0.2)
_CELLS: Final = (0.002, 0.01, 0.04)
_NOISE: Final = (0.0001, 0.0004, 0.0016, 0.0064, 0.025, 0.08)
_SCALE: Final = 0.25
_DESIGN: Final = (1.0, 0.05, 0.01, 0.003)
_ANNOUNCED_ODD: Final = 3.5


@dataclass(frozen=True, eq=False)
class Prior:
    """What known devices say about any device's table, in units of its mean latency.

    centre: (cells,) mean use of each cell by the networks that `scale` and the tables refer to.
    mean: (cells,) average table; factors: (cells, r) each, ways in which tables differ: by device, by group
    of cells, by cell (that one is diagonal, (cells,)).
    """

    centre: Array
    mean: Array
    devices: Array
    groups: Array
    cells: Array

    @classmethod
    def of(cls, tables: Array, uses: Array, groups: Sequence[Labels] = ()) -> Prior:
        """From tables of known devices (cells, devices) in ms and networks' use of cells (networks, cells).

        groups: for each way of grouping, a label for each cell. Raises PoorCalibration without a usable
        device.
        """
        centre = uses.mean(axis=0)
        scale = centre @ tables
        if tables.shape[1] == 0 or not (np.isfinite(scale).all() and (scale > 0).all()):
            raise PoorCalibration(
                "no known device has a table for this space; profile this device by blocks (`bespoke "
                "profile`)"
            )
        relative = tables / scale
        mean = relative.mean(axis=1)
        parts = [np.where(labels[:, None] == np.unique(labels), mean[:, None], 0.0) for labels in groups]
        # So scaled, its product with itself is the covariance of the known devices.
        spread = (relative - mean[:, None]) / math.sqrt(relative.shape[1])
        return cls(
            centre, mean, spread, np.hstack(parts) if parts else np.zeros((len(mean), 0)), np.abs(mean)
        )

    def projected(self, uses: Array) -> tuple[Array, list[Array]]:
        """Prior mean of these networks (networks,), in units of the mean latency, and their coordinates in
        each factor."""
        off = uses - self.centre
        mean = off @ self.mean
        return 1 + mean, [off @ self.devices, off @ self.groups, off * self.cells, mean[:, None]]


def choose_networks(prior: Prior, candidates: Array, networks: int, first: Sequence[int] = ()) -> list[int]:
    """Which of the candidates (candidates, cells) to measure: greedy reduction of the summed posterior
    variance.

    first: indices measured already. Returns `networks` new indices. On NAS-Bench-201 ten such networks are
    worth about twenty random ones (docs/devices.md).
    """
    _, parts = prior.projected(candidates)
    devices, groups, cells, noise = _DESIGN
    covariance = np.ones((len(candidates), len(candidates)))
    for weight, part in zip((devices, groups, cells, _SCALE), parts, strict=True):
        covariance += weight * part @ part.T
    chosen: list[int] = []
    queue = list(first)
    while len(chosen) < min(networks, len(candidates) - len(first)):
        gain = (covariance**2).sum(axis=0) / (np.diag(covariance) + noise)
        gain[[*first, *chosen]] = -1.0
        # What is measured already takes its information away first, so that nothing alike is asked for again.
        index = queue.pop() if queue else int(np.argmax(gain))
        if index not in first:
            chosen.append(index)
        column = covariance[:, index].copy()
        covariance -= np.outer(column, column) / (column[index] + noise)
    return chosen


@dataclass(frozen=True, eq=False)
class Transferred:
    """The table of a new device: additive cells and what is known about its error.

    cells_ms: (cells,); offset_ms: what every network costs beyond its cells. ratios: held-out measured /
    predicted, in the order of the networks. error: mean |predicted / measured - 1| held out. baseline: the
    same of the plain mean.
    cell_spread: (cells,) posterior standard deviation of each cell, relative to the mean latency.
    """

    cells_ms: Array
    offset_ms: float
    ratios: Array
    error: float
    baseline: float
    scale_ms: float
    cell_spread: Array

    @property
    def networks(self) -> int:
        return len(self.ratios)

    @property
    def helps(self) -> bool:
        """Whether the known devices explain the new one: clearly better than predicting the mean, and not
        wildly off."""
        return self.error <= MAX_ERROR and (self.error <= 0.6 * self.baseline or self.error <= 0.03)

    def require_help(self) -> None:
        """Raises PoorCalibration where the known devices do not help."""
        if not self.helps:
            raise PoorCalibration(
                f"the known devices do not explain this one: {self.error:.0%} off on held-out networks, "
                f"{self.baseline:.0%} "
                "by the plain mean. It is of another family; profile it by blocks (`bespoke profile` or "
                "`bespoke agent`)."
            )

    def predict(self, uses: Array) -> Array:
        """Predicted ms of networks from their use of cells, shape (networks,)."""
        predicted: Array = np.maximum(self.offset_ms + uses @ self.cells_ms, 1e-3 * self.scale_ms)
        return predicted

    def margin(self, confidence: float) -> float:
        """What predictions are multiplied by for a one-sided bound, from the held-out ratios. Raises
        TooFewNetworks."""
        return self.calibration().margin(confidence)

    def calibration(self) -> Calibration:
        """The identity with this fit's held-out error, so that bounds are asked for in the same way as of a
        profiled table."""
        errors = np.abs(1 / self.ratios - 1)
        return Calibration(
            networks=self.networks,
            error=float(errors.mean()),
            worst=float(errors.max()),
            ratios=tuple(float(r) for r in self.ratios),
            transferred=True,
        )


def transfer(prior: Prior, uses: Array, measured_ms: Array) -> Transferred:
    """The posterior table given measured networks: use of cells (networks, cells) and latencies in ms.

    Raises TooFewNetworks below five networks, PoorCalibration for latencies that are none. Ask `helps` of the
    result.
    """
    times = np.asarray(measured_ms, dtype=np.float64)
    if len(times) < LEAST_TRANSFERRED:
        missing = LEAST_TRANSFERRED - len(times)
        raise TooFewNetworks(
            f"a transfer needs at least {LEAST_TRANSFERRED} measured networks, {missing} more than there are",
            missing,
        )
    if not (np.isfinite(times).all() and (times > 0).all()):
        raise PoorCalibration("latencies must be finite and above 0 ms")
    expected, parts = prior.projected(uses)
    expected = np.maximum(expected, 0.05)
    scale = float(np.median(times / expected))
    target = times / scale - expected
    kernels = np.stack([part @ part.T for part in parts])
    odd = np.ones(len(times))
    for _ in range(3):
        posterior = _Posterior.of(kernels, expected**2 * odd, target)
        surprise = np.abs(posterior.held_out) / posterior.held_out_spread
        odd = np.where(
            surprise > _ANNOUNCED_ODD, odd * (surprise / 2) ** 2, odd
        )  # a wild measurement counts less
        if not (surprise > _ANNOUNCED_ODD).any():
            break
    cells, offset = _cells(prior, parts, posterior)
    held_out_ms = np.maximum(times - scale * posterior.held_out, 1e-3 * scale)
    ratios = times / held_out_ms
    left_out_mean = (times.sum() - times) / (len(times) - 1)
    return Transferred(
        cells_ms=scale * cells,
        offset_ms=scale * offset,
        ratios=ratios,
        error=float(np.abs(1 / ratios - 1).mean()),
        baseline=float(np.abs(left_out_mean / times - 1).mean()),
        scale_ms=scale,
        cell_spread=_cell_spread(prior, parts, posterior),
    )


@dataclass(frozen=True, eq=False)
class _Posterior:
    """Averages over the grid of how much each part of the prior counts.

    dual: (parts, networks) weights in the kernel expansion, times the part's weight; constant: of the free
    intercept.
    held_out: measured - predicted without that network; held_out_spread: its standard deviation. weights: of
    the parts.
    """

    dual: Array
    constant: float
    held_out: Array
    held_out_spread: Array
    weights: Array
    precision: Array

    @classmethod
    def of(cls, kernels: Array, noise: Array, target: Array) -> _Posterior:
        grid = np.array(list(product(_DEVICES, _GROUPS, _CELLS, [_SCALE], _NOISE)))
        weights, level = grid[:, :-1], grid[:, -1]
        networks = len(target)
        covariance = (
            np.einsum("gc,cij->gij", weights, kernels) + 1.0
        )  # a free intercept: variance 1 in units of the mean
        covariance[:, np.arange(networks), np.arange(networks)] += level[:, None] * noise
        inverse = np.linalg.inv(covariance)
        dual = inverse @ target
        _, log_determinant = np.linalg.slogdet(covariance)
        evidence = -0.5 * (dual @ target + log_determinant)
        share = np.exp(evidence - evidence.max())
        share /= share.sum()
        diagonal = np.diagonal(inverse, axis1=1, axis2=2)
        held_out = share @ (dual / diagonal)
        variance = share @ (1 / diagonal + (dual / diagonal - held_out) ** 2)
        return cls(
            dual=np.einsum("g,gc,gn->cn", share, weights, dual),
            constant=float((share @ dual).sum()),
            # Left-one-out residuals in closed form: dual / diagonal of the inverse, no fit for each network.
            held_out=held_out,
            held_out_spread=np.sqrt(variance),
            weights=share @ weights,
            precision=np.einsum("g,gij->ij", share, inverse),
        )


def _cells(prior: Prior, parts: Sequence[Array], posterior: _Posterior) -> tuple[Array, float]:
    """Posterior table in units of the mean latency, and its offset."""
    devices, groups, cells, scale = (part.T @ dual for part, dual in zip(parts, posterior.dual, strict=True))
    table = (
        prior.mean * (1 + float(scale[0]))
        + prior.devices @ devices
        + prior.groups @ groups
        + prior.cells * cells
    )
    return table, float(1 + posterior.constant - prior.centre @ table)


def _cell_spread(prior: Prior, parts: Sequence[Array], posterior: _Posterior) -> Array:
    """Posterior standard deviation of each cell, at the average weights of the parts."""
    factors = [prior.devices, prior.groups, prior.mean[:, None]]
    names = (0, 1, 3)
    before = posterior.weights[2] * prior.cells**2
    cross = posterior.weights[2] * prior.cells * parts[2]  # (networks, cells)
    for factor, name in zip(factors, names, strict=True):
        before = before + posterior.weights[name] * (factor**2).sum(axis=1)
        cross = cross + posterior.weights[name] * parts[name] @ factor.T
    variance = before - np.einsum("nc,nm,mc->c", cross, posterior.precision, cross, optimize=True)
    spread: Array = np.sqrt(np.maximum(variance, 0.0))
    return spread
