"""Jobs, events and models."""

from __future__ import annotations

from service.schemas.strict import Answer, JsonObject, Line, Short, Strict, Time


class Progress(Answer):
    step: str | None
    fraction: float
    message: str
    eta_s: float | None


class JobView(Answer):
    id: str
    kind: str
    state: str
    progress: Progress
    attempts: int
    priority: int
    cancel_asked: bool
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    error: JsonObject | None
    result: JsonObject | None
    name: str | None = None
    note: str | None = None
    remarks: list[str] = []  # noqa: RUF012 - what was remarked when the job was handed in


class JobRequest(Answer):
    """What was asked for, as the service keeps it: names resolved, tables pinned."""

    kind: str
    request: JsonObject


class Naming(Strict):
    """What people call a job or a model; a field that is left out stays as it is, null takes it away."""

    name: Short | None = None
    note: Line | None = None


class JobList(Answer):
    items: list[JobView]
    next: str | None = None


class EventView(Answer):
    sequence: int
    at: Time
    kind: str
    data: JsonObject


class EventList(Answer):
    items: list[EventView]
    next: int | None = None


class ModelSummary(Answer):
    id: str
    job_id: str
    device: str | None
    supernet_id: str
    budget_ms: float | None
    sha256: str
    created_at: Time
    predicted_ms: float | None
    upper_ms: float | None
    measured_ms: float | None
    verified: bool
    accuracy: float | None
    predicted_accuracy: float | None
    size_bytes: int | None
    name: str | None = None
    note: str | None = None


class ModelNamed(Answer):
    id: str
    name: str | None
    note: str | None


class ModelList(Answer):
    items: list[ModelSummary]
    next: str | None = None


class LogLineView(Answer):
    """A line that a worker or its child said while it did a step. source: `worker`, or the child's name."""

    position: int
    at: Time
    step: str
    source: str
    text: str


class LogList(Answer):
    """The last 2,000 lines of a job, in order."""

    items: list[LogLineView]
    next: int | None = None
