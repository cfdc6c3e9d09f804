"""What pruning costs: learnt from few pruned networks, a cost of the exact search."""

from dataclasses import replace

import numpy as np
import pytest

from latency_tables.errors import TooFewNetworks
from supernets.accuracy.precision import PrecisionPredictor
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.pruning import PruningPredictor, all_cells, cells_of
from supernets.accuracy.reduced import ReducedRanking, reduced_score
from supernets.delivery.pruned_scores import random_pruned
from supernets.errors import InvalidPredictor
from supernets.spaces.catalog import SPACES

SPACE = SPACES["digits-mbv3"]
PRUNED = SPACE.with_pruning()


def made(networks=60, noise=0.002):
    """Networks whose quality is additive, of which pruning takes what each cell takes; the prior knows that up to
    a factor."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.02, SPACE.chain.genes)

    def quality(genes):
        return 0.8 + (genes / np.maximum(SPACE.chain.gene_sizes - 1, 1)) @ weights

    cells = all_cells(PRUNED)
    costs = dict(zip(cells, rng.gamma(1.0, 0.01, len(cells)), strict=True))
    genes = SPACE.chain.sample(rng, 160)
    floats = QualityPredictor.fit(SPACE, genes, quality(genes) + rng.normal(0, noise, 160), folds=0)
    pruned = random_pruned(PRUNED, networks, rng)
    plain = np.stack([SPACE.genes(PRUNED.unpruned(one)) for one in pruned])
    lost = [sum(costs[cell] for cell in cells_of(PRUNED, one)) for one in pruned]
    return floats, {name: 7 * c for name, c in costs.items()}, pruned, quality(plain) - lost


def test_what_pruning_costs_is_learnt_and_ranks_networks_held_out():
    floats, alone, networks, qualities = made()
    found = PruningPredictor.fit(floats, alone, networks, qualities)
    assert found.held_out.kendall_tau > 0.8 and (found.costs >= 0).all()
    again = PruningPredictor.from_json(floats, found.to_json())
    assert again.known == found.known and again.held_out == found.held_out
    score = reduced_score(floats, [found], PRUNED)
    genes = np.stack([PRUNED.genes(one) for one in networks])
    own = np.stack([SPACE.genes(PRUNED.unpruned(one)) for one in networks])
    lost = [sum(found.known[cell] for cell in cells_of(PRUNED, one)) for one in networks]
    np.testing.assert_allclose(score.price(genes), floats.dense().price(own) - lost)
    ranking = ReducedRanking(floats, {"pruned": found}, PRUNED)
    np.testing.assert_allclose(ranking.predict(genes), floats.predict(own) - lost + found.shift)
    assert ranking.summary()["name"] == "pruned" and ranking.summary()["rmse"] == found.held_out.rmse


def test_it_adds_up_with_what_int8_costs():
    floats, alone, networks, qualities = made()
    pruned = PruningPredictor.fit(floats, alone, networks, qualities, folds=0)
    rounded = PrecisionPredictor(floats, ("stage1_0",), np.array([0.25]), 0.0)
    both = PRUNED.with_precisions(("float32", "int8"))
    score, one = reduced_score(floats, [rounded, pruned], both), both.smallest()
    stage = one.stages[1]
    blocks = (stage.blocks[0].at("int8"), *stage.blocks[1:])
    other = replace(one, stages=(one.stages[0], replace(stage, blocks=blocks), *one.stages[2:]))
    prices = score.price(np.stack([both.genes(a) for a in (one, other)]))
    assert prices[0] - prices[1] == pytest.approx(0.25)
    assert ReducedRanking(floats, {"rounded": rounded, "pruned": pruned}, both).summary()["rmse"] is None


def test_too_few_and_unfit_scores_are_refused():
    floats, alone, networks, qualities = made(networks=12)
    with pytest.raises(TooFewNetworks, match="9 pruned networks"):
        PruningPredictor.fit(floats, alone, networks[:9], qualities[:9])
    with pytest.raises(InvalidPredictor, match="no number"):
        PruningPredictor.fit(floats, alone, networks, qualities * np.nan)
    with pytest.raises(InvalidPredictor, match="nobody knows"):
        PruningPredictor.fit(floats, {"other": 1.0}, networks, qualities)
