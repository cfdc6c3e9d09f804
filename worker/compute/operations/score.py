"""Accuracies of sub-networks, and what predicts them better."""

from __future__ import annotations

from collections.abc import Callable

from supernets.accuracy import refinement
from supernets.training.evaluation import evaluate
from worker.compute.operations.loading import dataset_of, supernet_of
from worker.compute.requests import Accuracies, Places, Progress, Refine, Score, StoredPredictor


def score(places: Places, asked: Score, report: Callable[[Progress], None]) -> Accuracies:
    """Accuracy of sub-networks on a split, batch-norm recalibrated for each. Raises InvalidArchitecture."""
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)
    found = evaluate(
        network,
        asked.architectures,
        dataset,
        asked.split,
        progress=lambda done, total: report(Progress(done, total)),
    )
    return Accuracies(tuple(float(a) for a in found))


def refine(places: Places, asked: Refine, report: Callable[[Progress], None]) -> StoredPredictor:
    """The predictor as it is stored, with its refinement where one wins on networks held out."""
    fitted = asked.predictor
    return StoredPredictor(refinement.to_json(fitted, refinement.refine(fitted, seed=asked.seed)))
