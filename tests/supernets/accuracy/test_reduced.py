"""Networks in int8 or pruned are ranked by what ranks whole ones best, less what their blocks lose."""

import numpy as np
import pytest

from supernets.accuracy.precision import PrecisionPredictor, RoundedScores
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.prior import cells
from supernets.accuracy.pruning import PruningPredictor, all_cells
from supernets.accuracy.reduced import ReducedRanking
from supernets.accuracy.refinement import Refinement, _stages_of, refine, summary
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import block_name

SPACE = SPACES["digits-mbv3"]
NAMES = [block_name(SPACE, s, b) for s, stage in enumerate(SPACE.stages) for b in range(len(stage.choices))]


@pytest.fixture(scope="module")
def life():
    """(additive predictor, its refinement, rounded networks): stages depend on each other, int8 takes what each
    block takes."""
    rng = np.random.default_rng(0)
    genes = SPACE.chain.sample(rng, 300)
    features = cells(SPACE.chain, genes) - 0.3
    features[:, : len(SPACE.resolutions)] = 0
    weights = rng.normal(size=features.shape[1])
    stage = _stages_of(QualityPredictor(SPACE, genes, np.zeros(len(genes)), {}))
    parts = [features[:, stage == s] @ weights[stage == s] for s in range(1, 4)]
    values = 90 + sum(parts) + 0.3 * (parts[0] * parts[1] + parts[1] * parts[2])
    values += 0.1 * rng.normal(size=len(values))
    additive = QualityPredictor.fit(SPACE, genes[:240], values[:240], folds=3)
    refined = refine(additive, folds=3)
    assert refined is not None
    int8 = (rng.random((60, len(NAMES))) < rng.random((60, 1))).astype(float)
    costs = rng.gamma(1.0, 0.1, len(NAMES))
    prior = dict(zip(NAMES, 3 * costs, strict=True))
    return additive, refined, prior, RoundedScores(genes[240:], int8, values[240:] - int8 @ costs)


def test_rounded_networks_are_ordered_better_by_what_orders_whole_ones_better(life):
    additive, refined, prior, scores = life
    plain, better = (PrecisionPredictor.fit(one, prior, scores).held_out for one in (additive, refined))
    assert better.kendall_tau > plain.kendall_tau + 0.02 and better.rmse < plain.rmse


@pytest.mark.parametrize("resolutions", [SPACE.resolutions, SPACE.resolutions[1:]])
@pytest.mark.parametrize("refining", [False, True])
def test_a_network_counts_as_the_whole_one_less_what_its_blocks_lose(life, refining, resolutions):
    additive, refined, prior, scores = life
    base = refined if refining else additive
    rng = np.random.default_rng(1)
    cells_alone = all_cells(SPACE.with_pruning())
    reductions = {
        "rounded": PrecisionPredictor.fit(base, prior, scores, folds=0),
        "pruned": PruningPredictor(base, tuple(cells_alone), rng.random(len(cells_alone)), 0.25),
    }
    space = SPACE.at(resolutions).with_precisions(("float32", "int8")).with_pruning()
    ranking, genes = ReducedRanking(base, reductions, space), space.chain.sample(rng, 40)
    for row, score, quality in zip(genes, ranking.scores(genes), ranking.predict(genes), strict=True):
        network = space.architecture(row)
        whole = SPACE.genes(space.unpruned(space.in_float(network)))
        lost = [
            one.cost(block_name(space, s, b), space.stages[s], choice)
            for s, stage in enumerate(network.stages)
            for b, choice in enumerate(stage.blocks)
            for one in reductions.values()
        ]
        shifts = sum(one.shift for one in reductions.values())
        assert sum(lost) > 0
        assert score == pytest.approx(base.scores(whole[None])[0] + shifts - sum(lost))
        assert quality == pytest.approx(base.quality_of(np.array([score]))[0])


def test_a_card_names_all_that_ranked(life):
    additive, refined, prior, scores = life
    rounded = {one: PrecisionPredictor.fit(one, prior, scores) for one in (additive, refined)}
    told = {one: ReducedRanking(one, {"rounded": found}, SPACE).summary() for one, found in rounded.items()}
    assert told[additive]["name"] == "rounded" and told[refined]["name"] == f"{refined.name} and rounded"
    assert isinstance(refined, Refinement) and told[refined].keys() == summary(refined).keys()
    assert told[refined]["rmse"] == rounded[refined].held_out.rmse and told[refined]["networks"] == 240
