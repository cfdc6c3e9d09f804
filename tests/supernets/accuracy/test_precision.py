"""What int8 costs: learnt from few rounded networks, added up over blocks, ranked held out."""

from dataclasses import replace

import numpy as np
import pytest

from latency_tables.errors import TooFewNetworks
from supernets.accuracy.precision import PrecisionPredictor, RoundedScores
from supernets.accuracy.predictor import QualityPredictor, kendall_tau
from supernets.errors import InvalidPredictor
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import block_name

SPACE = SPACES["digits-mbv3"]
BLOCKS = [f"block{n}" for n in range(12)]


def made(networks=60, seed=0, noise=0.002):
    """Networks whose quality is additive, of which int8 takes what each block takes; the prior knows it up to a
    factor and is wrong about one block."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 0.02, SPACE.chain.genes)

    def quality(genes):
        return 0.8 + (genes / np.maximum(SPACE.chain.gene_sizes - 1, 1)) @ weights

    costs = rng.gamma(1.0, 0.01, len(BLOCKS))
    genes = SPACE.chain.sample(rng, 160 + networks)
    floats = QualityPredictor.fit(
        SPACE, genes[:160], quality(genes[:160]) + rng.normal(0, noise, 160), folds=0
    )
    int8 = (rng.random((networks, len(BLOCKS))) < rng.random((networks, 1))).astype(float)
    rounded = genes[160:]
    values = quality(rounded) - int8 @ costs + rng.normal(0, noise, networks)
    prior = dict(zip(BLOCKS, costs * 7, strict=True)) | {"block3": 0.0}
    return floats, prior, RoundedScores(rounded, int8, values), costs


def test_what_int8_costs_is_learnt_from_sixty_networks_whatever_the_unit_of_the_prior():
    floats, prior, scores, _ = made()
    found = PrecisionPredictor.fit(floats, prior, scores)
    assert found.held_out.kendall_tau >= 0.85 and found.held_out.networks == 60
    unseen = made(seed=0, networks=60)[2]
    assert kendall_tau(found.predict(unseen.genes, unseen.int8), unseen.qualities) > 0.85
    assert found.to_json()["held_out"]["kendall_tau"] == found.held_out.kendall_tau


def test_changing_bits_changes_the_score():
    floats, prior, scores, _ = made()
    found = PrecisionPredictor.fit(floats, prior, scores, folds=0)
    genes = scores.genes[:1]
    none, every = np.zeros((1, len(BLOCKS))), np.ones((1, len(BLOCKS)))
    assert found.scores(genes, none) - found.scores(genes, every) == pytest.approx(found.costs.sum())
    assert found.costs.sum() > 0.02 and found.held_out is None


def test_without_the_prior_of_single_blocks_the_order_is_worse():
    floats, prior, scores, costs = made(networks=20)
    prior = dict(zip(BLOCKS, costs, strict=True))
    alike = PrecisionPredictor.fit(floats, dict.fromkeys(prior, 1.0), scores)
    known = PrecisionPredictor.fit(floats, prior, scores)
    assert known.held_out.rmse < alike.held_out.rmse


def test_too_few_and_unfit_scores_are_refused():
    floats, prior, scores, _ = made(networks=9)
    with pytest.raises(TooFewNetworks, match="9 rounded networks"):
        PrecisionPredictor.fit(floats, prior, scores)
    floats, prior, scores, _ = made(networks=12)
    with pytest.raises(InvalidPredictor, match="same blocks"):
        PrecisionPredictor.fit(floats, {"one": 1.0}, scores)
    with pytest.raises(InvalidPredictor, match="no number"):
        RoundedScores(scores.genes, scores.int8, scores.qualities * np.nan)
    with pytest.raises(InvalidPredictor, match="same networks"):
        RoundedScores(scores.genes[:3], scores.int8, scores.qualities)


def test_what_int8_costs_is_a_cost_of_the_exact_search():
    floats, prior, scores, _ = made()
    names = [
        block_name(SPACE, s, b) for s, stage in enumerate(SPACE.stages) for b in range(len(stage.choices))
    ]
    found = replace(PrecisionPredictor.fit(floats, prior, scores), blocks=tuple(names[: len(BLOCKS)]))
    mixed = SPACE.with_precisions(("float32", "int8"))
    table, genes = found.dense(mixed), mixed.chain.sample(np.random.default_rng(1), 20)
    lost = []
    for row in genes:
        stages = mixed.architecture(row).stages
        inside = [
            (s, b)
            for s, stage in enumerate(stages)
            for b, c in enumerate(stage.blocks)
            if c.precision == "int8"
        ]
        known = dict(zip(found.blocks, found.costs, strict=True))
        lost.append(sum(known.get(block_name(SPACE, s, b), 0.0) for s, b in inside))
    plain = np.array([SPACE.genes(mixed.in_float(mixed.architecture(row))) for row in genes])
    assert max(lost) > 0
    np.testing.assert_allclose(table.price(genes), floats.dense().price(plain) - lost)
