"""Terms beyond the additive predictor, used only where they predict networks held out better.

`pairs`: a Gaussian process whose covariance has, beside the additive one, products of every two stages'
covariances, so that what one stage brings may depend on another. `mlp`: a small perceptron on the same cells
(once-for-all's has 372,801 weights). Neither is additive: the exact solver uses `QualityPredictor.dense`,
and `Problem.evaluate` ranks with these.
"""

from __future__ import annotations

import base64
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any, Final, Protocol

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from supernets.accuracy.predictor import HeldOut, QualityPredictor, to_score
from supernets.accuracy.prior import posterior, prior_covariance
from supernets.errors import InvalidPredictor
from supernets.spaces.space import Space
from supernets.tasks.metric import Metric

WIN = 0.97  # the held-out error must fall below this share of the additive one's
FORM: Final = "refinement-1"
_SHARES = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)  # variance of the pair terms, in noise variances
_NOISES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


class Model(Protocol):
    """What a refinement predicts with."""

    def predict(self, features: Array) -> Array:
        """features (n, features) -> scores (n,)"""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, eq=False)
class Refinement:
    """A model that won: its name, its held-out error and that of the additive one on the same folds."""

    name: str
    held_out: HeldOut
    additive: HeldOut
    predictor: QualityPredictor
    model: Model

    @property
    def space(self) -> Space:
        return self.predictor.space

    @property
    def metric(self) -> Metric:
        return self.predictor.metric

    @property
    def ceiling(self) -> float | None:
        return self.predictor.ceiling

    def quality_of(self, scores: Array) -> Array:
        return self.predictor.quality_of(scores)

    def dense(self) -> DenseTable:
        """The additive score that the exact solver takes."""
        return self.predictor.dense()

    def scores(self, genes: Genes) -> Array:
        """In the unit of the additive score, shape (networks,); ascending with the quality."""
        return self.model.predict(self.predictor.features(genes))

    def predict(self, genes: Genes) -> Array:
        """Expected quality of each network, shape (networks,)."""
        return self.quality_of(self.scores(genes))


Ranking = QualityPredictor | Refinement
"""What ranks whole networks in float32."""


class Refined(Protocol):
    """What ranks networks of a space better than an additive score."""

    @property
    def space(self) -> Space: ...
    def scores(self, genes: Genes) -> Array: ...


@dataclass(frozen=True, eq=False)
class RefinedScore:
    """`Problem.evaluate` for a space at some resolutions of the refinement's own: genes (networks, genes) ->
    (networks,)."""

    refinement: Refined
    resolutions: tuple[int, ...]

    def __call__(self, genes: Genes) -> Array:
        own = np.array(genes)
        # Gene 0 counts the problem's resolutions, which may be fewer than those of the refinement.
        own[:, 0] = np.array([self.refinement.space.resolutions.index(r) for r in self.resolutions])[
            genes[:, 0]
        ]
        return self.refinement.scores(own)


def refine(predictor: QualityPredictor, *, folds: int = 5, seed: int = 0) -> Refinement | None:
    """The best refinement by held-out error, None where the additive predictor is as good.

    All contestants share the prior variances learnt from all networks, so that only their form is compared.
    """
    loadings = predictor.loadings

    def judged(fit: Callable[[Array, Array], Model]) -> HeldOut:
        return predictor.judge(lambda x, y: fit(x, y).predict, folds, seed)

    additive = predictor.judge(
        lambda x, y: posterior(x, y, loadings, predictor.variances).predict, folds, seed
    )
    fits: dict[str, Callable[[Array, Array], Model]] = {"pairs": lambda x, y: StagePairs.fit(predictor, x, y)}
    if find_spec("sklearn") is not None:  # a worker has it; the service, which registers scores, need not
        fits["mlp"] = lambda x, y: Perceptron.fit(predictor, x, y, seed)
    found = {name: judged(fit) for name, fit in fits.items()}
    best = min(found, key=lambda name: found[name].rmse)
    # Not merely lower: the best of several contestants looks better than it is.
    if found[best].rmse >= WIN * additive.rmse:
        return None
    return Refinement(best, found[best], additive, predictor, fits[best](*_data(predictor)))


def to_json(predictor: QualityPredictor, refinement: Refinement | None) -> dict[str, Any]:
    """Both as plain values: the additive predictor's form with one more key, so that either can be read
    alone."""
    if refinement is None:
        return predictor.to_json()
    refined = {
        "form": FORM,
        "name": refinement.name,
        "held_out": asdict(refinement.held_out),
        "additive": asdict(refinement.additive),
        "model": refinement.model.to_json(),
    }
    return {**predictor.to_json(), "refinement": refined}


def from_json(
    data: Mapping[str, Any], space: Space | None = None
) -> tuple[QualityPredictor, Refinement | None]:
    """Read `to_json`'s form, and that of predictors from before there were refinements. Raises
    InvalidPredictor."""
    predictor = QualityPredictor.from_json(data, space)
    kept = data.get("refinement")
    if kept is None:
        return predictor, None
    try:
        if kept["form"] != FORM:
            raise InvalidPredictor(f"a refinement of form {FORM!r} was wanted; fit the predictor again")
        model: Model = _READ[kept["name"]](predictor, kept["model"])
        held_out, additive = HeldOut(**kept["held_out"]), HeldOut(**kept["additive"])
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidPredictor(
            f"not a refinement of an accuracy predictor ({error}); fit it again"
        ) from error
    return predictor, Refinement(kept["name"], held_out, additive, predictor, model)


def summary(used: Ranking) -> dict[str, Any]:
    """Which predictor ranks networks and its error held out, in the unit of the qualities; None where none
    was kept."""
    name, predictor = (used.name, used.predictor) if isinstance(used, Refinement) else ("additive", used)
    held_out = used.held_out
    return {
        "name": name,
        "networks": len(predictor.genes),
        "rmse": None if held_out is None else held_out.rmse,
        "kendall_tau": None if held_out is None else held_out.kendall_tau,
        "held_out_networks": None if held_out is None else held_out.networks,
        "metric": predictor.metric.to_json(),
    }


def _data(predictor: QualityPredictor) -> tuple[Array, Array]:
    """(features, scores) of all scored networks."""
    return predictor.features(predictor.genes), to_score(predictor.qualities, predictor.ceiling)


def _stages_of(predictor: QualityPredictor) -> Genes:
    """Stage of every feature, -1 for resolutions; shape (features,)."""
    chain, copies = predictor.space.chain, 1 + predictor.degree
    stage = np.full(chain.genes, -1, dtype=np.int64)
    for index, (column, shape) in enumerate(zip(chain.offsets, chain.stages, strict=True)):
        stage[column : column + shape.genes] = index
    return np.tile(np.repeat(stage, chain.gene_sizes), copies)


@dataclass(frozen=True, eq=False)
class StagePairs:
    """Additive plus pair terms: a Gaussian process in closed form, given by its data and two variances.

    features (n, features), targets (n,); weight: variance of the pair terms; noise: variance of what they do
    not explain.
    """

    predictor: QualityPredictor
    features: Array
    targets: Array
    weight: float = 0.0
    noise: float = 1.0

    @classmethod
    def fit(cls, predictor: QualityPredictor, features: Array, targets: Array) -> StagePairs:
        """Both variances by marginal likelihood over a small grid."""
        blank = cls(predictor, features, targets)
        additive, pair = blank._kernels(blank._away)
        away, noise = targets - targets.mean(), predictor.variances["noise"]
        scale = max(float(np.mean(np.diag(pair))), 1e-300)
        best = (-np.inf, 0.0, noise)
        for weight in (share * noise / scale for share in _SHARES):
            for left in (share * noise for share in _NOISES):
                covariance = additive + weight * pair + left * np.eye(len(targets))
                fits = away @ np.linalg.solve(covariance, away)
                likelihood = -0.5 * float(np.linalg.slogdet(covariance)[1] + fits)
                best = max(best, (likelihood, weight, left), key=lambda tried: tried[0])
        return cls(predictor, features, targets, *best[1:])

    @classmethod
    def from_json(cls, predictor: QualityPredictor, data: Mapping[str, Any]) -> StagePairs:
        return cls(predictor, *_data(predictor), float(data["weight"]), float(data["noise"]))

    def to_json(self) -> dict[str, Any]:
        return {"weight": self.weight, "noise": self.noise}

    def predict(self, features: Array) -> Array:
        one, two = self._kernels(features - self._centre)
        return np.asarray(self.targets.mean() + (one + self.weight * two) @ self._solved)

    @cached_property
    def _centre(self) -> Array:
        centre: Array = self.features.mean(axis=0)
        return centre

    @cached_property
    def _away(self) -> Array:
        return self.features - self._centre

    @cached_property
    def _prior(self) -> Array:
        return prior_covariance(self.predictor.loadings, self.predictor.variances)

    @cached_property
    def _parts(self) -> list[Genes]:
        """Cells of every stage (and of the resolutions) in which the networks differ."""
        stage = _stages_of(self.predictor)
        parts = [np.flatnonzero(stage == s) for s in np.unique(stage)]
        return [p for p in parts if np.ptp(self.features[:, p], axis=0).any()]

    @cached_property
    def _solved(self) -> Array:
        additive, pair = self._kernels(self._away)
        covariance = additive + self.weight * pair + self.noise * np.eye(len(self.targets))
        return np.asarray(np.linalg.solve(covariance, self.targets - self.targets.mean()))

    def _kernels(self, away: Array) -> tuple[Array, Array]:
        """(additive, pairs), both (n, networks of the data)."""
        each = [away[:, p] @ self._prior[np.ix_(p, p)] @ self._away[:, p].T for p in self._parts]
        total = sum(each, np.zeros((len(away), len(self._away))))
        # Sum over pairs of products, without the loop over pairs.
        return away @ self._prior @ self._away.T, (
            total**2 - sum((k**2 for k in each), np.zeros_like(total))
        ) / 2


@dataclass(frozen=True, eq=False)
class Perceptron:
    """Layers of (weights (in, out), bias (out,)), rectified in between, on standardised scores."""

    mean: float
    scale: float
    layers: tuple[tuple[Array, Array], ...]

    @classmethod
    def fit(cls, predictor: QualityPredictor, features: Array, targets: Array, seed: int) -> Perceptron:
        """Of the cells alone: how they bend with the resolution it finds out by itself."""
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
        from sklearn.neural_network import MLPRegressor  # noqa: PLC0415 - a second to import, and workers only

        mean, scale = float(targets.mean()), max(float(targets.std()), 1e-12)
        network = MLPRegressor(
            hidden_layer_sizes=(64, 64),
            alpha=1.0,
            solver="lbfgs",
            max_iter=400,
            random_state=seed,
            max_fun=10**6,
            tol=1e-3,
        )
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # stopped early is fine: it is judged held out
            network.fit(features[:, : _cells(predictor)], (targets - mean) / scale)
        # Rounded as they are stored, so that a predictor read back says the same.
        layers = zip(network.coefs_, network.intercepts_, strict=True)
        return cls(mean, scale, tuple((_single(weights), _single(bias)) for weights, bias in layers))

    @classmethod
    def from_json(cls, predictor: QualityPredictor, data: Mapping[str, Any]) -> Perceptron:
        layers = tuple((_unpacked(one["weights"]), _unpacked(one["bias"])) for one in data["layers"])
        sizes = [_cells(predictor), *(weights.shape[-1] for weights, _ in layers)]
        for before, after, (weights, bias) in zip(sizes, sizes[1:], layers, strict=False):
            if weights.shape != (before, after) or bias.shape != (after,):
                raise ValueError("its layers do not fit together")
        if sizes[-1] != 1:
            raise ValueError("it has no single output")
        return cls(float(data["mean"]), float(data["scale"]), layers)

    def to_json(self) -> dict[str, Any]:
        layers = [{"weights": _packed(weights), "bias": _packed(bias)} for weights, bias in self.layers]
        return {"mean": self.mean, "scale": self.scale, "layers": layers}

    def predict(self, features: Array) -> Array:
        features = features[:, : len(self.layers[0][0])]
        for weights, bias in self.layers[:-1]:
            features = np.maximum(features @ weights + bias, 0.0)
        weights, bias = self.layers[-1]
        return np.asarray(self.mean + self.scale * (features @ weights + bias)[:, 0])


_READ: Final[dict[str, Callable[[QualityPredictor, Mapping[str, Any]], Model]]] = {
    "pairs": StagePairs.from_json,
    "mlp": Perceptron.from_json,
}


def _cells(predictor: QualityPredictor) -> int:
    return int(predictor.space.chain.gene_sizes.sum())


def _single(values: Array) -> Array:
    return values.astype(np.float32).astype(np.float64)


def _packed(values: Array) -> dict[str, Any]:
    """Little-endian float32 as base64."""
    return {"shape": list(values.shape), "data": base64.b64encode(values.astype("<f4").tobytes()).decode()}


def _unpacked(data: Mapping[str, Any]) -> Array:
    return (
        np.frombuffer(base64.b64decode(data["data"]), dtype="<f4").reshape(data["shape"]).astype(np.float64)
    )
