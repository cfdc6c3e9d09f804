"""Jobs, events and models."""

from __future__ import annotations

from typing import Any

from service.schemas.strict import Answer, Time


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
    error: dict[str, Any] | None
    result: dict[str, Any] | None


class JobList(Answer):
    items: list[JobView]
    next: str | None = None


class EventView(Answer):
    sequence: int
    at: Time
    kind: str
    data: dict[str, Any]


class EventList(Answer):
    items: list[EventView]
    next: int | None = None


class ModelSummary(Answer):
    id: str
    job_id: str
    device: str
    supernet_id: str
    budget_ms: float
    sha256: str
    created_at: Time


class ModelList(Answer):
    items: list[ModelSummary]
    next: str | None = None
