"""Active choice: distinct, new, and more telling than random networks."""

import numpy as np
import pytest

from supernets.accuracy import AccuracyPredictor
from supernets.accuracy_choice import choose_next, most_telling
from supernets.additive_prior import cells, posterior, prior_loadings
from supernets.spaces.catalog import space_named

SPACE = space_named("digits-mbv3")


@pytest.fixture
def predictor():
    generator = np.random.default_rng(0)
    genes = SPACE.chain.sample(generator, 30)
    features = cells(SPACE.chain, genes)
    values = 90 + features @ generator.normal(size=features.shape[1]) + 0.2 * generator.normal(size=30)
    return AccuracyPredictor.fit(SPACE, genes, values, folds=0)


def total_variance(predictor, extra, fresh):
    """Summed posterior variance of fresh networks once `extra` were scored too (it does not depend on their scores)."""
    features = cells(SPACE.chain, np.concatenate([predictor.genes, extra]))
    belief = posterior(features, np.zeros(len(features)), prior_loadings(SPACE), predictor.variances)
    return belief.variance(cells(SPACE.chain, fresh)).sum()


def test_choices_are_new_and_distinct(predictor):
    chosen = choose_next(predictor, np.random.default_rng(1), 20, pool=300)
    rows = {tuple(g) for g in chosen.tolist()}
    assert len(rows) == 20 and not rows & {tuple(g) for g in predictor.genes.tolist()}
    assert np.array_equal(chosen, SPACE.chain.canonical(chosen))


def test_choices_tell_more_than_random_ones(predictor):
    fresh = SPACE.chain.sample(np.random.default_rng(2), 300)
    chosen = total_variance(predictor, choose_next(predictor, np.random.default_rng(3), 15, pool=400), fresh)
    random = [total_variance(predictor, SPACE.chain.sample(np.random.default_rng(s), 15), fresh) for s in range(10)]
    assert chosen < min(random)


def test_a_small_pool_is_used_up(predictor):
    features = cells(SPACE.chain, SPACE.chain.sample(np.random.default_rng(4), 5))
    assert sorted(most_telling(predictor.belief, features, 9).tolist()) == [0, 1, 2, 3, 4]
