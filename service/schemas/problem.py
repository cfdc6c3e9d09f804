"""The form of every error (RFC 9457), for the OpenAPI document."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ProblemError(BaseModel):
    pointer: str
    code: str
    detail: str


class ProblemDocument(BaseModel):
    """Further members say more: `reachable_ms`, `missing_networks`, `rows`."""

    model_config = ConfigDict(extra="allow")

    type: str
    code: str
    title: str
    status: int
    detail: str
    errors: list[ProblemError] | None = None
    request_id: str | None = None
