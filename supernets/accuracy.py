"""Accuracy predictor: additive Bayesian ridge on the one-hot choices of a sub-network.

Once-for-All (Cai et al., ICLR 2020) predicts accuracy with a perceptron of 372,801 weights from 16,000 scored
sub-networks. The accuracy of these sub-networks is additive to within the noise of measuring it, so a
linear model with a hierarchical prior needs some two hundred of them, says how sure it is, and gives the exact
solver an additive score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from latency_tables.dense import Array, DenseTable, Genes
from latency_tables.errors import InvalidPredictor, TooFewNetworks
from supernets.additive_prior import Posterior, cell_offsets, cells, learn_variances, posterior, prior_loadings
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space

MINIMUM_NETWORKS = 10
FORM = "additive-ridge-1"


@dataclass(frozen=True)
class HeldOut:
    """Error on networks the model has not seen, by cross-validation; `rmse` in the unit of the accuracies."""

    rmse: float
    kendall_tau: float
    folds: int


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
class AccuracyPredictor:
    """Accuracy of every sub-network of a space, additive over its choices.

    genes (networks, genes) and accuracies (networks,) are the scored sub-networks, variances what the prior
    learnt from them; all else follows. Accuracies keep the unit they were given in.
    """

    space: Space
    genes: Genes
    accuracies: Array
    variances: Mapping[str, float]
    held_out: HeldOut | None = None

    @classmethod
    def fit(
        cls,
        space: Space,
        architectures: Sequence[Architecture] | Genes,
        accuracies: Sequence[float] | Array,
        *,
        folds: int = 5,
        seed: int = 0,
    ) -> AccuracyPredictor:
        """Fit to scored sub-networks, with held-out error by cross-validation (`folds=0`: without).

        Raises TooFewNetworks below 10 networks, InvalidPredictor for accuracies that are not finite.
        """
        genes, values = as_genes(space, architectures), np.asarray(accuracies, dtype=np.float64)
        _check(genes, values)
        features, loadings = cells(space.chain, genes), prior_loadings(space)
        variances = learn_variances(features, values, loadings)
        fitted = cls(space, genes, values, variances)
        return replace(fitted, held_out=fitted.cross_validate(folds, seed)) if folds else fitted

    @cached_property
    def belief(self) -> Posterior:
        """What is known about every cell of the space."""
        return posterior(cells(self.space.chain, self.genes), self.accuracies, prior_loadings(self.space), self.variances)

    @property
    def additive(self) -> bool:
        """Whether `dense()` prices exactly what `predict` predicts."""
        return True

    def predict(self, genes: Genes) -> Array:
        """Expected accuracy of each network, shape (networks,)."""
        return self.belief.predict(cells(self.space.chain, genes))

    def deviation(self, genes: Genes) -> Array:
        """Standard deviation of a measured accuracy around `predict`, shape (networks,)."""
        return np.sqrt(self.belief.variance(cells(self.space.chain, genes)))

    def cross_validate(self, folds: int, seed: int = 0) -> HeldOut:
        """Held-out error; every fold learns its own variances, started from those of all the data."""
        folds = min(folds, len(self.genes))
        features, loadings = cells(self.space.chain, self.genes), prior_loadings(self.space)
        fold = np.random.default_rng(seed).permutation(len(self.genes)) % folds
        predicted = np.empty(len(self.genes))
        for k in range(folds):
            seen, kept = fold != k, fold == k
            variances = learn_variances(features[seen], self.accuracies[seen], loadings, self.variances)
            predicted[kept] = posterior(features[seen], self.accuracies[seen], loadings, variances).predict(features[kept])
        return HeldOut(rmse(predicted, self.accuracies), kendall_tau(predicted, self.accuracies), folds)

    def dense(self) -> DenseTable:
        """The additive score of the whole space, for the exact solver."""
        chain, belief, offsets = self.space.chain, self.belief, cell_offsets(self.space.chain)
        base = belief.mean - float(belief.centre @ belief.weights)
        blocks, depths, before = [], [], 1
        for column, shape in zip(chain.offsets, chain.stages, strict=True):
            width, depth = _values(belief.weights, offsets, column, shape.widths), int(offsets[column + 1])
            table = np.zeros((chain.resolutions, before, shape.widths, shape.blocks, max(shape.choices)))
            for block, choices in enumerate(shape.choices):
                table[..., block, :choices] = _values(belief.weights, offsets, column + 2 + block, choices)
                table[..., block, choices:] = -np.inf
            # Every network has block 0, so what a width is worth is counted there.
            table[..., 0, :] += width[None, None, :, None]
            blocks.append(table)
            depths.append(np.tile(belief.weights[depth : depth + len(shape.depths)], (chain.resolutions, 1)))
            before = shape.widths
        return DenseTable(chain, base + belief.weights[: chain.resolutions], tuple(blocks), tuple(depths))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        held_out = self.held_out and {
            "rmse": self.held_out.rmse,
            "kendall_tau": self.held_out.kendall_tau,
            "folds": self.held_out.folds,
        }
        return {
            "form": FORM,
            "space": self.space.name,
            "resolutions": list(self.space.resolutions),
            "classes": self.space.classes,
            "genes": self.genes.tolist(),
            "accuracies": self.accuracies.tolist(),
            "variances": dict(self.variances),
            "held_out": held_out,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], space: Space | None = None) -> AccuracyPredictor:
        """Read `to_json`'s form; `space` is needed where the catalog lacks it. Raises InvalidPredictor."""
        try:
            if data["form"] != FORM:
                raise InvalidPredictor(f"an accuracy predictor of form {FORM!r} was wanted; fit it again")
            base = space_named(data["space"]) if space is None else space
            space = base.at(data["resolutions"]).with_classes(data["classes"])
            genes, values = np.array(data["genes"], dtype=np.int64), np.array(data["accuracies"], dtype=np.float64)
            variances = {name: float(data["variances"][name]) for name in (*prior_loadings(space), "noise")}
            held_out = None if data["held_out"] is None else HeldOut(**data["held_out"])
        except (LookupError, TypeError, ValueError) as error:
            raise InvalidPredictor(f"not an accuracy predictor ({error}); fit it again") from error
        _check(as_genes(space, genes), values)
        return cls(space, genes, values, variances, held_out)


def as_genes(space: Space, architectures: Sequence[Architecture] | Genes) -> Genes:
    """Canonical genes, shape (networks, genes). Raises InvalidPredictor, InvalidArchitecture."""
    if not isinstance(architectures, np.ndarray):
        return np.array([space.genes(a) for a in architectures], dtype=np.int64).reshape(-1, space.chain.genes)
    if architectures.ndim != 2 or architectures.shape[1] != space.chain.genes:
        raise InvalidPredictor(f"genes of {space.name} have {space.chain.genes} columns")
    if (architectures < 0).any() or (architectures >= space.chain.gene_sizes).any():
        raise InvalidPredictor(f"genes outside {space.name}")
    return space.chain.canonical(architectures.astype(np.int64))


def _values(weights: Array, offsets: Genes, gene: int, size: int) -> Array:
    return weights[offsets[gene] : offsets[gene] + size]


def _check(genes: Genes, values: Array) -> None:
    if values.shape != (len(genes),) or not np.isfinite(values).all():
        raise InvalidPredictor("one finite accuracy per sub-network is needed")
    if len(genes) < MINIMUM_NETWORKS:
        missing = MINIMUM_NETWORKS - len(genes)
        raise TooFewNetworks(f"an accuracy predictor needs {MINIMUM_NETWORKS} scored sub-networks; {missing} more", missing)
