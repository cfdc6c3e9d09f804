"""Active choice: distinct, new, and more telling than random networks."""

import numpy as np
import pytest

from supernets.accuracy.choice import ROUNDS, choose_next, most_telling, score_in_rounds
from supernets.accuracy.predictor import QualityPredictor, rmse, to_score
from supernets.accuracy.prior import cells, posterior
from supernets.spaces.catalog import space_named

SPACE = space_named("digits-mbv3")


@pytest.fixture
def predictor():
    generator = np.random.default_rng(0)
    genes = SPACE.chain.sample(generator, 30)
    features = cells(SPACE.chain, genes)
    values = 90 + features @ generator.normal(size=features.shape[1]) + 0.2 * generator.normal(size=30)
    return QualityPredictor.fit(SPACE, genes, values, folds=0)


def total_variance(predictor, extra, fresh):
    """Summed posterior variance of fresh networks once `extra` were scored too (it does not depend on their
    scores)."""
    features = predictor.features(np.concatenate([predictor.genes, extra]))
    belief = posterior(features, np.zeros(len(features)), predictor.loadings, predictor.variances)
    return belief.variance(predictor.features(fresh)).sum()


def test_choices_are_new_and_distinct(predictor):
    chosen = choose_next(predictor, np.random.default_rng(1), 20, sampled=300)
    rows = {tuple(g) for g in chosen.tolist()}
    assert len(rows) == 20 and not rows & {tuple(g) for g in predictor.genes.tolist()}
    assert np.array_equal(chosen, SPACE.chain.canonical(chosen))


def test_choices_tell_more_than_random_ones(predictor):
    fresh = SPACE.chain.sample(np.random.default_rng(2), 300)
    chosen = total_variance(
        predictor, choose_next(predictor, np.random.default_rng(3), 15, sampled=400), fresh
    )
    random = [
        total_variance(predictor, SPACE.chain.sample(np.random.default_rng(s), 15), fresh) for s in range(10)
    ]
    assert chosen < min(random)


def test_a_small_pool_is_used_up(predictor):
    features = predictor.features(SPACE.chain.sample(np.random.default_rng(4), 5))
    assert sorted(most_telling(predictor.belief, features, 9).tolist()) == [0, 1, 2, 3, 4]


class Scorer:
    """Additive accuracies with noise that belongs to the network, and how often each network was asked
    for."""

    def __init__(self):
        self.weights = np.random.default_rng(5).normal(size=int(SPACE.chain.gene_sizes.sum()))
        self.asked = []

    def __call__(self, genes):
        self.asked.append(genes)
        noise = [
            np.random.default_rng(int.from_bytes(row.tobytes(), "little") % 2**32).normal() for row in genes
        ]
        return 90 + cells(SPACE.chain, genes) @ self.weights + 0.2 * np.array(noise)


def test_rounds_evaluate_each_network_once_and_the_same_ones_again():
    first, again = Scorer(), Scorer()
    fitted = score_in_rounds(SPACE, 34, np.random.default_rng(0), first)
    assert len(first.asked) == 1 + ROUNDS
    rows = np.concatenate(first.asked)
    assert len(np.unique(rows, axis=0)) == len(rows) == 34 and np.array_equal(fitted.genes, rows)
    ends = {
        SPACE.genes(pick(r)).tobytes() for r in SPACE.resolutions for pick in (SPACE.largest, SPACE.smallest)
    }
    assert ends <= {row.tobytes() for row in first.asked[0]}
    same = score_in_rounds(SPACE, 34, np.random.default_rng(0), again)
    assert np.array_equal(same.genes, fitted.genes) and same.held_out == fitted.held_out


def test_only_the_networks_drawn_at_random_are_held_out():
    fitted = score_in_rounds(SPACE, 40, np.random.default_rng(0), Scorer())
    assert fitted.drawn == 20 and fitted.held_out.networks == 20 and fitted.held_out.folds == 5
    seen = []

    def nothing_learnt(features, scores):
        seen.append(len(features))
        return lambda asked: to_score(np.full(len(asked), 88.0), fitted.ceiling)

    judged = fitted.judge(nothing_learnt, 4)
    assert seen == [35] * 4, "all but the part held out of the networks drawn"
    assert judged.rmse == pytest.approx(rmse(np.full(20, 88.0), fitted.qualities[:20]))


def test_a_pool_is_the_limit():
    pool = np.unique(SPACE.chain.sample(np.random.default_rng(6), 35), axis=0)
    scorer = Scorer()
    fitted = score_in_rounds(SPACE, 60, np.random.default_rng(0), scorer, extremes=False, pool=pool)
    assert {r.tobytes() for r in fitted.genes} == {r.tobytes() for r in pool} and len(fitted.genes) == len(
        pool
    )
