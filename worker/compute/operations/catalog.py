"""Every request and the operation that does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from latency_tables.errors import InvalidForm
from worker.compute import requests
from worker.compute.operations.deliver import (
    deliver,
    export_networks,
    export_operators,
    measure_accuracy,
    measure_robustness,
    try_pass,
)
from worker.compute.operations.rounded import learn_precision, learn_pruning, score_in_int8, sensitivity
from worker.compute.operations.score import refine, score
from worker.compute.operations.solve import choose_by_gates, solve
from worker.compute.operations.train import fine_tune, train_control, train_gates
from worker.compute.requests import Places, Progress, Request

Operation = Callable[[Places, Any, Callable[[Progress], None]], Any]

OPERATIONS: Final[dict[type[Request[Any]], Operation]] = {
    requests.Score: score,
    requests.Refine: refine,
    requests.ScoreRounded: score_in_int8,
    requests.LearnPrecision: learn_precision,
    requests.LearnPruning: learn_pruning,
    requests.Sensitivity: sensitivity,
    requests.Solve: solve,
    requests.TrainGates: train_gates,
    requests.ChooseByGates: choose_by_gates,
    requests.FineTune: fine_tune,
    requests.TrainControl: train_control,
    requests.Deliver: deliver,
    requests.MeasureRobustness: measure_robustness,
    requests.TryPass: try_pass,
    requests.MeasureAccuracy: measure_accuracy,
    requests.ExportOperators: export_operators,
    requests.ExportNetworks: export_networks,
}


def operation_named(name: str) -> tuple[type[Request[Any]], Operation]:
    """A request by the name of its class, and what does it. Raises InvalidForm."""
    # By name, since a class does not travel; worker and child are of one version, they start together.
    for request, operation in OPERATIONS.items():
        if request.__name__ == name:
            return request, operation
    raise InvalidForm(f"a child was asked for {name[:80]!r}, which it does not know")
