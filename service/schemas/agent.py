"""What the measuring agent and the service say to each other."""

from __future__ import annotations

from typing import Annotated, Self, cast

from pydantic import ConfigDict, Field, model_validator

from latency_tables.agent.protocol import MAX_REASON
from service.db.documents import TaskResult
from service.schemas.devices import ContextIn
from service.schemas.strict import (
    Answer,
    Id,
    JsonObject,
    LatencyMs,
    Line,
    MeasuredIn,
    Sha256,
    Short,
    Strict,
    Time,
)

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]


class EnrolIn(Strict):
    """token: one-time. environment: what the agent sees of its device, its `fingerprint` among it."""

    token: Annotated[str, Field(min_length=1, max_length=256)]
    context: ContextIn
    environment: Annotated[JsonObject, Field(max_length=64)]


class Enrolled(Answer):
    device: str
    session_id: str
    agent_key: str
    expires_at: Time


class FileView(Answer):
    sha256: str
    size_bytes: int


class TaskInput(Answer):
    """An input of a network, the batch in its shape. below: whole numbers of it are 0 to below - 1."""

    name: str
    shape: list[int]
    dtype: str
    below: int | None = None


class TaskView(Answer):
    """inputs: in order; input_shape is the shape of the first, for agents of before there could be others."""

    id: str
    kind: str
    sha256: str
    size_bytes: int
    nonce: str
    operator: str | None
    input_shape: list[int]
    inputs: list[TaskInput]


class TaskList(Answer):
    session_id: str
    context: JsonObject
    sentinel: FileView | None
    items: list[TaskView]
    remaining: int
    poll_s: float


class MeasurementIn(MeasuredIn):
    """One measured task, in ms over `count` samples.

    group: tasks of one number were measured together; sentinel_ms, sentinel_error (relative), load (runnable
    processes a core), transfer_s and measuring_s are those of the group. reference_ms: the fastest that the
    sentinel was ever seen.
    nodes: of the network, by the provider that computed them. What a newer agent tells besides is not looked
    at, so that a service may be older than its agents; nothing else of the protocol is as lenient.
    """

    model_config = ConfigDict(extra="ignore")

    task_id: Id
    nonce: Annotated[str, Field(min_length=1, max_length=128)]
    sha256: Sha256
    flags: Annotated[list[Short], Field(max_length=16)] = Field(default_factory=list)
    sentinel_ms: LatencyMs | None = None
    reference_ms: LatencyMs | None = None
    sentinel_error: Annotated[float, Field(ge=0, le=1e6)] | None = None
    group: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    load: Annotated[float, Field(ge=0, le=1e6)] | None = None
    transfer_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    measuring_s: Annotated[float, Field(ge=0, le=1e9)] | None = None
    nodes: Annotated[dict[Short, Annotated[int, Field(ge=0, le=100_000)]], Field(max_length=16)] | None = None

    def result(self) -> TaskResult:
        """What is kept of it with its task."""
        return cast(TaskResult, self.model_dump(exclude={"task_id", "nonce", "sha256"}))


class FailureIn(Strict):
    """A task whose network the device cannot run, and why."""

    task_id: Id
    nonce: Annotated[str, Field(min_length=1, max_length=128)]
    sha256: Sha256
    reason: Annotated[Line, Field(min_length=1, max_length=MAX_REASON)]


class MeasurementsIn(Strict):
    """failures: of the device's tasks, those that it cannot run; at least one of either is told."""

    session_id: Id
    sequence: Annotated[int, Field(ge=0, le=2**31 - 1)]
    fingerprint: Fingerprint
    items: Annotated[list[MeasurementIn], Field(max_length=1000)]
    failures: Annotated[list[FailureIn], Field(max_length=1000)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.items and not self.failures:
            raise ValueError("a post needs an item or a failure")
        return self


class Accepted(Answer):
    accepted: int
