"""What a search knows of a network on its way out, before there is a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from latency_tables.measurement import Measurement
from service.db.documents import Document, Fields
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.refinement import Refinement, summary
from supernets.search.measured import Latency
from supernets.search.targets import Solved, Target
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from supernets.tasks.metric import ACCURACY, Metric
from worker.compute.requests import DeliveredFile, FileAccuracy


@dataclass(frozen=True)
class CandidateLine:
    """A candidate as the card lists it: latencies in ms on the target's first device, the metric's values."""

    architecture: Fields
    predicted_ms: float | None
    upper_ms: float | None
    accuracy_predicted: float
    accuracy_validation: float


@dataclass(frozen=True)
class Found:
    """How a network was found. optimal, gap: as `SearchResult`; predictor: what ranked it."""

    strategy: str
    optimal: bool
    gap: float | None
    predictor: Fields
    gates: Fields | None = None

    def to_json(self) -> Document:
        """As the card has it: gates only where they were trained."""
        # Cards of other strategies never had the key, and their readers need not learn of it.
        return {name: value for name, value in asdict(self).items() if name != "gates" or value is not None}


@dataclass(frozen=True)
class Tuning:
    """What fine-tuning has brought. validation: values of the metric; kept: whether it is what is delivered.

    train: what of the network. memory: what the fine-tuning took (`training.method.MemoryUse`). failure: why
    it is not delivered, where accuracy alone does not say so.
    """

    epochs: int
    validation_before: float
    seconds: float | None = None
    validation: float | None = None
    kept: bool = False
    failure: str | None = None
    train: str = "all"
    memory: Document | None = None


@dataclass(frozen=True)
class ExportedNetwork:
    """A network on its way out. Accuracies are qualities of the metric; predicted: by the predictor,
    validation: of its own weights.

    latencies: measured, on the measured devices of its target in their order; measured_networks: the card's
    lines of all that were measured for it. typical: a measurement of its file by device id. tuning: what
    fine-tuning has brought, None where it was not asked for.
    """

    architecture: Architecture
    predicted_accuracy: float
    validation_accuracy: float
    found: Found
    file: DeliveredFile
    runner_up: tuple[CandidateLine, ...] = ()
    latencies: tuple[Latency, ...] = ()
    measured_networks: tuple[Document, ...] = ()
    typical: Mapping[str, Measurement] = field(default_factory=dict)
    test: FileAccuracy | None = None
    tuning: Tuning | None = None
    metric: Metric = ACCURACY

    @classmethod
    def of(
        cls,
        target: Target,
        solved: Solved,
        order: list[int],
        accuracies: Mapping[str, float],
        file: DeliveredFile,
        predictor: QualityPredictor | Refinement,
        gates: Fields | None = None,
    ) -> ExportedNetwork:
        """The first of `order` is delivered, the others are its runners-up. predictor: what ranked them."""
        genes = np.stack([predictor.space.genes(a) for a in solved.architectures])
        predicted, metric = predictor.predict(genes), predictor.metric
        lines = [
            _line(target, solved.architectures[i], float(predicted[i]), accuracies, metric) for i in order
        ]
        chosen, result = solved.architectures[order[0]], solved.result
        return cls(
            architecture=chosen,
            # The value is clipped to the metric's range: an additive model can promise more than everything.
            predicted_accuracy=metric.quality(lines[0].accuracy_predicted),
            validation_accuracy=accuracies[chosen.digest],
            found=Found(result.strategy, result.optimal, result.gap, summary(predictor), gates),
            file=file,
            runner_up=tuple(lines[1:]),
            metric=metric,
        )

    def with_latencies(
        self, latencies: tuple[Latency, ...], networks: tuple[Document, ...]
    ) -> ExportedNetwork:
        """latencies: its own; networks: the card's lines of all that were measured for the target."""
        return replace(self, latencies=latencies, measured_networks=networks)

    def tested(self, test: FileAccuracy, typical: Mapping[str, Measurement]) -> ExportedNetwork:
        """test: what the file does on the test split; typical: a measurement of the file by device id."""
        return replace(self, test=test, typical=typical)


def _line(
    target: Target,
    architecture: Architecture,
    predicted: float,
    accuracies: Mapping[str, float],
    metric: Metric,
) -> CandidateLine:
    place = target.places[0] if target.places else None
    return CandidateLine(
        described(architecture),
        None if place is None else place.predicted_ms(architecture),
        None if place is None else place.upper_ms(architecture),
        metric.value(predicted),
        metric.value(accuracies[architecture.digest]),
    )
