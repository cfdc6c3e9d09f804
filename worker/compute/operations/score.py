"""Accuracies of sub-networks, and what predicts them better."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latency_tables.dense import Array
from supernets.accuracy import refinement
from supernets.network import Supernet
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.tasks.task import Task
from supernets.training.evaluation import Evaluator, evaluate
from worker.compute.operations.loading import dataset_of, supernet_of
from worker.compute.requests import Accuracies, Places, Progress, Refine, Score, StoredPredictor


def score(places: Places, asked: Score, report: Callable[[Progress], None]) -> Accuracies:
    """Accuracy of sub-networks on a split, batch-norm recalibrated for each. Raises InvalidArchitecture."""
    network, dataset = supernet_of(places, asked.supernet), dataset_of(places, asked.supernet)
    if asked.likelihoods and type(task_of(dataset)).evaluator is Task.evaluator:
        return _with_likelihoods(network, dataset, asked, report)
    found = evaluate(
        network,
        asked.architectures,
        dataset,
        asked.split,
        progress=lambda done, total: report(Progress(done, total)),
    )
    return Accuracies(tuple(float(a) for a in found))


def _with_likelihoods(
    network: Supernet, dataset: Data, asked: Score, report: Callable[[Progress], None]
) -> Accuracies:
    evaluator = Evaluator(network, dataset, asked.split, likelihoods=True)
    found = evaluator.qualities(asked.architectures, lambda done, total: report(Progress(done, total)))
    groups = [evaluator.likelihoods(one) for one in asked.architectures]
    return accuracies(list(zip(map(float, found), groups, strict=True)), likelihoods=True)


def accuracies(found: Sequence[tuple[float, Array | None]], *, likelihoods: bool) -> Accuracies:
    """found: (quality, mean log-likelihoods of groups) of each network. likelihoods: whether they were asked
    for; all networks have them, or none is told."""
    told = [tuple(map(float, groups)) for _, groups in found if groups is not None] if likelihoods else []
    return Accuracies(tuple(quality for quality, _ in found), tuple(told) if len(told) == len(found) else ())


def refine(places: Places, asked: Refine, report: Callable[[Progress], None]) -> StoredPredictor:
    """The predictor as it is stored, with its refinement where one wins on networks held out."""
    fitted = asked.predictor
    return StoredPredictor(refinement.to_json(fitted, refinement.refine(fitted, seed=asked.seed)))
