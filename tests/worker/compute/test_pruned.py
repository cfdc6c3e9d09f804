"""What a child does for pruned networks: scored, learnt from, trained on, delivered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.pruning import PruningPredictor, all_cells
from supernets.delivery import pruned_scores, pruning
from supernets.delivery.catalog import Delivery
from supernets.spaces.lowering import lower
from tests.worker.compute.conftest import SPACE
from worker.compute.codec import CODEC
from worker.compute.operations import rounded as operations
from worker.compute.operations.deliver import deliver
from worker.compute.operations.train import fine_tune
from worker.compute.requests import (
    Deliver,
    FineTune,
    LearnPruning,
    LearntCosts,
    Places,
    ScoreRounded,
    StoredPredictor,
    SupernetRef,
)

PRUNED = SPACE.with_pruning()
LEAST = PRUNED.smallest(8)


def nothing(progress: Any) -> None:
    pass


def test_what_pruning_costs_is_learnt(
    life: tuple[Places, SupernetRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    places, supernet = life
    monkeypatch.setattr(operations, "LEARN_SAMPLES", 64)
    monkeypatch.setattr(pruning, "REFIT_SAMPLES", 32)
    monkeypatch.setattr(pruned_scores, "_SAMPLES", 32)
    small = SPACE.at([8])
    generator = np.random.default_rng(0)
    genes = small.chain.sample(generator, 40)
    predictor = QualityPredictor.fit(small, genes, generator.uniform(0.5, 0.9, len(genes)), folds=2)
    said: list[int] = []
    asked = LearnPruning(supernet, StoredPredictor(predictor.to_json()), 10, 0)
    found = operations.learn_pruning(places, asked, lambda progress: said.append(progress.total))
    learnt = PruningPredictor.from_json(predictor, CODEC.read(LearntCosts, CODEC.write(found)).learnt)
    assert set(learnt.cells) == set(all_cells(PRUNED)) and learnt.held_out is not None and set(said) == {13}


def test_a_pruned_network_is_scored_trained_on_and_delivered(
    life: tuple[Places, SupernetRef], tmp_path: Any
) -> None:
    places, supernet = life
    asked = ScoreRounded(supernet, (LEAST, SPACE.smallest(8)), "validation")
    sent = CODEC.read(ScoreRounded, CODEC.write(asked))
    assert sent == asked, "a pruned network travels"
    assert all(0 <= one <= 1 for one in operations.score_in_int8(places, sent, nothing).accuracies)
    file = deliver(places, Deliver(supernet, LEAST, Delivery()), nothing)
    assert file.pruned is not None and file.macs == sum(op.macs for op in lower(PRUNED, LEAST))
    blocks: Any = file.pruned["blocks"]
    assert blocks.keys() == {"stage1_0", "stage2_0", "stage3_0"}
    assert blocks["stage1_0"]["channels"] == 24 and blocks["stage1_0"]["of"] == 32
    assert blocks["stage1_0"]["error"] <= blocks["stage1_0"]["unfitted"]
    assert deliver(places, Deliver(supernet, SPACE.smallest(8), Delivery()), nothing).pruned is None
    tuned = fine_tune(places, FineTune(supernet, LEAST, "trial", 1, 0, "cpu", str(tmp_path)), nothing)
    own = replace(supernet, weights_sha256=tuned.weights_sha256, alone=LEAST)
    again = deliver(places, Deliver(own, LEAST, Delivery()), nothing)
    assert again.pruned is None and again.macs == file.macs and again.parameters == file.parameters
