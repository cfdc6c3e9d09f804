"""The accuracy predictor: exact recovery, honest errors, exact dense table, round trips, real data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables.errors import TooFewNetworks
from supernets.accuracy.predictor import FORM, QualityPredictor, kendall_tau, rmse
from supernets.accuracy.prior import _reduce, cells, features_of, learn_variances, prior_loadings
from supernets.accuracy.scores import parse_scores, read_scores
from supernets.errors import InvalidPredictor
from supernets.spaces.catalog import space_named
from supernets.tasks.metric import Metric

SPACE = space_named("digits-mbv3")
MEASURED = Path(__file__).resolve().parents[4] / "shared" / "data" / "ofa_mbv3_imagenet_top1.csv.gz"


def _truth(generator, noise=0.0, networks=120):
    genes = SPACE.chain.sample(generator, networks)
    features = cells(SPACE.chain, genes)
    weights = generator.normal(size=features.shape[1])
    return genes, weights, 90 + features @ weights + noise * generator.normal(size=networks)


def test_recovers_an_additive_accuracy():
    generator = np.random.default_rng(0)
    genes, weights, values = _truth(generator, networks=400)
    predictor = QualityPredictor.fit(SPACE, genes, values, folds=0)
    fresh = SPACE.chain.sample(generator, 200)
    assert rmse(predictor.predict(fresh), 90 + cells(SPACE.chain, fresh) @ weights) < 0.05


def _bent(generator, networks):
    """Effects that vary with the resolution, as those of real networks do."""
    genes = SPACE.chain.sample(generator, networks)
    features = features_of(SPACE, genes, 2)
    return (
        genes,
        features,
        np.r_[1.0, 0.6, 0.3].repeat(features.shape[1] // 3)
        * np.random.default_rng(7).normal(size=features.shape[1]),
    )


def test_effects_may_vary_with_the_resolution_and_the_exact_table_knows_it():
    generator = np.random.default_rng(6)
    genes, features, weights = _bent(generator, 400)
    values = 90 + features @ weights + 0.1 * generator.normal(size=400)
    bent, straight = (
        QualityPredictor.fit(SPACE, genes[:300], values[:300], folds=0, degree=degree) for degree in (2, 0)
    )
    errors = [rmse(one.predict(genes[300:]), values[300:]) for one in (bent, straight)]
    assert errors[0] < 0.35 * errors[1]
    price = bent.dense().price(genes)
    assert price == pytest.approx(bent.scores(genes), abs=1e-9)
    table = bent.dense().blocks[1]
    assert not np.allclose(table[0], table[-1]), "a choice is worth something else at each resolution"
    again = QualityPredictor.from_json(json.loads(json.dumps(bent.to_json())))
    assert np.array_equal(again.predict(genes), bent.predict(genes))


@pytest.mark.parametrize("networks", [24, 60, 160])
def test_effects_that_do_not_vary_are_not_made_to(networks):
    for seed in range(5):
        genes, _, values = _truth(np.random.default_rng(seed), noise=0.5, networks=networks)
        assert QualityPredictor.fit(SPACE, genes, values, folds=0).degree == 0


def test_predictors_of_before_read_as_they_were_and_one_resolution_has_nothing_to_vary_with():
    genes, _, values = _truth(np.random.default_rng(1))
    old = QualityPredictor.fit(SPACE, genes, values, degree=0)
    assert old.to_json()["form"] == FORM and "degree" not in old.to_json()
    read = QualityPredictor.from_json(json.loads(json.dumps(old.to_json())))
    assert read.degree == 0 and np.array_equal(read.predict(genes), old.predict(genes))
    one = SPACE.at([12])
    alone = QualityPredictor.fit(one, one.chain.sample(np.random.default_rng(0), 40), values[:40], folds=0)
    assert alone.degree == 0 and alone.to_json()["form"] == FORM
    two = SPACE.at([8, 12])
    few = two.chain.sample(np.random.default_rng(0), 120)
    features = features_of(two, few, 1)
    bent = 90 + features @ np.random.default_rng(2).normal(size=features.shape[1])
    pair = QualityPredictor.fit(two, few, bent, folds=0)
    assert pair.degree == 1 and QualityPredictor.from_json(pair.to_json()).degree == 1
    for wrong in (0, 2, -1, "x", None):
        with pytest.raises(InvalidPredictor):
            QualityPredictor.from_json({**pair.to_json(), "degree": wrong})


def test_held_out_error_is_that_of_networks_it_has_not_seen():
    generator = np.random.default_rng(1)
    genes, weights, values = _truth(generator, noise=0.5)
    predictor = QualityPredictor.fit(SPACE, genes, values)
    fresh = SPACE.chain.sample(generator, 500)
    measured = 90 + cells(SPACE.chain, fresh) @ weights + 0.5 * generator.normal(size=500)
    assert predictor.held_out.rmse == pytest.approx(rmse(predictor.predict(fresh), measured), rel=0.35)
    assert predictor.held_out.rmse > rmse(predictor.predict(genes), values)


def test_an_error_is_predicted_by_its_quality_and_a_metric_without_a_best_value_saturates_at_nothing():
    """Errors that shrink by shares add up as logarithms, so the link with its ceiling is chosen for them."""
    generator = np.random.default_rng(5)
    genes = SPACE.chain.sample(generator, 160)
    features = cells(SPACE.chain, genes)
    errors = np.exp(2 + 0.25 * features @ generator.normal(size=features.shape[1]))
    error, open_ended = Metric("error_hz", False, 0.0, None), Metric("log_likelihood", True, None, None)
    predictor = QualityPredictor.fit(SPACE, genes, -errors, metric=error)
    assert predictor.ceiling is not None and predictor.ceiling > (-errors).max()
    assert predictor.held_out.kendall_tau > 0.9
    read = QualityPredictor.from_json(json.loads(json.dumps(predictor.to_json())))
    assert (
        read.metric == error and "metric" not in QualityPredictor.fit(SPACE, genes, errors, folds=0).to_json()
    )
    assert (read.metric.value(read.predict(genes)) >= 0).all(), "no error below nothing"
    assert QualityPredictor.fit(SPACE, genes, -errors, folds=0, metric=open_ended).ceiling is None


def test_deviation_covers_what_it_says():
    generator = np.random.default_rng(2)
    genes, weights, values = _truth(generator, noise=0.5)
    predictor = QualityPredictor.fit(SPACE, genes, values, folds=0)
    fresh = SPACE.chain.sample(generator, 1000)
    measured = 90 + cells(SPACE.chain, fresh) @ weights + 0.5 * generator.normal(size=1000)
    covered = np.mean(np.abs(predictor.predict(fresh) - measured) <= 1.96 * predictor.deviation(fresh))
    assert 0.88 <= covered <= 0.99


def test_noise_alone_is_predicted_by_its_mean():
    generator = np.random.default_rng(3)
    genes = SPACE.chain.sample(generator, 60)
    predictor = QualityPredictor.fit(SPACE, genes, 97 + 0.1 * generator.normal(size=60))
    assert np.ptp(predictor.predict(genes)) < 0.2
    assert predictor.held_out.rmse < 0.15


def test_equal_accuracies_do_not_break_it():
    genes = SPACE.chain.sample(np.random.default_rng(4), 20)
    predictor = QualityPredictor.fit(SPACE, genes, np.full(20, 0.9))
    assert predictor.predict(genes) == pytest.approx(np.full(20, 0.9))
    assert predictor.held_out.kendall_tau == 0.0


@pytest.mark.parametrize("name", ["digits-mbv3", "ofa-mbv3"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=5, deadline=None)
def test_dense_table_is_the_prediction(name, seed):
    space = space_named(name)
    generator = np.random.default_rng(seed)
    genes = space.chain.sample(generator, 30)
    predictor = QualityPredictor.fit(space, genes, generator.uniform(70, 80, 30), folds=0)
    fresh = space.chain.sample(generator, 50)
    assert predictor.quality_of(predictor.dense().price(fresh)) == pytest.approx(
        predictor.predict(fresh), abs=1e-9
    )


def test_a_saturating_accuracy_is_learnt_and_stays_additive_in_its_score():
    generator = np.random.default_rng(9)
    genes = SPACE.chain.sample(generator, 300)
    features = cells(SPACE.chain, genes)
    weights = 0.15 * generator.normal(size=features.shape[1])
    values = 80 - 3 * np.exp(-(features - features.mean(0)) @ weights) + 0.02 * generator.normal(size=300)
    predictor = QualityPredictor.fit(SPACE, genes[:200], values[:200], folds=0)
    linear = replace(
        predictor,
        ceiling=None,
        variances=learn_variances(predictor.features(genes[:200]), values[:200], predictor.loadings)[0],
    )
    error = rmse(predictor.predict(genes[200:]), values[200:])
    assert predictor.ceiling > values[:200].max() and error < 0.6 * rmse(
        linear.predict(genes[200:]), values[200:]
    )
    scores = predictor.dense().price(genes)
    assert np.array_equal(
        np.argsort(scores, kind="stable"), np.argsort(predictor.predict(genes), kind="stable")
    )
    again = QualityPredictor.from_json(json.loads(json.dumps(predictor.to_json())))
    assert np.array_equal(again.predict(genes), predictor.predict(genes))
    with pytest.raises(InvalidPredictor, match="ceiling"):
        QualityPredictor.from_json({**predictor.to_json(), "ceiling": 60.0})


def test_gradient_of_the_likelihood():
    generator = np.random.default_rng(5)
    genes, _, values = _truth(generator, noise=0.3, networks=40)
    reduced = _reduce(cells(SPACE.chain, genes), values, list(prior_loadings(SPACE).values()))
    at = generator.normal(size=len(reduced.kernels) + 1)
    _, gradient = reduced.loss(at)
    for i in range(len(at)):
        step = 1e-5 * np.eye(len(at))[i]
        slope = (reduced.loss(at + step)[0] - reduced.loss(at - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_json_round_trip():
    generator = np.random.default_rng(6)
    genes, _, values = _truth(generator, noise=0.1, networks=40)
    predictor = QualityPredictor.fit(SPACE, [SPACE.architecture(g) for g in genes], values, folds=3)
    again = QualityPredictor.from_json(json.loads(json.dumps(predictor.to_json())))
    assert np.array_equal(again.predict(genes), predictor.predict(genes))
    assert again.held_out == predictor.held_out


@pytest.mark.parametrize(
    "broken",
    [{}, {"form": "other"}, {"genes": [[0]]}, {"space": 3}, {"accuracies": [1.0]}, {"variances": {}}],
)
def test_broken_json_is_named(broken):
    generator = np.random.default_rng(7)
    genes, _, values = _truth(generator, networks=20)
    data = QualityPredictor.fit(SPACE, genes, values, folds=0).to_json()
    with pytest.raises(InvalidPredictor):
        QualityPredictor.from_json({**data, **broken} if broken else {})


def test_bad_scores_are_named():
    genes = SPACE.chain.sample(np.random.default_rng(8), 12)
    with pytest.raises(TooFewNetworks) as few:
        QualityPredictor.fit(SPACE, genes[:4], np.zeros(4))
    assert few.value.missing == 6
    with pytest.raises(InvalidPredictor):
        QualityPredictor.fit(SPACE, genes, np.full(12, np.nan))
    with pytest.raises(InvalidPredictor):
        QualityPredictor.fit(SPACE, genes, np.zeros(11))
    with pytest.raises(InvalidPredictor):
        QualityPredictor.fit(SPACE, genes + 100, np.zeros(12))


def test_kendall_tau_ranks():
    assert kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0])) == pytest.approx(1.0)
    assert kendall_tau(np.array([3.0, 2.0, 1.0]), np.array([10.0, 20.0, 30.0])) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"depth": "9 9 9 9 9"},
        {"kernel": "3"},
        {"top1_percent": "nan"},
        {"top1_percent": ""},
        {"resolution": "7"},
    ],
)
def test_a_wrong_row_of_scores_is_named(change):
    row = {
        "depth": "2 2 2 2 2",
        "kernel": " ".join(["3"] * 20),
        "expand": " ".join(["4"] * 20),
        "resolution": "224",
        "top1_percent": "75",
    }
    space = space_named("ofa-mbv3")
    genes, values = parse_scores(space, [row])
    assert space.architecture(genes[0]).resolution == 224 and values.tolist() == [75.0]
    with pytest.raises(InvalidPredictor, match="row 3"):
        parse_scores(space, [row, {**row, **change}])


@pytest.mark.skipif(not MEASURED.exists(), reason="measured accuracies (../shared/data) are not here")
def test_meets_the_aim_on_measured_sub_networks():
    space = space_named("ofa-mbv3")
    genes, values = read_scores(space, MEASURED)
    order = np.random.default_rng([0, 0]).permutation(len(genes))
    predictor = QualityPredictor.fit(space, genes[order[:200]], values[order[:200]], folds=0)
    predicted = predictor.predict(genes[order[200:]])
    assert rmse(predicted, values[order[200:]]) <= 0.12
    assert kendall_tau(predicted, values[order[200:]]) >= 0.93
