"""Devices, tables, probes, enrolments, profiles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from latency_tables.measurement import Context
from latency_tables.plan import CHECK_OPERATORS
from service.schemas.strict import (
    Answer,
    GenerationIn,
    JsonObject,
    LatencyMs,
    Line,
    Name,
    Short,
    Strict,
    Time,
)

Count = Annotated[int, Field(ge=1, le=65_536)]


class ContextIn(Strict):
    """The conditions that a device's latencies are valid in."""

    runtime: Short
    runtime_version: Short
    provider: Short
    threads: Count
    precision: Short
    batch_size: Count

    def context(self) -> Context:
        return Context(**self.model_dump())


class DeviceIn(Strict):
    name: Name
    description: Line = ""
    context: ContextIn


class DevicePatch(Strict):
    description: Line


class ContextView(Answer):
    runtime: str
    runtime_version: str
    provider: str
    threads: int
    precision: str
    batch_size: int


class Coverage(Answer):
    """Resolutions of a search space for which a table holds every operator; `of` are all that the space
    has. precisions: the same for networks in int8 and in a mix (`int8`, `mixed`), where there are any;
    pruned: for pruned ones in float32."""

    space: str
    classes: int
    resolutions: list[int]
    of: list[int]
    precisions: dict[str, list[int]] = Field(default_factory=dict, exclude_if=lambda found: not found)
    pruned: list[int] = Field(default_factory=list, exclude_if=lambda found: not found)


class FindingView(Answer):
    """What was found odd about a table; `review` keeps it from being used, `warning` does not."""

    kind: str
    severity: str
    message: str
    operator: str | None


class TableView(Answer):
    """One immutable version of a device's table. state: `ready`, or `needs_review` and not used. reasons:
    what was found.

    in_use: fronts and searches rest on it, wherever it covers their space. created_by, used_by, accepted_by:
    names of keys;
    used_at: when it was imported, chosen or accepted last.
    """

    id: str
    version: int
    rows: int
    source: str
    state: str
    digest: str
    reasons: list[FindingView]
    in_use: bool
    created_at: Time
    created_by: str | None
    used_at: Time | None
    used_by: str | None
    accepted_at: Time | None
    accepted_by: str | None
    accepted_note: str | None


class AcceptIn(Strict):
    """Somebody has looked at a table that needs a review and found it true. note: why."""

    note: Line = ""


class TableInUse(Answer):
    """The version that fronts and searches rest on."""

    id: str
    version: int


class TableCreated(Answer):
    """What an import gave. explanation: which version is in use, and why where that is not this one.

    replaced: rows of the table in use that an import with `mode=add` put others in place of. warnings: also
    what was read otherwise than written, and which spaces are not covered any more.
    """

    id: str
    version: int
    rows: int
    state: str
    coverage: list[Coverage]
    warnings: list[str]
    in_use: bool
    table_in_use: TableInUse | None
    explanation: str
    replaced: int


class TableList(Answer):
    items: list[TableView]
    next: None = None


class Interval(Answer):
    """Measured latency is at most `factor` x predicted for this share of the networks."""

    confidence: float
    factor: float


class CalibrationView(Answer):
    """How whole networks of a space relate to the sum of their operators on this device.

    state: `none` (no network was measured), `fitted`, or `refused` with its reason. error, worst: held-out,
    relative.
    missing_networks: how many more a 95 % bound needs. sessions: in which the networks were measured;
    session_spread: standard deviation of the log of measured / predicted from one session to another, which
    the interval allows for.
    """

    space: str
    classes: int
    state: str
    networks: int
    intercept_ms: float
    slope: float
    error: float | None
    worst: float | None
    interval: Interval | None
    missing_networks: int
    reason: str | None
    measured_at: Time | None
    sessions: int
    session_spread: float


class Replication(Answer):
    """The two newest tables next to each other, over the operators both have."""

    tables: list[str]
    operators: int
    median_difference: float
    kendall_tau: float
    reproducible: bool


class AgentView(Answer):
    """The measuring agent of a device. `present`: it was heard of lately."""

    present: bool
    session_id: str
    seen_at: Time | None
    expires_at: Time
    state: str
    open_tasks: int


class DeviceView(Answer):
    """remarks: what is not known of what is delivered for it, and should be tried before it is relied on."""

    name: str
    description: str
    context: ContextView
    created_at: Time
    revision: int
    agent: AgentView | None
    tables: list[TableView]
    table_id: str | None
    coverage: list[Coverage]
    calibration: list[CalibrationView]
    prediction_error: float | None
    interval: Interval | None
    date: Time | None
    replication: Replication | None
    environment: JsonObject | None
    nodes_by_provider: dict[str, int] | None = None
    remarks: list[str] = Field(default_factory=list)


class DeviceList(Answer):
    items: list[DeviceView]
    next: str | None = None


class EnrolmentView(Answer):
    """A one-time token; this answer is the only place where it is shown."""

    token: str
    expires_at: Time


class Probe(Strict):
    """One whole network, measured. `architecture` as `GET /v1/supernets/{id}/front` shows it.

    p95_ms: of 19 runs in 20, not below latency_ms; from those the tail of others is predicted.
    """

    space: Name
    architecture: JsonObject
    latency_ms: LatencyMs
    p95_ms: LatencyMs | None = None
    classes: Annotated[int, Field(ge=1, le=65_536)] | None = None


class ProbesIn(Strict):
    samples: Annotated[list[Probe], Field(min_length=1, max_length=1000)]


class TransformerIn(Strict):
    """A transformer as HAT's data sets hold it: ten features in the order of their columns."""

    features: Annotated[list[Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=10, max_length=10)]
    encoder_ms: LatencyMs
    decoder_ms: LatencyMs


class TransformersIn(Strict):
    """Whole transformers that HAT's protocol measured. fitted_to: so many, drawn by the seed, make the table;
    the others say how far off it is. generation: the sentence that was timed, left out: the space's own."""

    space: Name = "hat-wmt"
    classes: Annotated[int, Field(ge=1, le=65_536)] | None = None
    generation: GenerationIn | None = None
    networks: Annotated[list[TransformerIn], Field(min_length=1, max_length=20_000)]
    fitted_to: Annotated[int, Field(ge=20, le=2000)] = 50
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


class ProbesCreated(Answer):
    """What the probes gave: the fitted table, its held-out error and interval.

    method: `calibration` of the device's own table, `transfer` from the tables of known devices, `refused`
    where the networks do not fit the table (they are kept, and the calibration is `refused` with its reason),
    or `none` with the reason among the warnings. session: names this post; its networks can be deleted by it.
    held_out: transformers of the post that the table was not fitted to; error and interval are of them, or,
    where it is 0, of those it was fitted to, each left out once.
    """

    accepted: int
    session: str | None = None
    method: str
    table_id: str | None
    error: float | None
    worst: float | None
    interval: Interval | None
    missing_networks: int
    calibration: list[CalibrationView]
    warnings: list[str]
    held_out: int | None = None


class ProbePlanItem(Answer):
    space: str
    architecture: JsonObject
    architecture_digest: str


class ProbePlan(Answer):
    """Networks that are worth measuring on this device, the most informative first."""

    items: list[ProbePlanItem]
    next: None = None


class ProfileIn(Strict):
    """Measure what the device's table lacks for a space.

    networks: whole networks for the calibration. remeasure: operators to measure again though the table has
    them. generation: the sentence that is timed, of a space whose networks write sentences. precisions: of
    the blocks; with int8 also the rows of what changes the precision. prune: also the widths that pruned
    blocks may have.
    """

    space: Name
    dataset: Name | None = None
    classes: Annotated[int, Field(ge=1, le=65_536)] | None = None
    resolutions: (
        Annotated[list[Annotated[int, Field(ge=1, le=65_536)]], Field(min_length=1, max_length=64)] | None
    ) = None
    precisions: Annotated[list[Literal["float32", "int8"]], Field(min_length=1, max_length=2)] | None = Field(
        default=None, exclude_if=lambda asked: asked is None
    )
    prune: bool = Field(default=False, exclude_if=lambda asked: not asked)
    networks: Annotated[int, Field(ge=0, le=500)] = 24
    remeasure: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=5000)] = Field(
        default_factory=list
    )
    generation: GenerationIn | None = None


class CheckIn(Strict):
    """Does the table still hold? operators: how many of them are measured again."""

    operators: Annotated[int, Field(ge=4, le=64)] = CHECK_OPERATORS


class NetworkView(Answer):
    """A whole network as it was measured; p95_ms is null where that was not told, predicted_ms (by the
    device's table now) where that does not cover it."""

    space: str
    classes: int
    resolution: int
    architecture: JsonObject
    measured_ms: float
    predicted_ms: float | None
    upper_ms: float | None
    p95_ms: float | None = None
    source: str
    session: str | None
    created_at: Time


class NetworkList(Answer):
    items: list[NetworkView]
    next: None = None
