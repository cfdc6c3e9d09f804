"""What a child is asked to do and what it answers, a dataclass for each. No torch here, the worker loads it.

A request names the class of its answer; `worker.compute.operations` has the function that does it, and
`worker.compute.codec` the JSON in between. Bytes never travel: they go through the artifact store and are
named by their SHA-256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from latency_tables.inputs import InputSpec
from latency_tables.operators import Operator
from service.db.documents import Document
from supernets.accuracy.likelihood import Scale
from supernets.accuracy.predictor import QualityPredictor
from supernets.delivery.catalog import Delivery
from supernets.delivery.compression.catalog import AppliedPass
from supernets.search.problem import Problem, SearchResult
from supernets.spaces.architecture import Architecture, SpaceRef
from supernets.spaces.catalog import described

AnswerOf = TypeVar("AnswerOf")


@dataclass(frozen=True)
class Places:
    """Where a child finds what requests name. registered: the operator's data sets, name -> path."""

    store: str
    data_dir: str
    registered: dict[str, str]


@dataclass(frozen=True)
class SupernetRef:
    """A trained supernet. fingerprint: of the operator's data set it was trained on; None of a built-in one.

    alone: the network that was fine-tuned; the weights are then its own, and no other network's.
    """

    space: SpaceRef
    dataset: str
    weights_sha256: str
    fingerprint: str | None = None
    alone: Architecture | None = None

    def inputs(self) -> Document:
        """What the key of a step holds of it: flat, without what is None, so that older steps stay known."""
        found: Document = {
            "space": self.space.name,
            "classes": self.space.classes,
            "dataset": self.dataset,
            "weights_sha256": self.weights_sha256,
        }
        if self.fingerprint is not None:
            found["fingerprint"] = self.fingerprint
        if self.alone is not None:
            found["alone"] = described(self.alone)
        return found


@dataclass(frozen=True)
class TrainingReport:
    """Where a training stands. eta_s: what is left of it; whole_s: all of it, from nothing.

    Of gates only: phase; expected_cost, of the first constraint over the probabilities of the choices;
    entropy of the choices, from 0 (decided) to 1.
    """

    epoch: int
    epochs: int
    loss: float
    eta_s: float
    whole_s: float
    phase: str | None = None
    expected_cost: float | None = None
    entropy: float | None = None


@dataclass(frozen=True)
class Progress:
    """How far an operation is."""

    done: int
    total: int
    training: TrainingReport | None = None


@dataclass(frozen=True)
class Request(Generic[AnswerOf]):
    """Something that a child does. answer: the class of what comes back."""

    # A value beside the type parameter, because the parameter is gone when the answer has to be read.
    answer: ClassVar[type[Any]]


@dataclass(frozen=True)
class Accuracies:
    """Shares of right answers, in the order that was asked for. likelihoods: mean log-likelihoods of groups
    of samples, where they were asked for and the task has them."""

    accuracies: tuple[float, ...]
    likelihoods: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Score(Request[Accuracies]):
    """Accuracy of sub-networks on a split, batch-norm recalibrated for each."""

    answer = Accuracies
    supernet: SupernetRef
    architectures: tuple[Architecture, ...]
    split: str
    likelihoods: bool = False


@dataclass(frozen=True)
class ScoreRounded(Request[Accuracies]):
    """Accuracy of sub-networks with blocks in int8, or pruned, on a split: as they would be delivered."""

    answer = Accuracies
    supernet: SupernetRef
    architectures: tuple[Architecture, ...]
    split: str
    likelihoods: bool = False


@dataclass(frozen=True)
class LearntCosts:
    """What it costs each block to be made smaller: `to_json` of the predictor that learnt it."""

    learnt: Document


@dataclass(frozen=True)
class StoredPredictor:
    """A predictor in its stored form, with the refinement that won, if one did."""

    predictor: Document


@dataclass(frozen=True)
class LearnCosts(Request[LearntCosts]):
    """What it costs each block of a supernet to be made smaller, from so many sub-networks at random.

    predictor: of whole networks in float32. scale: how log-likelihoods are read as accuracies, where it is of
    those.
    """

    answer = LearntCosts
    supernet: SupernetRef
    predictor: StoredPredictor
    networks: int
    seed: int
    scale: Scale | None = None


@dataclass(frozen=True)
class LearnPrecision(LearnCosts):
    """What int8 costs (`supernets.accuracy.precision.PrecisionPredictor`)."""


@dataclass(frozen=True)
class LearnPruning(LearnCosts):
    """What pruning costs (`supernets.accuracy.pruning.PruningPredictor`)."""


@dataclass(frozen=True)
class BlockLosses:
    """What the loss of a network grows by where a block alone is in int8, by name."""

    losses: Mapping[str, float]


@dataclass(frozen=True)
class Sensitivity(Request[BlockLosses]):
    """Which blocks of a network int8 costs most."""

    answer = BlockLosses
    supernet: SupernetRef
    architecture: Architecture
    split: str


@dataclass(frozen=True)
class Refine(Request[StoredPredictor]):
    """Fit what predicts better than the additive predictor, if anything does on networks held out."""

    answer = StoredPredictor
    predictor: QualityPredictor
    seed: int


@dataclass(frozen=True)
class Solve(Request[SearchResult]):
    """A search problem for one of the slower strategies."""

    answer = SearchResult
    problem: Problem
    strategy: str
    seed: int


@dataclass(frozen=True)
class EpochOfGates:
    """What one epoch of a gate training left; the fields of `TrainingReport`."""

    phase: str
    epoch: int
    loss: float
    expected_cost: float
    entropy: float


@dataclass(frozen=True)
class TrainedGates:
    """log_probabilities: of every value of every gene. epochs: of the search, after those of the warm-up."""

    log_probabilities: tuple[tuple[float, ...], ...]
    warmup_epochs: int
    epochs: int
    weight_steps: int
    history: tuple[EpochOfGates, ...]


@dataclass(frozen=True)
class TrainGates(Request[TrainedGates]):
    """Train the probabilities of all choices together with the weights.

    epochs: of the search, instead of the recipe's. inputs: digest by which the checkpoints in `folder` know
    the training that they are of.
    """

    answer = TrainedGates
    supernet: SupernetRef
    problem: Problem
    resolutions: tuple[int, ...]
    recipe: str
    epochs: int | None
    seed: int
    device: str
    folder: str
    # Not a hash of this request: prices change between two tries of a target, its training does not.
    inputs: str


@dataclass(frozen=True)
class ChooseByGates(Request[SearchResult]):
    """The most probable networks within the limits of a problem."""

    answer = SearchResult
    problem: Problem
    gates: TrainedGates


@dataclass(frozen=True)
class TunedWeights:
    """The weights of one fine-tuned network, and the seconds and the memory that took
    (`training.method.MemoryUse`)."""

    weights_sha256: str
    size_bytes: int
    seconds: float
    memory: Document | None = None


@dataclass(frozen=True)
class FineTune(Request[TunedWeights]):
    """Train one sub-network alone, from its weights in the supernet; `folder` is for checkpoints.

    memory_mb: most that the child may take. train: what of the network. class_weights: as of its supernet.
    defensive: towards orthogonal layers (`supernets.training.defensive`).
    """

    answer = TunedWeights
    supernet: SupernetRef
    architecture: Architecture
    recipe: str
    epochs: int
    seed: int
    device: str
    folder: str
    memory_mb: int | None = None
    train: str = "all"
    class_weights: str | None = None
    defensive: bool = False


@dataclass(frozen=True)
class ControlAccuracy:
    """Accuracy on the test split of a network that began with random weights, and the steps it was given."""

    accuracy: float
    samples: int
    steps: int


@dataclass(frozen=True)
class TrainControl(Request[ControlAccuracy]):
    """Train one network of a supernet's space from random weights for as many steps; `folder` is for
    checkpoints."""

    answer = ControlAccuracy
    supernet: SupernetRef
    architecture: Architecture
    recipe: str
    steps: int
    seed: int
    device: str
    folder: str
    class_weights: str | None = None


@dataclass(frozen=True)
class DeliveredFile:
    """The ONNX file of a network. parity_max_abs_error: largest difference of its logits from those of torch.

    input_shape: of the first input with the batch, 1 where the file leaves it open; inputs: all of them, with
    the batch. delivery, input, classes: the file's form,
    how it is fed and what its outputs are; None in steps that a version before 0.2 remembered. int8: how its
    blocks in int8 were rounded, and how near the file comes to that; None where it has none.
    compression: what each pass that was applied did.
    pruned: what was cut out of it and how it was refitted; None: nothing.
    measured_sha256, measured_bytes: of what is measured in its place, for networks that write sentences.
    """

    onnx_sha256: str
    size_bytes: int
    opset: int
    parameters: int
    macs: int
    parity_max_abs_error: float
    input_shape: tuple[int, ...]
    delivery: Delivery | None = None
    input: Document | None = None
    classes: tuple[str, ...] | None = None
    inputs: tuple[InputSpec, ...] = ()
    measured_sha256: str | None = None
    measured_bytes: int | None = None
    int8: Document | None = None
    compression: tuple[Document, ...] = ()
    pruned: Document | None = None

    @property
    def to_measure(self) -> tuple[str, int]:
        """SHA-256 and size of what an agent measures: the file itself, or one of the same graphs that writes
        a sentence of stated length."""
        if self.measured_sha256 is None or self.measured_bytes is None:
            return self.onnx_sha256, self.size_bytes
        return self.measured_sha256, self.measured_bytes

    @property
    def archive(self) -> bool:
        """Whether it is an archive of several graphs."""
        return self.measured_sha256 is not None


@dataclass(frozen=True)
class Deliver(Request[DeliveredFile]):
    """Cut out, recalibrate, fold and export a sub-network in a form of delivery; checked against torch."""

    answer = DeliveredFile
    supernet: SupernetRef
    architecture: Architecture
    delivery: Delivery
    compression: tuple[AppliedPass, ...] = ()


@dataclass(frozen=True)
class TriedPass:
    """As `supernets.delivery.compression.trial.Tried`."""

    before: float
    validation: tuple[tuple[float, float], ...]
    taken: float | None
    control_validation: float
    control_test: float


@dataclass(frozen=True)
class TryPass(Request[TriedPass]):
    """A compression pass of a sub-network at each of its strengths, after the passes that were applied
    before."""

    answer = TriedPass
    supernet: SupernetRef
    architecture: Architecture
    applied: tuple[AppliedPass, ...]
    name: str


@dataclass(frozen=True)
class ClassRecall:
    """What a file does on the test samples of one class; recall None where there are none."""

    name: str
    samples: int
    recall: float | None


@dataclass(frozen=True)
class FileAccuracy:
    """What the delivered file itself does on samples that neither training nor search has seen.

    confusion: samples by their class (rows) and the class they were taken for (columns); empty where a task
    has no classes, or more of them than a person looks at.
    """

    accuracy: float
    samples: int
    dataset: str
    split: str
    by_class: tuple[ClassRecall, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class MeasureAccuracy(Request[FileAccuracy]):
    """Accuracy of a delivered file on the test split, in the runtime that the worker has."""

    answer = FileAccuracy
    supernet: SupernetRef
    architecture: Architecture
    onnx_sha256: str
    delivery: Delivery


@dataclass(frozen=True)
class Robust:
    """As `supernets.delivery.robustness.Robustness`; strengths are names."""

    samples: int
    file: Mapping[str, float]
    float32: Mapping[str, float]


@dataclass(frozen=True)
class MeasureRobustness(Request[Robust]):
    """What a delivered file does on test pictures that were changed to deceive it. supernet: whose weights it
    has."""

    answer = Robust
    supernet: SupernetRef
    architecture: Architecture
    onnx_sha256: str
    delivery: Delivery
    compression: tuple[AppliedPass, ...] = ()


@dataclass(frozen=True)
class StoredFile:
    """A file in the artifact store."""

    onnx_sha256: str
    size_bytes: int


@dataclass(frozen=True)
class OperatorFiles:
    """A micro-benchmark of each operator, by its text."""

    files: Mapping[str, StoredFile]


@dataclass(frozen=True)
class ExportOperators(Request[OperatorFiles]):
    """Micro-benchmarks of operators, in the form that networks are delivered in."""

    answer = OperatorFiles
    operators: tuple[Operator, ...]
    delivery: Delivery


@dataclass(frozen=True)
class NetworkFiles:
    """Benchmarks of whole networks, in the order that was asked for."""

    files: tuple[StoredFile, ...]


@dataclass(frozen=True)
class ExportNetworks(Request[NetworkFiles]):
    """Whole networks with random weights, put together from the files of their operators, text -> SHA-256."""

    answer = NetworkFiles
    space: SpaceRef
    architectures: tuple[Architecture, ...]
    operators: Mapping[str, str]
    delivery: Delivery
