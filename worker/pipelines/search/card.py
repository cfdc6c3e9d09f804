"""The model card: everything a person needs in order to trust a delivered network (docs/api.md)."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from latency_tables.measurement import Measurement
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.refinement import Refinement, summary
from supernets.delivery.catalog import remark
from supernets.delivery.feeding import snippet
from supernets.delivery.verdict import GOOD, SUSPECT, balanced_accuracy, suspicion, warnings_of
from supernets.search.measured import Latency
from supernets.spaces.architecture import Architecture
from supernets.tasks.metric import ACCURACY, Metric
from worker.compute.requests import DeliveredFile, FileAccuracy
from worker.context import JobRun
from worker.pipelines.search.latency_card import constraints_of, devices_of, latency_of
from worker.pipelines.search.targets import Solved, Target

if TYPE_CHECKING:
    from worker.pipelines.train_supernet import ReadySupernet

_PACKAGES: Final = ("bespoke-nas", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Tuning:
    """What fine-tuning has brought. validation accuracies: shares in [0, 1]; kept: whether it is delivered.

    failure: why it is not, where accuracy alone does not say so.
    """

    epochs: int
    validation_before: float
    seconds: float | None = None
    validation: float | None = None
    kept: bool = False
    failure: str | None = None


@dataclass(frozen=True)
class Delivered:
    """A network on its way out. Accuracies are qualities of the metric; predicted: by the predictor,
    validation: of its own weights.

    latencies: measured, on the measured devices of its target in their order; measured_networks: all that
    were measured for it.
    tuning: what training it on has brought; None where that was not asked for.
    """

    architecture: Architecture
    predicted_ms: float | None
    upper_ms: float | None
    predicted_accuracy: float
    validation_accuracy: float
    runner_up: tuple[dict[str, Any], ...]
    search: dict[str, Any]
    file: DeliveredFile
    latencies: tuple[Latency, ...] = ()
    measured_networks: tuple[dict[str, Any], ...] = ()
    typical: dict[str, Measurement] = field(default_factory=dict)
    test: FileAccuracy | None = None
    tuning: Tuning | None = None
    metric: Metric = ACCURACY

    @classmethod
    def of(
        cls,
        target: Target,
        solved: Solved,
        order: list[int],
        accuracies: dict[str, float],
        file: DeliveredFile,
        predictor: QualityPredictor | Refinement,
    ) -> Delivered:
        """The first of `order` is delivered, the others are its runners-up. predictor: what ranked them."""
        genes = np.stack([predictor.space.genes(a) for a in solved.architectures])
        predicted = predictor.predict(genes)
        metric, chosen = predictor.metric, solved.architectures[order[0]]
        lines = [
            _line(target, solved.architectures[i], float(predicted[i]), accuracies, metric) for i in order
        ]
        first = lines[0]
        return cls(
            architecture=chosen,
            predicted_ms=first["predicted_ms"],
            upper_ms=first["upper_ms"],
            predicted_accuracy=metric.quality(float(first["accuracy_predicted"])),
            validation_accuracy=accuracies[chosen.digest],
            runner_up=tuple(lines[1:]),
            search={
                "strategy": solved.result.strategy,
                "optimal": solved.result.optimal,
                "gap": solved.result.gap,
                "predictor": summary(predictor),
            },
            file=file,
            metric=metric,
        )

    def with_latencies(
        self, latencies: tuple[Latency, ...], networks: tuple[dict[str, Any], ...]
    ) -> Delivered:
        """latencies: its own; networks: the card's lines of all that were measured for the target."""
        return replace(self, latencies=latencies, measured_networks=networks)

    def tested(self, test: FileAccuracy, typical: dict[str, Measurement]) -> Delivered:
        """test: what the file does on the test split; typical: a measurement of the file by device id."""
        return replace(self, test=test, typical=typical)


def card_of(
    run: JobRun, ready: ReadySupernet, target: Target, network: Delivered, model_id: str
) -> dict[str, Any]:
    """The card as the API gives it."""
    test, file = network.test, network.file
    by_class = [] if test is None else [asdict(one) for one in test.by_class]
    reason = _suspicion(network)
    context = target.places[0].context if target.places else None
    return {
        "id": model_id,
        "state": GOOD if reason is None else SUSPECT,
        "suspect_reason": reason,
        "job_id": run.job_id,
        "device": target.device,
        "context": None if context is None else context.as_dict(),
        "budget_ms": target.budget_ms,
        "constraints": constraints_of(target, network),
        "architecture": ready.space.to_json(network.architecture),
        "latency": latency_of(target, network),
        "devices": devices_of(target, network),
        "accuracy": {
            "metric": network.metric.to_json(),
            "predicted": network.metric.value(network.predicted_accuracy),
            "validation": network.metric.value(network.validation_accuracy),
            "measured": None if test is None else test.accuracy,
            "dataset": ready.dataset,
            "split": "test",
            "samples": None if test is None else test.samples,
            "balanced": balanced_accuracy(by_class),
            "by_class": by_class,
            "warnings": warnings_of(by_class),
        },
        "left_out": target.left_out or None,
        "input": file.input,
        "classes": None if file.classes is None else list(file.classes),
        "snippet": snippet(file.input) if file.input else None,
        "tuning": None if network.tuning is None else asdict(network.tuning),
        "search": {
            **network.search,
            "runner_up": list(network.runner_up),
            "measured": list(network.measured_networks),
            "broken_budgets_ms": list(target.broken_ms),
        },
        "file": {
            "sha256": file.onnx_sha256,
            "size_bytes": file.size_bytes,
            "opset": file.opset,
            "parameters": file.parameters,
            "macs": file.macs,
            "parity_max_abs_error": file.parity_max_abs_error,
            "input_shape": list(file.input_shape),
            "delivery": None if file.delivery is None else file.delivery.to_json(),
            "remarks": [
                text
                for place in target.places
                if place.context is not None and (text := remark(place.context))
            ],
        },
        "provenance": {
            "supernet_id": ready.id,
            "seed": ready.seed,
            "weights_sha256": ready.weights_sha256,
            "table": dict(target.places[0].pricing.table_facts) if target.places else None,
            "versions": versions(),
        },
    }


def _suspicion(network: Delivered) -> str | None:
    """Why the file is not delivered as good."""
    test, rmse = network.test, (network.search.get("predictor") or {}).get("rmse")
    return suspicion(
        network.metric,
        network.predicted_accuracy,
        network.validation_accuracy,
        None if test is None else network.metric.quality(test.accuracy),
        None if test is None else test.samples,
        rmse,
    )


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide what a file holds."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _line(
    target: Target,
    architecture: Architecture,
    predicted: float,
    accuracies: dict[str, float],
    metric: Metric,
) -> dict[str, Any]:
    place = target.places[0] if target.places else None
    upper = None if place is None else place.pricing.upper
    genes = None if place is None else place.pricing.space.genes(architecture)[None]
    return {
        "architecture": target.space.to_json(architecture),
        "predicted_ms": None if place is None else place.predicted_ms(architecture),
        "upper_ms": None if upper is None or genes is None else float(upper.price(genes)[0]),
        "accuracy_predicted": metric.value(predicted),
        "accuracy_validation": metric.value(accuracies[architecture.digest]),
    }
