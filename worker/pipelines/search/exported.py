"""What a search knows of a network on its way out, before there is a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from latency_tables.measurement import Measurement
from service.db.documents import Document, Fields
from supernets.accuracy.likelihood import standard_error
from supernets.accuracy.reduced import ReducedRanking
from supernets.accuracy.refinement import Ranking, summary
from supernets.search.measured import Latency
from supernets.search.targets import Solved, Target
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import described
from supernets.tasks.metric import ACCURACY, Metric
from worker.compute.requests import DeliveredFile, FileAccuracy, SupernetRef
from worker.pipelines.scoring import Scored


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
    it is not delivered, where accuracy alone does not say so. priced_by: how its latency is known, where the
    rows of a table do not say it. defensive: whether its layers were drawn towards orthogonal ones.
    """

    epochs: int
    validation_before: float
    seconds: float | None = None
    validation: float | None = None
    kept: bool = False
    failure: str | None = None
    train: str = "all"
    memory: Document | None = None
    priced_by: str | None = None
    defensive: bool = False


@dataclass(frozen=True)
class Control:
    """The same network from random weights with equal steps. from_scratch: its metric's value on the test
    split; gain_points: how much better the delivered one is there, in points; standard_error: of that gain,
    None where it is unknown; said: what follows from both."""

    from_scratch: float
    steps: int
    gain_points: float
    standard_error: float | None
    said: str


@dataclass(frozen=True)
class Equal:
    """Candidates that validation data cannot tell apart, so the fastest of them was taken. candidates: how
    many, itself among them; best: accuracy counted on validation of the likeliest of them. Log-likelihoods
    are in nats a sample; behind: how far the taken one lies below the best, standard_error: of that."""

    candidates: int
    best: float
    behind: float
    standard_error: float
    taken: str = "the fastest"


@dataclass(frozen=True)
class InPrecision:
    """The same network in one precision: its file, the metric's values on validation and test, latencies in
    ms on the target's first device, None where the table or the agent does not tell."""

    precision: str
    size_bytes: int
    validation: float
    test: float
    predicted_ms: float | None
    measured_ms: float | None


@dataclass(frozen=True)
class Precisions:
    """How a network is computed. blocks: precision by name; rounding: how int8 is rounded, and how near the
    file comes to the simulated network; beside: the delivered network, and the same one in float32 and all
    in int8. collapse: why its accuracy in int8 is not to be relied on, with the blocks at fault."""

    asked: str
    blocks: Mapping[str, str]
    rounding: Document | None
    beside: Mapping[str, InPrecision]
    collapse: str | None = None


@dataclass(frozen=True)
class PassReport:
    """What a compression pass did, or would have done. reason: what it brings, or why it is not kept; tried:
    values of the metric on validation by strength; before, after: of the file without and with it; control:
    what stands beside it, at the same strength; detail: of the layers it changed."""

    name: str
    does: str
    kept: bool
    reason: str
    strength: float
    strength_is: str
    fitted_on: str
    tried: Mapping[str, float]
    before: Document
    after: Document
    control: Document
    detail: Document


@dataclass(frozen=True)
class CompressedAs:
    """The compression passes of a network, in order. remark: what the card's latencies are not of."""

    passes: tuple[PassReport, ...]
    remark: str | None = None


@dataclass(frozen=True)
class Pruned:
    """What was cut out of a network. blocks: by name, `channels` that are kept `of` so many, `error`: what
    the block's output is off that of the whole block, a share of its variance, `unfitted`: before it was
    refitted. method, samples: of the refit. beside: the delivered network, and the whole one as the supernet
    has it."""

    blocks: Mapping[str, Document]
    method: str | None
    samples: int
    beside: Mapping[str, InPrecision]


@dataclass(frozen=True)
class ExportedNetwork:
    """A network on its way out. Accuracies are qualities of the metric; predicted: by the predictor,
    validation: of its own weights.

    latencies: measured, on the measured devices of its target in their order; measured_networks: the card's
    lines of all that were measured for it. typical: a measurement of its file by device id. tuning: what
    fine-tuning has brought, None where it was not asked for.
    scored: what was counted of it on validation data and its log-likelihoods, where those rank networks.
    equal: to which others; control: what the same network does from random weights; None: there are none.
    weights: its own, where it was fine-tuned. precision: of its blocks, of a target that may have int8.
    compression: the passes that were asked for. robustness: what its file does on pictures changed to
    deceive it.
    pruning: of a target that may be pruned.
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
    scored: Scored | None = None
    equal: Equal | None = None
    control: Control | None = None
    weights: SupernetRef | None = None
    precision: Precisions | None = None
    compression: CompressedAs | None = None
    robustness: Document | None = None
    pruning: Pruned | None = None

    @property
    def counted(self) -> float:
        """Quality on validation data as it was counted, whatever networks are ranked by."""
        return self.validation_accuracy if self.scored is None else self.scored.accuracy

    @classmethod
    def of(
        cls,
        target: Target,
        solved: Solved,
        order: list[int],
        accuracies: Mapping[str, float],
        file: DeliveredFile,
        predictor: Ranking | ReducedRanking,
        gates: Fields | None = None,
    ) -> ExportedNetwork:
        """The first of `order` is delivered, the others are its runners-up. predictor: what ranked them."""
        genes = np.stack([predictor.space.genes(a) for a in solved.architectures])
        predicted, metric = predictor.predict(genes), predictor.metric
        lines = [
            _line(target, solved.architectures[i], float(predicted[i]), accuracies, metric) for i in order
        ]
        chosen, result = solved.architectures[order[0]], solved.result
        told = predictor.summary() if isinstance(predictor, ReducedRanking) else summary(predictor)
        return cls(
            architecture=chosen,
            # The value is clipped to the metric's range: an additive model can promise more than everything.
            predicted_accuracy=metric.quality(lines[0].accuracy_predicted),
            validation_accuracy=accuracies[chosen.digest],
            found=Found(result.strategy, result.optimal, result.gap, told, gates),
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


def compared_with_best(scored: Sequence[Scored], taken: int, alike: int) -> Equal:
    """What the card says of the one that is taken of `alike` equal ones."""
    best = max(scored, key=lambda one: one.likelihood)
    chosen = scored[taken]
    error = 0.0 if chosen is best else standard_error(best.likelihoods, chosen.likelihoods)
    return Equal(alike, best.accuracy, best.likelihood - chosen.likelihood, error)


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
