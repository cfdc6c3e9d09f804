"""Refinements are used only where they win on networks held out; kept with the predictor they predict the
same."""

import json

import numpy as np
import pytest

from supernets.accuracy.predictor import HeldOut, QualityPredictor, rmse
from supernets.accuracy.prior import cells
from supernets.accuracy.refinement import (
    Perceptron,
    RefinedScore,
    Refinement,
    StagePairs,
    _data,
    _stages_of,
    from_json,
    refine,
    summary,
    to_json,
)
from supernets.errors import InvalidPredictor
from supernets.spaces.catalog import space_named

SPACE = space_named("digits-mbv3")


def made(pairs, noise, networks=160):
    generator = np.random.default_rng(0)
    genes = SPACE.chain.sample(generator, networks + 100)
    features = cells(SPACE.chain, genes) - 0.3
    features[:, : len(SPACE.resolutions)] = 0
    weights = generator.normal(size=features.shape[1])
    stage = _stages_of(QualityPredictor(SPACE, genes, np.zeros(len(genes)), {}))
    parts = [features[:, stage == s] @ weights[stage == s] for s in range(1, 4)]
    values = (
        90
        + sum(parts)
        + pairs * (parts[0] * parts[1] + parts[1] * parts[2])
        + noise * generator.normal(size=len(genes))
    )
    predictor = QualityPredictor.fit(SPACE, genes[:networks], values[:networks], folds=0)
    return predictor, genes[networks:], values[networks:]


def test_nothing_is_added_to_an_additive_accuracy():
    predictor, _, _ = made(pairs=0.0, noise=0.5)
    assert refine(predictor, folds=3) is None


def test_a_refinement_wins_where_stages_depend_on_each_other():
    predictor, genes, values = made(pairs=0.3, noise=0.1)
    found = refine(predictor, folds=3)
    assert found is not None and found.held_out.rmse < 0.97 * found.additive.rmse
    assert rmse(found.predict(genes), values) < rmse(predictor.predict(genes), values)


@pytest.fixture(scope="module")
def refinements():
    predictor, _, _ = made(pairs=0.3, noise=0.1, networks=40)
    models = {
        "pairs": StagePairs.fit(predictor, *_data(predictor)),
        "mlp": Perceptron.fit(predictor, *_data(predictor), 0),
    }
    errors = HeldOut(0.1, 0.9, 3, 40), HeldOut(0.2, 0.8, 3, 40)
    return {name: Refinement(name, *errors, predictor, model) for name, model in models.items()}


@pytest.mark.parametrize("name", ["pairs", "mlp"])
def test_stored_as_json_it_predicts_the_same(refinements, name):
    kept = refinements[name]
    stored = json.loads(json.dumps(to_json(kept.predictor, kept), allow_nan=False))
    predictor, again = from_json(stored)
    genes = SPACE.chain.sample(np.random.default_rng(3), 50)
    assert np.allclose(again.predict(genes), kept.predict(genes), rtol=1e-12)
    assert np.array_equal(predictor.predict(genes), kept.predictor.predict(genes))
    assert (again.name, again.held_out, again.additive) == (name, kept.held_out, kept.additive)
    assert np.array_equal(QualityPredictor.from_json(stored).predict(genes), predictor.predict(genes)), (
        "either reads alone"
    )


def test_predictors_of_before_have_no_refinement(refinements):
    old = refinements["pairs"].predictor.to_json()
    del old["drawn"]
    predictor, refinement = from_json({**old, "held_out": {"rmse": 0.1, "kendall_tau": 0.9, "folds": 5}})
    assert refinement is None and predictor.drawn == 0 and predictor.held_out == HeldOut(0.1, 0.9, 5)
    assert summary(predictor)["name"] == "additive" and summary(predictor)["held_out_networks"] is None
    assert to_json(predictor, None) == predictor.to_json()


def broken(data, name):
    refinement = data["refinement"]
    if name == "form":
        refinement["form"] = "refinement-9"
    elif name == "name":
        refinement["name"] = "forest"
    elif name == "held_out":
        del refinement["held_out"]["rmse"]
    elif name == "short":
        refinement["model"]["layers"][0]["bias"]["data"] = "AAAA"
    else:
        refinement["model"]["layers"].pop(0)
    return data


@pytest.mark.parametrize("what", ["form", "name", "held_out", "short", "layers"])
def test_a_damaged_refinement_is_named(refinements, what):
    kept = refinements["mlp"]
    data = json.loads(json.dumps(to_json(kept.predictor, kept)))
    with pytest.raises(InvalidPredictor, match="fit"):
        from_json(broken(data, what))


def test_a_space_of_fewer_resolutions_is_scored_by_the_whole_ones_predictor(refinements):
    kept: Refinement = refinements["pairs"]
    few = SPACE.at((12, 16))
    genes = few.chain.sample(np.random.default_rng(4), 20)
    whole = np.array([SPACE.genes(few.architecture(row)) for row in genes])
    assert np.array_equal(RefinedScore(kept, few.resolutions)(genes), kept.scores(whole))
    assert np.array_equal(np.argsort(kept.scores(whole)), np.argsort(kept.predict(whole))), (
        "the score ranks as the accuracy"
    )
