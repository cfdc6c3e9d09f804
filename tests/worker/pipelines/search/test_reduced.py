"""What int8 costs is learnt beside what ranks networks best, and stays known under a key of its own."""

from types import SimpleNamespace

import numpy as np
import pytest

from latency_tables.operators.operator import FLOAT
from supernets.accuracy.predictor import HeldOut, QualityPredictor
from supernets.accuracy.reduced import ReducedRanking
from supernets.accuracy.refinement import Refinement, StagePairs, _data, from_json, to_json
from supernets.search.targets import Objective
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import block_name
from worker.compute.requests import LearntCosts
from worker.pipelines.search.reduced import Reduced

SPACE = SPACES["digits-mbv3"]
MIXED = SPACE.with_precisions((FLOAT, "int8"))
NAMES = [block_name(SPACE, s, b) for s, stage in enumerate(SPACE.stages) for b in range(len(stage.choices))]


def job(*, refining):
    """A search's, as far as it is asked here: it keeps what was asked of the child and under which key."""
    generator = np.random.default_rng(0)
    genes = SPACE.chain.sample(generator, 30)
    predictor = QualityPredictor.fit(SPACE, genes, generator.uniform(0.5, 0.9, len(genes)), folds=0)
    error = HeldOut(0.01, 0.9, 5, 30)
    pairs = StagePairs(predictor, *_data(predictor), weight=1.0, noise=0.1)
    refinement = Refinement("pairs", error, error, predictor, pairs) if refining else None
    asked, keys = [], []

    def learn_costs(request, report):
        asked.append(request)
        return LearntCosts({"costs": dict.fromkeys(NAMES, 0.01), "shift": 0.0, "held_out": None})

    def step(name, inputs, kind, work):
        keys.append(inputs)
        return work()

    ready = SimpleNamespace(
        space=SPACE,
        ref=SimpleNamespace(inputs=lambda: {"weights": "w"}),
        predictor=to_json(predictor, refinement),
        seed=0,
        scale=None,
    )
    return SimpleNamespace(
        predictor=predictor,
        refinement=refinement,
        ranking=refinement or predictor,
        ready=ready,
        run=SimpleNamespace(step=step),
        torch_child=SimpleNamespace(learn_costs=learn_costs),
        asked=asked,
        keys=keys,
    )


@pytest.mark.parametrize("refining", [False, True])
def test_candidates_in_int8_are_ranked_by_the_refinement_where_there_is_one(refining):
    made = job(refining=refining)
    target = SimpleNamespace(rounded=True, space=MIXED)
    found = Reduced(made).objective(Objective(SPACE, made.predictor.dense(), "exact", 4), target)
    predictor, sent = from_json(made.asked[0].predictor.predictor)
    assert predictor.to_json() == made.predictor.to_json() and (sent is not None) == refining
    (key,) = made.keys
    assert key.get("ranking") == ("pairs" if refining else None), "costs of before are known by their key"
    genes = MIXED.chain.sample(np.random.default_rng(1), 20)
    if not refining:
        assert found.refinement is None
    else:
        assert isinstance(found.refinement, ReducedRanking)
        assert not np.allclose(found.refinement.scores(genes), found.score.price(genes))
    assert (found.space, found.score.price(genes).shape) == (MIXED, (20,))
