"""What a child does for networks with blocks in int8: scored, learnt from, delivered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from supernets.accuracy.precision import PrecisionPredictor
from supernets.accuracy.predictor import HeldOut, QualityPredictor
from supernets.accuracy.reduced import ReducedRanking
from supernets.accuracy.refinement import Ranking, Refinement, StagePairs, _data, to_json
from supernets.delivery import quantising
from supernets.delivery.catalog import Delivery
from supernets.errors import InvalidPrecision
from supernets.spaces.mixes import in_precisions, mixed_in_turn
from tests.worker.compute.conftest import SPACE
from worker.compute.codec import CODEC
from worker.compute.operations import rounded as operations
from worker.compute.operations.deliver import deliver, measure_robustness
from worker.compute.requests import (
    Deliver,
    LearnPrecision,
    LearntCosts,
    MeasureRobustness,
    Places,
    Robust,
    ScoreRounded,
    Sensitivity,
    StoredPredictor,
    SupernetRef,
)

MIXED = SPACE.with_precisions(("float32", "int8"))


def nothing(progress: Any) -> None:
    pass


def in_int8() -> Any:
    return in_precisions(MIXED, SPACE.smallest(8), lambda: "int8")


def test_networks_are_scored_in_the_order_that_was_asked_for(life: tuple[Places, SupernetRef]) -> None:
    places, supernet = life
    plain, whole = SPACE.smallest(8), in_int8()
    asked = ScoreRounded(supernet, (whole, plain, whole), "validation")
    sent = CODEC.read(ScoreRounded, CODEC.write(asked))
    assert sent == asked, "a network with blocks in int8 travels"
    first, between, last = operations.score_in_int8(places, sent, nothing).accuracies
    assert first == last and 0 <= between <= 1 and abs(first - between) < 0.1


@pytest.mark.parametrize("refining", [False, True])
def test_what_int8_costs_is_learnt_and_ranks_networks(
    life: tuple[Places, SupernetRef], monkeypatch: pytest.MonkeyPatch, refining: bool
) -> None:
    places, supernet = life
    monkeypatch.setattr(operations, "LEARN_SAMPLES", 64)
    generator = np.random.default_rng(0)
    small = SPACE.at([8])
    genes = small.chain.sample(generator, 40)
    predictor = QualityPredictor.fit(small, genes, generator.uniform(0.5, 0.9, len(genes)), folds=2)
    error = HeldOut(0.01, 0.9, 2, 40)
    pairs = StagePairs(predictor, *_data(predictor), weight=50.0, noise=1e-3)
    refined = Refinement("pairs", error, error, predictor, pairs) if refining else None
    base: Ranking = refined or predictor
    said: list[int] = []
    asked = LearnPrecision(supernet, StoredPredictor(to_json(predictor, refined)), 10, 0)
    found = operations.learn_precision(places, asked, lambda progress: said.append(progress.total))
    kept = CODEC.read(LearntCosts, CODEC.write(found))
    learnt = PrecisionPredictor.from_json(base, kept.learnt)
    assert (learnt.costs >= 0).all() and learnt.held_out is not None and set(said) == {14}
    mixed = small.with_precisions(("float32", "int8"))
    ranking = ReducedRanking(base, {"rounded": learnt}, mixed)
    rows = np.stack([mixed.genes(a) for a in (SPACE.smallest(8), in_int8())])
    plain, whole = ranking.predict(rows)
    assert plain >= whole and ranking.summary()["name"] == ("pairs and rounded" if refining else "rounded")
    if refining:
        beside = operations.learn_precision(
            places, LearnPrecision(supernet, StoredPredictor(predictor.to_json()), 10, 0), nothing
        )
        assert beside.learnt != found.learnt, "learnt beside the refined scores, not beside those that add up"


def test_blocks_that_lose_most_are_told_by_name(life: tuple[Places, SupernetRef]) -> None:
    places, supernet = life
    losses = operations.sensitivity(places, Sensitivity(supernet, in_int8(), "validation"), nothing).losses
    assert {"stem_0", "head_0"} <= losses.keys() and all(np.isfinite(list(losses.values())))


def test_a_delivered_file_says_how_it_was_rounded(life: tuple[Places, SupernetRef]) -> None:
    places, supernet = life
    made = {
        name: deliver(places, Deliver(supernet, one, Delivery()), nothing)
        for name, one in (("float32", SPACE.smallest(8)), ("int8", in_int8()))
    }
    assert made["float32"].int8 is None and made["int8"].macs == made["float32"].macs
    told = made["int8"].int8
    assert told is not None and told["weight_bits"] == 7 and told["parity"]["top1_agreement"] >= 0.97
    assert made["int8"].size_bytes < made["float32"].size_bytes


def test_what_a_file_does_on_pictures_changed_to_deceive_it_is_told(
    life: tuple[Places, SupernetRef],
) -> None:
    places, supernet = life
    made = deliver(places, Deliver(supernet, in_int8(), Delivery()), nothing)
    asked = MeasureRobustness(supernet, in_int8(), made.onnx_sha256, Delivery())
    found = CODEC.read(Robust, CODEC.write(measure_robustness(places, asked, nothing)))
    assert found.samples == 360 and found.file.keys() == found.float32.keys() == {"0", "2", "8"}
    assert found.float32["8"] <= found.float32["0"]


def test_too_few_samples_to_calibrate_are_refused_before_anything_is_searched(
    life: tuple[Places, SupernetRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    places, supernet = life
    monkeypatch.setattr(quantising, "FEWEST_SAMPLES", 10**6)
    with pytest.raises(InvalidPrecision, match="training samples, too few"):
        operations.score_in_int8(places, ScoreRounded(supernet, (in_int8(),), "validation"), nothing)


def test_calibration_networks_are_in_float32_in_int8_and_in_a_mix_in_turn() -> None:
    generator = np.random.default_rng(0)
    drawn = [MIXED.architecture(row) for row in MIXED.chain.sample(generator, 6)]
    used = [
        {c.precision for stage in one.stages for c in stage.blocks}
        for one in mixed_in_turn(MIXED, drawn, generator)
    ]
    assert used == [{"float32"}, {"int8"}, {"float32", "int8"}] * 2
    assert mixed_in_turn(SPACE, drawn[:2], generator) == drawn[:2]
