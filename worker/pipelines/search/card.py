"""The model card: everything a person needs in order to trust a delivered network (docs/api.md)."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from service.db.documents import Document
from supernets.delivery.catalog import remark
from supernets.delivery.feeding import snippet
from supernets.delivery.verdict import GOOD, SUSPECT, balanced_accuracy, suspicion, warnings_of
from supernets.search.targets import Target
from supernets.spaces.space import Space
from worker.compute.requests import DeliveredFile
from worker.pipelines.ready_supernet import ReadySupernet
from worker.pipelines.search.exported import ExportedNetwork
from worker.pipelines.search.job import SearchJob
from worker.pipelines.search.latency_card import constraints_of, devices_of, latency_of

_PACKAGES: Final = ("bespoke-nas", "torch", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Card:
    """A card with what the job itself needs of it. document: all of it, as the API gives it."""

    id: str
    state: str
    suspect_reason: str | None
    document: Document


def card_of(job: SearchJob, target: Target, network: ExportedNetwork, model_id: str) -> Card:
    """The card of a delivered network."""
    reason, file = _suspicion(network), network.file
    state = GOOD if reason is None else SUSPECT
    context = target.places[0].context if target.places else None
    document: Document = {
        "id": model_id,
        "state": state,
        "suspect_reason": reason,
        "job_id": job.run.job_id,
        **({} if job.request.origin is None else {"origin": job.request.origin}),
        "device": target.device,
        "context": None if context is None else context.as_dict(),
        "budget_ms": target.budget_ms,
        "constraints": constraints_of(target, network),
        "architecture": job.ready.space.to_json(network.architecture),
        **_generation_of(job.ready.space),
        "latency": latency_of(target, network),
        "devices": devices_of(target, network),
        "accuracy": _accuracy_of(network, job.ready),
        "left_out": target.left_out or None,
        "input": file.input,
        "classes": None if file.classes is None else list(file.classes),
        "snippet": snippet(file.input) if file.input else None,
        **({} if network.precision is None else {"precision": asdict(network.precision)}),
        **({} if network.compression is None else {"compression": asdict(network.compression)}),
        **({} if network.robustness is None else {"robustness": network.robustness}),
        **({} if network.pruning is None else {"pruning": asdict(network.pruning)}),
        "tuning": None if network.tuning is None else asdict(network.tuning),
        "control": None if network.control is None else asdict(network.control),
        "search": {
            **network.found.to_json(),
            "runner_up": [asdict(line) for line in network.runner_up],
            "measured": list(network.measured_networks),
            "broken_budgets_ms": list(target.broken_ms),
        },
        "file": _file_of(target, file),
        "provenance": {
            "supernet_id": job.ready.id,
            "seed": job.ready.seed,
            **({} if job.ready.parent is None else {"from": job.ready.parent}),
            **({} if job.ready.class_weights is None else {"class_weights": job.ready.class_weights}),
            "weights_sha256": job.ready.weights_sha256,
            "table": dict(target.places[0].pricing.table_facts) if target.places else None,
            "versions": versions(),
        },
    }
    return Card(model_id, state, reason, document)


def _generation_of(space: Space) -> Document:
    """What the latencies are of, where networks write sentences: one of that length, with that many beams."""
    return {} if space.generation is None else {"generation": space.generation.to_json()}


def _accuracy_of(network: ExportedNetwork, ready: ReadySupernet) -> Document:
    """Values of the metric: predicted, of the weights on validation data, of the file on test data."""
    test = network.test
    by_class = [] if test is None else [asdict(one) for one in test.by_class]
    return {
        "metric": network.metric.to_json(),
        "predicted": network.metric.value(network.predicted_accuracy),
        "validation": network.metric.value(network.counted),
        "ranked_by": "quality" if network.scored is None else "log_likelihood",
        "equal": None if network.equal is None else asdict(network.equal),
        "measured": None if test is None else test.accuracy,
        "dataset": ready.dataset,
        "split": "test",
        "samples": None if test is None else test.samples,
        "balanced": balanced_accuracy(by_class),
        "by_class": by_class,
        "confusion": None if test is None or not test.confusion else [list(row) for row in test.confusion],
        "warnings": warnings_of(by_class),
    }


def _file_of(target: Target, file: DeliveredFile) -> Document:
    """The file, with what is to be checked before it is used where nobody knows what opens it."""
    contexts = [place.context for place in target.places if place.context is not None]
    return {
        "sha256": file.onnx_sha256,
        "size_bytes": file.size_bytes,
        "opset": file.opset,
        "parameters": file.parameters,
        "macs": file.macs,
        "parity_max_abs_error": file.parity_max_abs_error,
        "input_shape": list(file.input_shape),
        "delivery": None if file.delivery is None else file.delivery.to_json(),
        **({"archive": True} if file.archive else {}),
        "remarks": [text for context in contexts if (text := remark(context))],
    }


def _suspicion(network: ExportedNetwork) -> str | None:
    """Why the file is not delivered as good."""
    if network.precision is not None and network.precision.collapse is not None:
        return network.precision.collapse
    test, rmse = network.test, network.found.predictor.get("rmse")
    return suspicion(
        network.metric,
        network.predicted_accuracy,
        network.validation_accuracy,
        None if test is None else network.metric.quality(test.accuracy),
        None if test is None else test.samples,
        # Predictors of before errors were held out have none.
        rmse if isinstance(rmse, float) else None,
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
