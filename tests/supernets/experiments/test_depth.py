"""How deep networks need to be: growth ends where it does not help, and the loss is that of equal steps."""

from dataclasses import replace

import numpy as np
import pytest

from supernets.accuracy.predictor import QualityPredictor
from supernets.errors import InvalidTraining
from supernets.experiments import depth
from supernets.experiments.depth import advise, grow, predicted_loss, with_depths
from supernets.search.restriction import excluded
from supernets.training.evaluation import Evaluator
from tests.supernets.experiments.test_controls import RECIPE, TINY, dataset


def test_depth_grows_where_validation_rises_and_the_loss_is_of_equal_steps():
    found = advise(TINY, dataset(), RECIPE, 0, period_epochs=1)
    deepest = tuple(stage.depths[-1] for stage in TINY.stages)
    assert all(
        least <= d <= most
        for least, d, most in zip((s.depths[0] for s in TINY.stages), found.depths, deepest, strict=True)
    )
    kept = [one for one in found.periods if one.kept]
    assert kept[-1].depths == found.depths and kept[0].stage is None
    told = found.to_json()
    assert told["macs"]["grown"] <= told["macs"]["deepest"]
    excluded(TINY, found.exclusions())  # a search understands what it is told
    assert found.standard_error > 0


@pytest.mark.parametrize(
    ("gain", "reached"), [(0.01, "deepest"), (0.0, "shallowest")], ids=["helps", "does not"]
)
def test_a_block_stays_only_where_validation_rose(monkeypatch, gain, reached):
    values = iter(0.5 + gain * np.arange(100))
    monkeypatch.setattr(Evaluator, "qualities", lambda self, networks: [next(values)])
    periods, depths = grow(TINY, dataset(), RECIPE, 0, 1, "cpu", lambda message: None)
    wanted = tuple(stage.depths[-1 if reached == "deepest" else 0] for stage in TINY.stages)
    assert depths == wanted
    growable = [stage for stage in TINY.stages if len(stage.depths) > 1]
    assert len(periods) == 1 + (sum(len(s.depths) - 1 for s in growable) if gain else len(growable))


def test_a_predictor_says_what_the_best_network_loses():
    genes = TINY.chain.sample(np.random.default_rng(0), 60)
    blocks = np.array([sum(stage.depth for stage in TINY.architecture(row).stages) for row in genes])
    predictor = QualityPredictor.fit(TINY, genes, 0.5 + 0.05 * blocks, folds=0)
    deepest = tuple(stage.depths[-1] for stage in TINY.stages)
    shallow = tuple(stage.depths[0] for stage in TINY.stages)
    assert predicted_loss(TINY, predictor, deepest) == 0
    assert predicted_loss(TINY, predictor, shallow) == pytest.approx(
        0.05 * (sum(deepest) - sum(shallow)), abs=0.02
    )


def test_a_space_of_one_depth_has_nothing_to_grow():
    fixed = replace(
        TINY,
        stages=tuple(replace(s, depths=(s.depths[-1],)) for s in TINY.stages),
    )
    with pytest.raises(InvalidTraining, match="nothing can grow"):
        advise(fixed, dataset(), RECIPE, 0)


def test_a_network_is_as_deep_as_it_is_asked_to_be():
    for stages in ({0: 1}, {}):
        wanted = tuple(
            stages.get(i, s.depths[-1]) if 1 in s.depths else s.depths[-1] for i, s in enumerate(TINY.stages)
        )
        assert tuple(s.depth for s in with_depths(TINY, wanted).stages) == wanted
    assert depth.PERIOD_EPOCHS == 3
