"""Supernets, fronts and searches."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from latency_tables.measurement import MAX_ENERGY_MJ
from service.schemas.strict import Answer, GenerationIn, Id, JsonObject, LatencyMs, Name, Strict, Time
from supernets.delivery.precision import FLOAT32
from supernets.training.sharing import LONGEST_DELAY

Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


MemoryMb = Annotated[int, Field(ge=1, le=2**24)]
"""Most memory of a training process, with Python and torch."""


class DistributedIn(Strict):
    """How the processes of a training share it: `supernets.training.sharing.Sharing`."""

    sync: Literal["every", "delayed"] = "every"
    delay: Annotated[int, Field(ge=1, le=LONGEST_DELAY)] = 8
    top: Annotated[float, Field(gt=0, le=0.5)] | None = None


class SupernetIn(Strict):
    """from: id of a supernet of the same space, to begin with its weights; its classes may be others.

    recipe: left out, `transfer` with `from` and `standard` without. class_weights: `auto` makes every class
    count alike, however rare. control: searches from it also train the chosen network from random weights,
    with equal steps.
    memory_mb: most memory that the training process may take; the method of its steps follows from it.
    distributed: of a service that trains with several processes.
    """

    space: Name
    dataset: Name
    recipe: Name | None = None
    seed: Seed = 0
    parent: Name | None = Field(default=None, alias="from")
    memory_mb: MemoryMb | None = None
    distributed: DistributedIn | None = None
    class_weights: Literal["auto"] | None = None
    control: bool = False


Limit = Annotated[int, Field(ge=1, le=10**15)]


Epochs = Annotated[int, Field(ge=1, le=1000)]


ON_DEVICE: Final = ("latency_ms", "latency_p95_ms", "energy_mj")
"""Limits that only a device gives a meaning to."""


class Budget(Strict):
    """What a network may take at most, all of it at once.

    latency_ms: on the undisturbed device. latency_p95_ms: of 19 runs in 20, whatever else the device does.
    energy_mj: of one run. size_bytes: the ONNX file. macs: multiply-adds of one input. memory_bytes: peak of
    the activations, batch 1, in the precision of the device. adaptation_bytes: of tensors that fine-tuning it
    one sample at a time keeps: weights, gradients, Adam's numbers, activations.
    """

    latency_ms: LatencyMs | None = None
    latency_p95_ms: LatencyMs | None = None
    energy_mj: Annotated[float, Field(gt=0, le=MAX_ENERGY_MJ)] | None = None
    size_bytes: Limit | None = None
    macs: Limit | None = None
    memory_bytes: Limit | None = None
    adaptation_bytes: Limit | None = None

    @property
    def fastest_ms(self) -> float | None:
        """The limit on the latency of the undisturbed device; that on p95 where it stands alone, for p95 is
        never below."""
        return self.latency_p95_ms if self.latency_ms is None else self.latency_ms

    def on_device(self) -> list[str]:
        """Names of the limits that need a device."""
        return [name for name in ON_DEVICE if getattr(self, name) is not None]

    def limits(self) -> dict[str, int]:
        """The limits that hold on any device, by name."""
        given = self.model_dump(exclude=set(ON_DEVICE), exclude_none=True)
        return {name: int(value) for name, value in given.items()}

    def stored(self) -> dict[str, float]:
        """Everything that was asked for, as jobs keep it."""
        latency = {} if self.fastest_ms is None else {"latency_ms": self.fastest_ms}
        further = self.model_dump(include={"latency_p95_ms", "energy_mj"}, exclude_none=True)
        return {**latency, **further, **self.limits()}


UNTIMED: Final = (
    "a device needs a budget with latency_ms or latency_p95_ms; for limits on size, memory and macs alone "
    "leave the device out"
)


class Member(Strict):
    """One device of a group with its own budget."""

    device: Name
    budget: Budget

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.budget.fastest_ms is None:
            raise ValueError(UNTIMED)
        return self


ChoiceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,40}(\.[a-z_]{1,40})?$")]
ChoiceValue = bool | int | float | Annotated[str, StringConstraints(min_length=1, max_length=40)]


Exclusions = Annotated[
    dict[ChoiceName, ChoiceValue | Annotated[list[ChoiceValue], Field(min_length=1, max_length=64)]],
    Field(min_length=1, max_length=32),
]


class Target(Strict):
    """What one network is wanted for: a device with its budget, a group of devices whose budgets it all
    keeps, or limits alone.

    exclude: choices that may not be taken, by name. resolutions: the only ones that may be chosen. missing:
    what the table lacks is an error (`refuse`) or may not be chosen (`exclude`). precision: of its blocks;
    `mixed` chooses it for each of them. prune: whether channels may be cut out of its blocks.
    """

    device: Name | None = None
    budget: Budget | None = None
    group: Annotated[list[Member], Field(min_length=2, max_length=8)] | None = None
    exclude: Exclusions | None = None
    resolutions: (
        Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=1, max_length=64)] | None
    ) = None
    missing: Literal["refuse", "exclude"] = "refuse"
    # Not in what a request is known by where nothing is asked for: requests of before had no such field.
    precision: Literal["float32", "int8", "mixed"] = Field(
        default="float32", exclude_if=lambda asked: asked == FLOAT32
    )
    prune: bool = Field(default=False, exclude_if=lambda asked: not asked)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.group is not None:
            if self.device is not None or (self.budget is not None and self.budget.on_device()):
                raise ValueError(
                    "a group names its devices with their latencies and energies itself; its own budget "
                    "holds size_bytes, macs, memory_bytes and adaptation_bytes"
                )
            if len({member.device for member in self.group}) < len(self.group):
                raise ValueError("a group names each device once")
        elif self.device is not None:
            if self.budget is None or self.budget.fastest_ms is None:
                raise ValueError(UNTIMED)
        elif self.budget is not None and self.budget.on_device():
            raise ValueError(f"{self.budget.on_device()[0]} is of a device: name the device")
        elif self.budget is None or not self.budget.limits():
            raise ValueError(
                "name a device with its budget, a group of them, or a budget of size_bytes, macs, "
                "memory_bytes or adaptation_bytes alone"
            )
        return self

    def members(self) -> list[Member]:
        """Every device with its budget; none where limits stand alone."""
        if self.device is not None and self.budget is not None:
            return [Member(device=self.device, budget=self.budget)]
        return list(self.group or [])

    def limits(self) -> dict[str, int]:
        """Limits that hold on any device: the lowest of each name."""
        found: dict[str, int] = {}
        for budget in [m.budget for m in self.members()] + ([] if self.budget is None else [self.budget]):
            for name, limit in budget.limits().items():
                found[name] = min(limit, found.get(name, limit))
        return found

    def exclusions(self) -> dict[str, list[bool | int | float | str]]:
        """`exclude` with a list for every name."""
        return {
            name: value if isinstance(value, list) else [value]
            for name, value in (self.exclude or {}).items()
        }


class SearchIn(Strict):
    """One job, one or many targets. Name a supernet, or a space and a data set.

    gate_epochs: for strategy gradient, how many epochs it searches for each target, instead of those of the
    recipe.
    tune_epochs: how many epochs the chosen network is fine-tuned before it is delivered, 0 for none; left
    out: 5 where the supernet began with the weights of another, else none. control: whether the chosen
    network is also trained from random weights with equal steps; left out: as its supernet was asked for.
    memory_mb: most memory of that fine-tuning. train: what of the network it changes; `lite` puts modules
    beside its blocks, so every target is a device that measures candidates, with limits on latency alone.
    measured_candidates: of the candidates, how many are measured at a time where an agent is on the device;
    the best that keeps the budget when measured is delivered.
    batch: of the file, that of the device's context or left open. preprocessing: `embedded` puts the
    normalisation into the file, which then takes bytes.
    generation: the sentence that latencies are of, where networks write sentences: the device must have been
    profiled for it.
    robustness: whether the card says what the file does on pictures changed to deceive it. defensive: the
    fine-tuning draws layers towards orthogonal ones, so that errors (of rounding, of an adversary) do not
    grow from layer to layer.
    """

    supernet: Id | None = None
    space: Name | None = None
    dataset: Name | None = None
    recipe: Name = "standard"
    seed: Seed = 0
    targets: Annotated[list[Target], Field(min_length=1, max_length=64)]
    strategy: Literal["exact", "evolution", "gradient", "random"] = "exact"
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    candidates: Annotated[int, Field(ge=1, le=64)] = 5
    verify: bool = True
    measured_candidates: Annotated[int, Field(ge=1, le=16)] = 3
    batch: Literal["device", "dynamic"] = "device"
    preprocessing: Literal["separate", "embedded"] = "separate"
    gate_epochs: Epochs | None = None
    tune_epochs: Annotated[int, Field(ge=0, le=1000)] | None = None
    control: bool | None = None
    memory_mb: MemoryMb | None = None
    train: Literal["all", "bias", "last", "lite"] = "all"
    generation: GenerationIn | None = None
    robustness: bool = Field(default=False, exclude_if=lambda asked: not asked)
    defensive: bool = Field(default=False, exclude_if=lambda asked: not asked)

    @model_validator(mode="after")
    def _gates_by_gradient(self) -> Self:
        if self.gate_epochs is not None and self.strategy != "gradient":
            raise ValueError("gate_epochs is for the strategy gradient; the others do not train")
        return self

    @model_validator(mode="after")
    def _gates_in_float(self) -> Self:
        if self.strategy == "gradient" and any(target.precision != FLOAT32 for target in self.targets):
            raise ValueError(
                "the strategy gradient trains in float32: for int8 and mixed take exact, evolution or random"
            )
        if self.strategy == "gradient" and any(target.prune for target in self.targets):
            raise ValueError(
                "the strategy gradient trains whole blocks: to prune take exact, evolution or random"
            )
        return self

    @model_validator(mode="after")
    def _only_tuned(self) -> Self:
        if not self.tune_epochs and (self.memory_mb is not None or self.train != "all"):
            raise ValueError("memory_mb and train are of a fine-tuning: give tune_epochs too")
        return self

    @model_validator(mode="after")
    def _defended_whole(self) -> Self:
        if self.defensive and (not self.tune_epochs or self.train != "all"):
            raise ValueError("defensive is of fine-tuning a whole network: give tune_epochs, leave train")
        if self.robustness and self.preprocessing == "embedded":
            raise ValueError("robustness changes normalised pictures: leave preprocessing separate")
        return self

    @model_validator(mode="after")
    def _lite_is_measured(self) -> Self:
        if self.train != "lite":
            return self
        if not self.verify or self.confidence is not None:
            raise ValueError("train lite needs networks measured: leave verify and confidence as they are")
        if any(target.precision != FLOAT32 for target in self.targets):
            raise ValueError("lite residuals have no int8 form: train lite in float32")
        if any(target.prune for target in self.targets):
            raise ValueError("lite residuals stand beside whole blocks: train lite without prune")
        if any(target.limits() or not target.members() for target in self.targets):
            raise ValueError(
                "train lite: lite residuals are no operators, so limits on size_bytes, macs, memory_bytes "
                "and adaptation_bytes do not know them; name a device with its latency alone"
            )
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.supernet is None) == (self.space is None) or (self.space is None) != (self.dataset is None):
            raise ValueError("name either a supernet, or a space and a dataset")
        return self


class CompressIn(Strict):
    """A delivered network once more: the same architecture and weights, with the precision of its blocks
    chosen, with channels cut out of them, or in float32 after compression passes.

    device: another one than the model was made for. precision: `mixed` chooses for each block; left out, it
    is `mixed`, and float32 with `prune`. prune: whether blocks may keep a share of their channels. passes:
    names of compression passes (docs/compression.md); budget is then that of the model where it is left out,
    and precision is left out. The others are those of a search.
    """

    budget: Budget | None = None
    device: Name | None = None
    precision: Literal["float32", "int8", "mixed"] = "mixed"
    prune: bool = Field(default=False, exclude_if=lambda asked: not asked)
    passes: Annotated[list[Name], Field(min_length=1, max_length=8)] | None = Field(
        default=None, exclude_if=lambda asked: asked is None
    )
    exclude: Exclusions | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    candidates: Annotated[int, Field(ge=1, le=64)] = 5
    verify: bool = True
    measured_candidates: Annotated[int, Field(ge=1, le=16)] = 3
    robustness: bool = Field(default=False, exclude_if=lambda asked: not asked)

    @model_validator(mode="after")
    def _passes_in_float(self) -> Self:
        if self.passes is not None and self.prune:
            raise ValueError("passes are for networks with all channels: prune in a job of its own")
        if self.passes is not None and ("precision" in self.model_fields_set or self.exclude is not None):
            raise ValueError("passes are for networks in float32: leave precision and exclude out")
        if self.precision == FLOAT32 and not self.prune:
            raise ValueError("a network in float32 is what there is: ask for int8 or mixed, prune, or passes")
        if self.passes is None and self.budget is None:
            raise ValueError("name the budget that the network has to keep, or passes it is put through")
        return self

    @property
    def precision_asked(self) -> str:
        """Of the blocks, also where none was named."""
        if self.passes is not None or (self.prune and "precision" not in self.model_fields_set):
            return FLOAT32
        return self.precision


class Scored(Answer):
    accuracy: float
    architecture: JsonObject


class MetricView(Answer):
    """What a network is judged by: what every `accuracy` is a value of. No bound: null."""

    name: str
    higher_is_better: bool
    lowest: float | None
    highest: float | None


class PredictorView(Answer):
    """The accuracy predictor that ranks networks in searches, with its held-out error; rmse in share of right
    answers.

    name: `additive`, or the refinement of it that won held out: `pairs` (of stages) or `mlp`. networks:
    scored ones;
    held_out_networks: those of them drawn at random, on which it was judged.
    """

    name: str
    networks: int
    held_out_networks: int | None
    metric: MetricView
    rmse: float | None
    kendall_tau: float | None


class MemoryView(Answer):
    """What a training took. peak_mb: most memory of its process; limit_mb: null where nobody asked; method:
    how its steps were computed."""

    limit_mb: int | None
    peak_mb: float
    method: str


class SupernetView(Answer):
    id: str
    space: str
    dataset: str
    dataset_fingerprint: str | None = None
    recipe: str
    seed: int
    classes: int
    parent: str | None = None
    memory_mb: int | None = None
    distributed: JsonObject | None = None
    class_weights: str | None = None
    control: bool = False
    normalisation: JsonObject | None = None
    state: str
    largest: Scored | None
    smallest: Scored | None
    predictor: PredictorView | None
    memory: MemoryView | None = None
    job_id: str | None
    created_at: Time
    ready_at: Time | None


class SupernetList(Answer):
    items: list[SupernetView]
    next: str | None = None


class FrontPoint(Answer):
    latency_ms: float
    upper_ms: float | None
    accuracy: float
    architecture: JsonObject


class FrontHead(Answer):
    """What both forms of a front say. confidence: of `upper_ms`. doubt: why latencies may be off. generation:
    the sentence that they are of, where networks write."""

    optimal: bool
    device: str
    supernet_id: str
    table_id: str
    metric: MetricView
    confidence: float | None
    missing_networks: int
    doubt: str | None = None
    reachable_ms: dict[str, float]
    solved_in_ms: float
    generation: dict[str, int] | None = None


class FrontColumns(FrontHead):
    """The front in columns, a fraction of the size. genes: a text for each network, one character for each
    gene.

    The first gene is the index of the resolution; then come those of each elastic stage of `legend`: width,
    depth and the choice of each block, as indices into its lists. A character is the index in `alphabet`.
    Blocks beyond the depth count for nothing.
    """

    alphabet: str
    legend: JsonObject
    latency_ms: list[float]
    upper_ms: list[float] | None
    accuracy: list[float]
    genes: list[str]


class HistoryPoint(Answer):
    """One report of a training; its `loss` is the mean over the epoch so far, `rate` the learning rate.

    validation: accuracy of the `largest` and the `smallest` sub-network on some of the validation split, at
    the end of some epochs.
    """

    at: Time
    fraction: float
    phase: str
    epoch: int
    epochs: int
    loss: float
    rate: float | None = None
    validation: dict[str, float] | None = None


class History(Answer):
    """How the training of a supernet went, in order; empty for one that was imported or trained by an older
    version.
    """

    items: list[HistoryPoint]
    next: None = None


class PredictorPairs(Answer):
    """Predicted and measured accuracy of networks that the fit of each prediction had not seen."""

    name: str
    predicted: list[float]
    measured: list[float]
    rmse: float
    kendall_tau: float | None


class FrontView(FrontHead):
    """The whole latency/accuracy front, ascending in both."""

    resolutions: list[int]
    points: list[FrontPoint]
