"""Quality predictor: additive Bayesian ridge on the one-hot choices of a sub-network, under a saturating
link.

Once-for-All (Cai et al., ICLR 2020) predicts accuracy with a perceptron of 372,801 weights from 16,000
scored sub-networks. What adds up over choices is not the accuracy but how near it comes to a ceiling,
-log(ceiling - accuracy): the better a network is, the less one more good choice brings. With that link a
linear model with a hierarchical prior needs some two hundred scored networks, says how sure it is, and
gives the exact solver an additive score. What is predicted is a quality (`supernets.tasks.metric`), so
higher is better for every metric; one whose good side is open has nothing to saturate at, and no ceiling is
tried for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from latency_tables.errors import TooFewNetworks
from supernets.accuracy.prior import (
    BENDS,
    Posterior,
    bends_of,
    cell_offsets,
    features_of,
    learn_variances,
    posterior,
    prior_loadings,
)
from supernets.errors import InvalidPredictor
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space
from supernets.tasks.metric import ACCURACY, Metric

MINIMUM_NETWORKS = 10
CEILINGS = (
    0.3,
    0.6,
    1.0,
    1.5,
    2.5,
    5.0,
)  # tried above the best quality seen, in standard deviations; or none
MARGIN = 2.0  # in log likelihood: what the link has to gain before it is used
BEND_MARGIN = 4.0
"""What effects that vary with the resolution have to gain, in log likelihood, before they may: where none do,
the further variances gain less."""
FORM = "additive-ridge-1"
BENT_FORM = "additive-ridge-2"
"""Effects vary with the resolution."""

Predict = Callable[[Array], Array]  # features (n, cells) -> scores (n,)


@dataclass(frozen=True)
class HeldOut:
    """Error on networks the model has not seen, by cross-validation; `rmse` in the unit of the qualities.

    networks: how many were held out in turn, None in predictors of before that was kept.
    """

    rmse: float
    kendall_tau: float
    folds: int
    networks: int | None = None

    @classmethod
    def of(cls, predicted: Array, measured: Array, folds: int) -> HeldOut:
        return cls(rmse(predicted, measured), kendall_tau(predicted, measured), folds, len(measured))


def kendall_tau(predicted: Array, measured: Array) -> float:
    """Rank correlation in [-1, 1]; 0 where one of the two is constant."""
    if np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return 0.0
    from scipy.stats import kendalltau  # noqa: PLC0415 - the API reads predictors and must stay small

    return float(kendalltau(predicted, measured).statistic)


def rmse(predicted: Array, measured: Array) -> float:
    """Root of the mean squared error."""
    return float(np.sqrt(np.mean((predicted - measured) ** 2)))


@dataclass(frozen=True, eq=False)
class QualityPredictor:
    """Quality of every sub-network of a space, additive over its choices.

    genes (networks, genes) and qualities (networks,) are the scored sub-networks; ceiling (None: the quality
    itself is additive) and variances are what was learnt from them; all else follows. Qualities keep the
    unit they were given in. metric: what they are qualities of.
    drawn: so many of the first networks are a random sample and stand for all others in the held-out error
    (0: all are); those chosen because they tell most lie further out than a random one, and would overstate
    it.
    degree: in the logarithm of the resolution, by which effects vary; 0 of those that were fitted before they
    could.
    """

    space: Space
    genes: Genes
    qualities: Array
    variances: Mapping[str, float]
    ceiling: float | None = None
    held_out: HeldOut | None = None
    drawn: int = 0
    metric: Metric = ACCURACY
    degree: int = 0

    @classmethod
    def fit(
        cls,
        space: Space,
        architectures: Sequence[Architecture] | Genes,
        qualities: Sequence[float] | Array,
        *,
        folds: int = 5,
        seed: int = 0,
        drawn: int = 0,
        metric: Metric = ACCURACY,
        degree: int = BENDS,
    ) -> QualityPredictor:
        """Fit to scored sub-networks, with held-out error by cross-validation (`folds=0`: without).

        degree: by which effects may vary with the resolution, where that explains the networks better.

        Raises TooFewNetworks below 10 networks, InvalidPredictor for qualities that are not finite.
        """
        genes, values = as_genes(space, architectures), np.asarray(qualities, dtype=np.float64)
        _check(genes, values)
        variances, ceiling, loss = _learn(features_of(space, genes, 0), values, prior_loadings(space), metric)
        degree = bends_of(space, degree).shape[1]
        if degree:
            features, targets = features_of(space, genes, degree), to_score(values, ceiling)
            bent, less = learn_variances(features, targets, prior_loadings(space, degree))
            variances, degree = (bent, degree) if less < loss - BEND_MARGIN else (variances, 0)
        fitted = cls(space, genes, values, variances, ceiling, None, drawn, metric, degree)
        return replace(fitted, held_out=fitted.cross_validate(folds, seed)) if folds else fitted

    @cached_property
    def belief(self) -> Posterior:
        """What is known about every cell of the space."""
        targets = to_score(self.qualities, self.ceiling)
        return posterior(self.features(self.genes), targets, self.loadings, self.variances)

    @cached_property
    def loadings(self) -> dict[str, Array]:
        """The prior's, by group: (features, effects)."""
        return prior_loadings(self.space, self.degree)

    def features(self, genes: Genes) -> Array:
        """What the score is linear in, shape (networks, features)."""
        return features_of(self.space, genes, self.degree)

    def scores(self, genes: Genes) -> Array:
        """Expected score of each network, in the unit of `dense()`, shape (networks,)."""
        return self.belief.predict(self.features(genes))

    def predict(self, genes: Genes) -> Array:
        """Expected quality of each network, shape (networks,)."""
        return self.quality_of(self.scores(genes))

    def deviation(self, genes: Genes) -> Array:
        """Standard deviation of a measured quality around `predict`, shape (networks,); first order in the
        link."""
        features = self.features(genes)
        slope = 1.0 if self.ceiling is None else np.exp(-self.belief.predict(features))
        return np.asarray(slope * np.sqrt(self.belief.variance(features)))

    def quality_of(self, scores: Array) -> Array:
        """The qualities behind prices of `dense()`; ascending, so the better score is the better network."""
        return scores if self.ceiling is None else self.ceiling - np.exp(-scores)

    def cross_validate(self, folds: int, seed: int = 0) -> HeldOut:
        """Held-out error; every fold learns its own variances, started from those of all the data. The
        ceiling is shared."""
        return self.judge(self._own_fit(), folds, seed)

    def pairs(self, folds: int = 5, seed: int = 0) -> tuple[Array, Array]:
        """(predicted, measured) qualities behind `cross_validate`."""
        predicted, measured, _ = self.held_out_pairs(self._own_fit(), folds, seed)
        return predicted, measured

    def _own_fit(self) -> Callable[[Array, Array], Predict]:
        loadings = self.loadings

        def fit(features: Array, targets: Array) -> Predict:
            variances, _ = learn_variances(features, targets, loadings, self.variances)
            return posterior(features, targets, loadings, variances).predict

        return fit

    def judge(self, fit: Callable[[Array, Array], Predict], folds: int, seed: int = 0) -> HeldOut:
        """Held-out error of any way to fit scores (networks,) to features (networks, cells), on the networks
        drawn at random."""
        predicted, measured, folds = self.held_out_pairs(fit, folds, seed)
        return HeldOut.of(predicted, measured, folds)

    def held_out_pairs(
        self, fit: Callable[[Array, Array], Predict], folds: int, seed: int = 0
    ) -> tuple[Array, Array, int]:
        """(predicted, measured, folds) on the networks drawn at random, each predicted by a fit that had not
        seen it."""
        judged = self.drawn or len(self.genes)
        folds = min(folds, judged)
        features = self.features(self.genes)
        fold = np.full(len(self.genes), -1)
        fold[:judged] = np.random.default_rng(seed).permutation(judged) % folds
        predicted = np.empty(len(self.genes))
        for k in range(folds):
            seen, kept = fold != k, fold == k
            predict = fit(features[seen], to_score(self.qualities[seen], self.ceiling))
            predicted[kept] = self.quality_of(predict(features[kept]))
        return predicted[:judged], self.qualities[:judged], folds

    def dense(self) -> DenseTable:
        """The additive score of the whole space, for the exact solver; `quality_of` makes qualities of
        it."""
        chain, belief, offsets = self.space.chain, self.belief, cell_offsets(self.space.chain)
        base = belief.mean - float(belief.centre @ belief.weights)
        bends = bends_of(self.space, self.degree)
        # (resolutions, cells): what each cell is worth at each resolution.
        worth = np.column_stack([np.ones(chain.resolutions), bends]) @ belief.weights.reshape(
            1 + bends.shape[1], -1
        )
        blocks, depths, before = [], [], 1
        for column, shape in zip(chain.offsets, chain.stages, strict=True):
            state, depth = _values(worth, offsets, column, shape.states), int(offsets[column + 1])
            table = np.zeros((chain.resolutions, before, shape.states, shape.blocks, max(shape.choices)))
            for block, choices in enumerate(shape.choices):
                own = _values(worth, offsets, column + 2 + block, choices)
                table[..., block, :choices] = own[:, None, None]
                table[..., block, choices:] = -np.inf
            # Every network has block 0, so what a state is worth is counted there.
            table[..., 0, :] += state[:, None, :, None]
            blocks.append(table)
            depths.append(worth[:, depth : depth + len(shape.depths)])
            before = shape.states
        own = np.diag(worth[:, : chain.resolutions])
        return DenseTable(chain, base + own, tuple(blocks), tuple(depths))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "form": BENT_FORM if self.degree else FORM,
            "space": self.space.name,
            "resolutions": list(self.space.resolutions),
            "classes": self.space.classes,
            "genes": self.genes.tolist(),
            "accuracies": self.qualities.tolist(),
            "variances": dict(self.variances),
            "ceiling": self.ceiling,
            "held_out": None if self.held_out is None else asdict(self.held_out),
            "drawn": self.drawn,
            # Left out for accuracy, as before there were other metrics: stored predictors stay what they are.
            **({} if self.metric == ACCURACY else {"metric": self.metric.to_json()}),
            **({"degree": self.degree} if self.degree else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], space: Space | None = None) -> QualityPredictor:
        """Read `to_json`'s form; `space` is needed where the catalog lacks it. Raises InvalidPredictor."""
        try:
            if data["form"] not in (FORM, BENT_FORM):
                raise InvalidPredictor(
                    f"an accuracy predictor of form {FORM!r} or {BENT_FORM!r} was wanted; fit it again"
                )
            base = space_named(data["space"]) if space is None else space
            space = base.at(data["resolutions"]).with_classes(data["classes"])
            genes, values = (
                np.array(data["genes"], dtype=np.int64),
                np.array(data["accuracies"], dtype=np.float64),
            )
            degree = int(data["degree"]) if data["form"] == BENT_FORM else 0
            if data["form"] == BENT_FORM and (degree < 1 or degree != bends_of(space, degree).shape[1]):
                raise ValueError("its degree is not one of these resolutions")
            groups = (*prior_loadings(space, degree), "noise")
            variances = {name: float(data["variances"][name]) for name in groups}
            ceiling = None if data.get("ceiling") is None else float(data["ceiling"])
            held_out = None if data["held_out"] is None else HeldOut(**data["held_out"])
            drawn, metric = int(data.get("drawn", 0)), Metric.from_json(data.get("metric"))
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidPredictor(f"not an accuracy predictor ({error}); fit it again") from error
        _check(as_genes(space, genes), values)
        if ceiling is not None and not ceiling > values.max():
            raise InvalidPredictor("the ceiling must lie above every quality; fit it again")
        if not 0 <= drawn <= len(genes):
            raise InvalidPredictor("more networks were drawn than scored; fit it again")
        return cls(space, genes, values, variances, ceiling, held_out, drawn, metric, degree)


def for_space(data: Mapping[str, Any], space: Space) -> Mapping[str, Any]:
    """A stored predictor as one of the same networks priced for another sentence: qualities do not depend on
    that, and genes are the same."""
    if space.generation is None:
        return data
    return {**data, "space": space.name, "resolutions": list(space.resolutions)}


def as_genes(space: Space, architectures: Sequence[Architecture] | Genes) -> Genes:
    """Canonical genes, shape (networks, genes). Raises InvalidPredictor, InvalidArchitecture."""
    if not isinstance(architectures, np.ndarray):
        return np.array([space.genes(a) for a in architectures], dtype=np.int64).reshape(
            -1, space.chain.genes
        )
    if architectures.ndim != 2 or architectures.shape[1] != space.chain.genes:
        raise InvalidPredictor(f"genes of {space.name} have {space.chain.genes} columns")
    if (architectures < 0).any() or (architectures >= space.chain.gene_sizes).any():
        raise InvalidPredictor(f"genes outside {space.name}")
    return space.chain.canonical(architectures.astype(np.int64))


def to_score(qualities: Array, ceiling: float | None) -> Array:
    """What adds up over choices; all qualities must lie below the ceiling."""
    return qualities if ceiling is None else -np.log(ceiling - qualities)


def _learn(
    features: Array, values: Array, loadings: Mapping[str, Array], metric: Metric
) -> tuple[dict[str, float], float | None, float]:
    """(variances, ceiling, negative log likelihood of the scores) that make the qualities most likely; a
    ceiling must earn its place."""
    best, ceiling = learn_variances(features, values, loadings), None
    of_scores = best[1]
    if np.ptp(values) == 0 or metric.best is None:
        return best[0], None, of_scores
    start = None
    for share in CEILINGS:
        tried = float(values.max() + share * values.std())
        variances, loss = learn_variances(features, to_score(values, tried), loadings, start)
        # The likelihood of the qualities themselves: that of the scores times the slope of the link.
        whole = loss + float(np.log(tried - values).sum())
        if whole < best[1] - (0.0 if ceiling is not None else MARGIN):
            best, ceiling, of_scores = (variances, whole), tried, loss
        start = variances
    return best[0], ceiling, of_scores


def _values(worth: Array, offsets: Genes, gene: int, size: int) -> Array:
    """Of a gene's values, at each resolution: (resolutions, size)."""
    return worth[:, offsets[gene] : offsets[gene] + size]


def _check(genes: Genes, values: Array) -> None:
    if values.shape != (len(genes),) or not np.isfinite(values).all():
        raise InvalidPredictor("one finite quality per sub-network is needed")
    if len(genes) < MINIMUM_NETWORKS:
        missing = MINIMUM_NETWORKS - len(genes)
        raise TooFewNetworks(
            f"an accuracy predictor needs {MINIMUM_NETWORKS} scored sub-networks; {missing} more", missing
        )
