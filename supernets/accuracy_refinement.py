"""Terms beyond the additive predictor, used only where they predict networks held out better.

`pairs`: a Gaussian process whose covariance has, beside the additive one, products of every two stages' covariances, so
that what one stage brings may depend on another. `mlp`: a small perceptron on the same cells (once-for-all's has 372,801
weights). Neither is additive: the exact solver uses `AccuracyPredictor.dense`, and `Problem.evaluate` ranks with these.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from latency_tables.dense import Array, Genes
from supernets.accuracy import AccuracyPredictor, HeldOut, kendall_tau, rmse, to_score
from supernets.additive_prior import cells, posterior, prior_loadings

WIN = 0.97  # the held-out error must fall below this share of the additive one's
_SHARES = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)  # variance of the pair terms, in noise variances
_NOISES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)

Predict = Callable[[Array], Array]  # features (n, cells) -> scores (n,)


@dataclass(frozen=True, eq=False)
class Refinement:
    """A model that won: its name, its held-out error and that of the additive one on the same folds."""

    name: str
    held_out: HeldOut
    additive: HeldOut
    predictor: AccuracyPredictor
    scores: Predict

    def predict(self, genes: Genes) -> Array:
        """Expected accuracy of each network, shape (networks,)."""
        return self.predictor.accuracy_of(self.scores(cells(self.predictor.space.chain, genes)))


def refine(predictor: AccuracyPredictor, *, folds: int = 5, seed: int = 0) -> Refinement | None:
    """The best refinement by held-out error, None where the additive predictor is as good.

    All contestants share the prior variances learnt from all networks, so that only their form is compared.
    """
    features = cells(predictor.space.chain, predictor.genes)
    fold = np.random.default_rng(seed).permutation(len(features)) % folds

    def held_out(fit: Callable[[Array, Array], Predict]) -> HeldOut:
        predicted = np.empty(len(features))
        for k in range(folds):
            seen, kept = fold != k, fold == k
            scores = to_score(predictor.accuracies[seen], predictor.ceiling)
            predicted[kept] = predictor.accuracy_of(fit(features[seen], scores)(features[kept]))
        return HeldOut(rmse(predicted, predictor.accuracies), kendall_tau(predicted, predictor.accuracies), folds)

    fits: dict[str, Callable[[Array, Array], Predict]] = {
        "pairs": lambda x, y: _pairs(predictor, x, y),
        "mlp": lambda x, y: _perceptron(x, y, seed),
    }
    additive = held_out(lambda x, y: posterior(x, y, prior_loadings(predictor.space), predictor.variances).predict)
    found = {name: held_out(fit) for name, fit in fits.items()}
    best = min(found, key=lambda name: found[name].rmse)
    if found[best].rmse >= WIN * additive.rmse:
        return None
    scores = fits[best](features, to_score(predictor.accuracies, predictor.ceiling))
    return Refinement(best, found[best], additive, predictor, scores)


def _stages_of(predictor: AccuracyPredictor) -> Genes:
    """Stage of every cell, -1 for resolutions; shape (cells,)."""
    chain = predictor.space.chain
    stage = np.full(chain.genes, -1, dtype=np.int64)
    for index, (column, shape) in enumerate(zip(chain.offsets, chain.stages, strict=True)):
        stage[column : column + shape.genes] = index
    return np.repeat(stage, chain.gene_sizes)


def _pairs(predictor: AccuracyPredictor, features: Array, targets: Array) -> Predict:
    """Additive plus pair terms; their share and the noise by marginal likelihood over a small grid."""
    loadings = prior_loadings(predictor.space)
    prior = sum((predictor.variances[n] * (part @ part.T) for n, part in loadings.items()), np.zeros((features.shape[1],) * 2))
    centre, mean, stage = features.mean(axis=0), targets.mean(), _stages_of(predictor)
    away = features - centre
    parts = [np.flatnonzero(stage == s) for s in np.unique(stage)]
    parts = [p for p in parts if np.ptp(features[:, p], axis=0).any()]

    def kernels(x: Array) -> tuple[Array, Array]:
        each = [x[:, p] @ prior[np.ix_(p, p)] @ away[:, p].T for p in parts]
        total = sum(each, np.zeros((len(x), len(away))))
        # Sum over pairs of products, without the loop over pairs.
        return x @ prior @ away.T, (total**2 - sum((k**2 for k in each), np.zeros_like(total))) / 2

    additive, pair = kernels(away)
    scale, noise = max(float(np.mean(np.diag(pair))), 1e-300), predictor.variances["noise"]
    best = (-np.inf, 0.0, np.zeros(len(targets)))
    for share in _SHARES:
        for left in _NOISES:
            weight = share * noise / scale
            covariance = additive + weight * pair + left * noise * np.eye(len(targets))
            solved = np.linalg.solve(covariance, targets - mean)
            likelihood = -0.5 * (np.linalg.slogdet(covariance)[1] + (targets - mean) @ solved)
            if likelihood > best[0]:
                best = (float(likelihood), weight, solved)
    _, weight, solved = best

    def scores(x: Array) -> Array:
        one, two = kernels(x - centre)
        return np.asarray(mean + (one + weight * two) @ solved)

    return scores


def _perceptron(features: Array, targets: Array, seed: int) -> Predict:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.neural_network import MLPRegressor  # noqa: PLC0415 - a second to import, and workers only

    mean, scale = targets.mean(), max(float(targets.std()), 1e-12)
    network = MLPRegressor(
        hidden_layer_sizes=(64, 64), alpha=1.0, solver="lbfgs", max_iter=400, random_state=seed, max_fun=10**6, tol=1e-3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped early is fine: it is judged held out
        network.fit(features, (targets - mean) / scale)
    return lambda x: np.asarray(mean + scale * network.predict(x))
