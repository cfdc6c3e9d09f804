"""Additive models of a chain with a hierarchical prior, fitted by empirical Bayes.

A network is a sum of cells: one per active gene and its value. The prior says that cells which share a
property (kernel size, expand ratio, place in the stage) share an effect, and that each cell deviates from it.
What a cell is worth may bend with the resolution: at each resolution the model is additive still, which is
all that the exact solver needs.
How much is shared is learnt: restricted marginal likelihood in closed form, its gradient too (MacKay,
"Bayesian interpolation", 1992; Patterson and Thompson, 1971).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from latency_tables.dense import Array, Chain, Genes
from supernets.spaces.space import Space

BENDS = 2
"""Degree in the logarithm of the resolution by which a cell's effect varies: a large kernel, say, is worth
less on a small picture."""
BY_RESOLUTION = ", by resolution"
_LOG_BOUND = 18.0  # variances are sought within exp(+-18) of the variance of the data


def cell_offsets(chain: Chain) -> Genes:
    """First cell of every gene; shape (genes,)."""
    return np.concatenate([[0], np.cumsum(chain.gene_sizes)[:-1]]).astype(np.int64)


def cells(chain: Chain, genes: Genes) -> Array:
    """Which cells each network has, as zeros and ones; shape (networks, cells). Genes need not be
    canonical."""
    found = np.zeros((len(genes), int(chain.gene_sizes.sum())))
    rows, columns = np.nonzero(chain.active(genes))
    found[rows, (cell_offsets(chain) + genes)[rows, columns]] = 1.0
    return found


def bends_of(space: Space, degree: int = BENDS) -> Array:
    """How effects may vary with the resolution: polynomials in its logarithm, orthogonal to each other and to
    a constant, of mean square 1; shape (resolutions, up to degree), fewer where there are fewer resolutions.
    """
    logs = np.log(np.asarray(space.resolutions, dtype=np.float64))
    logs -= logs.mean()
    powers = logs[:, None] ** np.arange(min(degree, len(logs) - 1) + 1)
    return np.asarray(np.linalg.qr(powers)[0][:, 1:] * np.sqrt(len(logs)))


def features_of(space: Space, genes: Genes, degree: int) -> Array:
    """The cells of each network, then the same times each bend at its resolution; shape (networks, cells x
    (1 + bends))."""
    plain, bends = cells(space.chain, genes), bends_of(space, degree)[genes[:, 0]]
    return np.concatenate([plain, *(plain * bend[:, None] for bend in bends.T)], axis=1)


def _labels(space: Space) -> dict[str, dict[int, Hashable]]:
    """For each group of the prior: cell -> label. Cells with one label share one effect."""
    labels: dict[str, dict[int, Hashable]] = {}

    def mark(group: str, cell: int, label: Hashable) -> None:
        labels.setdefault(group, {})[cell] = label

    offsets = cell_offsets(space.chain)
    for r in range(len(space.resolutions)):
        mark("resolution", r, r)
    for index, (column, stage) in enumerate(zip(space.chain.offsets, space.stages, strict=True)):
        for w in range(len(stage.states)):
            mark("width", int(offsets[column]) + w, (index, w))
        for d in range(len(stage.depths)):
            cell = int(offsets[column + 1]) + d
            mark("depth", cell, (index, d))
            mark("depth, shared", cell, (d, len(stage.depths)))
        names = [dimension.name for dimension in stage.operators.dimensions]
        for block, options in enumerate(stage.choices):
            for c, choice in enumerate(options):
                cell = int(offsets[column + 2 + block]) + c
                place = (index, block)
                mark("choice", cell, (place, choice))
                mark("choice, shared", cell, choice)
                for name in names:
                    value = (choice.zero, None if choice.zero else choice[name])
                    mark(name, cell, (place, value))
                    mark(f"{name}, shared", cell, value)
                    mark(f"{name}, by stage", cell, (index, value))
                    mark(f"{name}, by position", cell, (block, value))
    return labels


def _trends(space: Space) -> dict[str, Array]:
    """Groups with one slope: logarithm of the resolution, of the width within its stage."""
    offsets, total = cell_offsets(space.chain), int(space.chain.gene_sizes.sum())
    resolution, width = np.zeros((total, 1)), np.zeros((total, 1))
    logs = np.log(space.resolutions)
    resolution[: len(logs), 0] = logs - logs.mean()
    for column, stage in zip(space.chain.offsets, space.stages, strict=True):
        logs = np.log([float(state["width"]) for state in stage.states])
        width[offsets[column] : offsets[column] + len(logs), 0] = logs - logs.mean()
    return {"resolution, trend": resolution, "width, trend": width}


def prior_loadings(space: Space, degree: int = 0) -> dict[str, Array]:
    """Group -> loadings L (features, effects): the prior covariance of the weights of `features_of` is the
    sum of variance x L L'.

    Groups that say nothing in this space, or the same as an earlier one, are left out. degree: each group but
    those of resolutions has a second one then, whose effects bend.
    """
    plain, bends = _plain_loadings(space), bends_of(space, degree).shape[1]
    if not bends:
        return plain
    parts = {name: _spread(loadings, [0], bends) for name, loadings in plain.items()}
    further = {
        name + BY_RESOLUTION: _spread(loadings, range(1, bends + 1), bends)
        for name, loadings in plain.items()
        if not name.startswith("resolution")
    }
    return parts | further


def _spread(loadings: Array, places: Iterable[int], bends: int) -> Array:
    """Loadings of cells as those of features: at each of the places with effects of its own."""
    return np.concatenate([np.kron(np.eye(bends + 1)[:, [place]], loadings) for place in places], axis=1)


def _plain_loadings(space: Space) -> dict[str, Array]:
    """Of the cells alone, shape (cells, effects)."""
    total = int(space.chain.gene_sizes.sum())
    found: dict[str, Array] = {}
    for group, marked in _labels(space).items():
        order: dict[Hashable, int] = {}
        for label in marked.values():
            order.setdefault(label, len(order))
        loadings = np.zeros((total, len(order)))
        for cell, label in marked.items():
            loadings[cell, order[label]] = 1.0
        found[group] = loadings
    found |= _trends(space)
    kept: dict[str, Array] = {}
    seen: list[Array] = []
    free = _free_cells(space.chain)
    for group, loadings in found.items():
        covariance = (loadings @ loadings.T)[np.ix_(free, free)]
        if covariance.any() and not any(np.array_equal(covariance, other) for other in seen):
            kept[group] = loadings
            seen.append(covariance)
    return kept


def _free_cells(chain: Chain) -> Genes:
    """Cells that some networks have and some have not."""
    always = chain.active(np.zeros((1, chain.genes), dtype=np.int64))[0]
    optional = np.repeat((chain.gene_sizes > 1) | ~always, chain.gene_sizes)
    return np.flatnonzero(optional)


@dataclass(frozen=True, eq=False)
class Posterior:
    """Belief about the cells after the data: value = mean + (cells - centre) . weights.

    weights (cells,), covariance (cells, cells), centre (cells,); noise: variance of what the cells do not
    explain.
    """

    mean: float
    centre: Array
    weights: Array
    covariance: Array
    noise: float
    networks: int

    def predict(self, features: Array) -> Array:
        value: Array = self.mean + (features - self.centre) @ self.weights
        return value

    def variance(self, features: Array) -> Array:
        """Variance of a new observation of each network, noise included."""
        away = features - self.centre
        spread: Array = np.einsum("ij,jk,ik->i", away, self.covariance, away)
        return np.maximum(spread, 0.0) + self.noise * (1 + 1 / self.networks)


@dataclass(frozen=True, eq=False)
class _Reduced:
    """The data in the row space of the centred features: rotated targets, leftovers, one kernel per group."""

    targets: Array
    rest: float
    free: int
    kernels: Array  # (groups, rank, rank)

    def loss(self, logs: Array) -> tuple[float, Array]:
        """Negative restricted log likelihood and its gradient in the logarithms of the variances."""
        variances, size = np.exp(logs), len(self.targets)
        flat = self.kernels.reshape(len(self.kernels), -1)
        covariance = (variances[:-1] @ flat).reshape(size, size) + variances[-1] * np.eye(size)
        lower = np.linalg.cholesky(covariance)
        inverse = np.linalg.inv(covariance)
        solved = inverse @ self.targets
        rest = self.rest / variances[-1]
        value = np.log(np.diag(lower)).sum() + 0.5 * (self.targets @ solved + self.free * logs[-1] + rest)
        slopes = flat @ (inverse - np.outer(solved, solved)).ravel()
        noise = np.trace(inverse) - solved @ solved + (self.free - rest) / variances[-1]
        return float(value), 0.5 * variances * np.append(slopes, noise)


def _reduce(features: Array, targets: Array, loadings: Sequence[Array]) -> _Reduced:
    centred, y = features - features.mean(axis=0), targets - targets.mean()
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    rank = int((sizes > 1e-9 * max(sizes[0], 1e-12)).sum())
    rotated = left[:, :rank].T @ y
    projected = [(sizes[:rank, None] * right[:rank]) @ part for part in loadings]
    kernels = np.stack([part @ part.T for part in projected])
    return _Reduced(rotated, max(float(y @ y - rotated @ rotated), 0.0), len(y) - 1 - rank, kernels)


def learn_variances(
    features: Array, targets: Array, loadings: Mapping[str, Array], start: Mapping[str, float] | None = None
) -> tuple[dict[str, float], float]:
    """(variance of every group and of the noise, key `noise`, that make the data most likely; negative log
    likelihood)."""
    reduced = _reduce(features, targets, list(loadings.values()))
    scale = max(float(np.var(targets)), 1e-12)
    sizes = np.maximum(np.einsum("gii->g", reduced.kernels) / len(targets), 1e-12)
    first = np.append(np.log(0.5 * scale / len(sizes) / sizes), np.log(0.1 * scale))
    low, high = np.log(scale) - _LOG_BOUND, np.log(scale) + _LOG_BOUND
    if start is not None:
        first = np.log(np.maximum([start[name] for name in (*loadings, "noise")], 1e-300))
    first = np.clip(first, low, high)
    bounds = [(low, high)] * len(first)
    # A floor on the noise keeps the covariance invertible when the cells explain the data exactly.
    bounds[-1] = (np.log(scale) - 12.0, high)
    from scipy.optimize import minimize  # noqa: PLC0415 - the API reads predictors and must stay small

    found = minimize(reduced.loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 80})
    return dict(zip((*loadings, "noise"), np.exp(found.x).tolist(), strict=True)), float(found.fun)


def prior_covariance(loadings: Mapping[str, Array], variances: Mapping[str, float]) -> Array:
    """Of the weights, (features, features)."""
    scaled = np.concatenate([np.sqrt(variances[name]) * part for name, part in loadings.items()], axis=1)
    return np.asarray(scaled @ scaled.T)


def posterior(
    features: Array, targets: Array, loadings: Mapping[str, Array], variances: Mapping[str, float]
) -> Posterior:
    """Closed-form posterior of the cells for given variances."""
    prior = prior_covariance(loadings, variances)
    centre, mean, noise = features.mean(axis=0), float(targets.mean()), variances["noise"]
    cross = (features - centre) @ prior  # (networks, cells)
    covariance = cross @ (features - centre).T + noise * np.eye(len(targets))
    solved = np.linalg.solve(covariance, np.column_stack([targets - mean, cross]))
    return Posterior(
        mean, centre, cross.T @ solved[:, 0], prior - cross.T @ solved[:, 1:], noise, len(targets)
    )
