"""Refinements are used only where they win on networks held out."""

import numpy as np

from supernets.accuracy import AccuracyPredictor, rmse
from supernets.accuracy_refinement import _stages_of, refine
from supernets.additive_prior import cells
from supernets.spaces.catalog import space_named

SPACE = space_named("digits-mbv3")


def made(pairs, noise, networks=160):
    generator = np.random.default_rng(0)
    genes = SPACE.chain.sample(generator, networks + 100)
    features = cells(SPACE.chain, genes) - 0.3
    features[:, : len(SPACE.resolutions)] = 0
    weights = generator.normal(size=features.shape[1])
    stage = _stages_of(AccuracyPredictor(SPACE, genes, np.zeros(len(genes)), {}))
    parts = [features[:, stage == s] @ weights[stage == s] for s in range(1, 4)]
    values = 90 + sum(parts) + pairs * (parts[0] * parts[1] + parts[1] * parts[2]) + noise * generator.normal(size=len(genes))
    predictor = AccuracyPredictor.fit(SPACE, genes[:networks], values[:networks], folds=0)
    return predictor, genes[networks:], values[networks:]


def test_nothing_is_added_to_an_additive_accuracy():
    predictor, _, _ = made(pairs=0.0, noise=0.5)
    assert refine(predictor, folds=3) is None


def test_a_refinement_wins_where_stages_depend_on_each_other():
    predictor, genes, values = made(pairs=0.3, noise=0.1)
    found = refine(predictor, folds=3)
    assert found is not None and found.held_out.rmse < 0.97 * found.additive.rmse
    assert rmse(found.predict(genes), values) < rmse(predictor.predict(genes), values)
