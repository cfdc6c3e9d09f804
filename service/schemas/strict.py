"""What all requests share: strict types, no unknown fields, names and bounds."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

from latency_tables.measurement import MAX_ENERGY_MJ, MAX_LATENCY_MS, Measurement


class Strict(BaseModel):
    """A request, or a part of one: unknown fields and values of another type are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Answer(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _rfc3339(value: datetime) -> str:
    return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(value: Any) -> Any:
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("control characters are not taken")
    return value


def _digits(value: Any) -> Any:
    """Query parameters are texts; of Python's many ways to write a whole number one is taken."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise ValueError("a whole number is wanted, such as 12")
    return int(value) if isinstance(value, str) else value


JsonObject = dict[str, object]  # passed on as it is: no part of it is looked at here
Time = Annotated[datetime, PlainSerializer(_rfc3339, return_type=str)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Line = Annotated[str, StringConstraints(max_length=1000), BeforeValidator(_printable)]
Short = Annotated[str, StringConstraints(min_length=1, max_length=128), BeforeValidator(_printable)]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z]{1,8}_[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
LatencyMs = Annotated[float, Field(gt=0, le=MAX_LATENCY_MS)]


class GenerationIn(Strict):
    """The sentence that a latency is of, for a space whose networks write sentences: tokens that are read and
    written, END among them, and beams. What is left out is as the space has it."""

    source_tokens: Annotated[int, Field(ge=1, le=1024)] | None = None
    target_tokens: Annotated[int, Field(ge=1, le=1024)] | None = None
    beam: Annotated[int, Field(ge=1, le=64)] | None = None


class MeasuredIn(Strict):
    """The numbers of a measurement; see `latency_tables.measurement.Measurement`."""

    median_ms: LatencyMs
    lower_quartile_ms: LatencyMs | None = None
    mad_ms: Annotated[float, Field(ge=0, le=MAX_LATENCY_MS)] | None = None
    count: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    undisturbed_ms: LatencyMs | None = None
    p90_ms: LatencyMs | None = None
    p95_ms: LatencyMs | None = None
    uncertainty: Annotated[float, Field(ge=0, le=MAX_LATENCY_MS)] | None = None
    energy_mj: Annotated[float, Field(gt=0, le=MAX_ENERGY_MJ)] | None = None

    def measurement(self) -> Measurement:
        """Raises InvalidMeasurement where the numbers contradict each other."""
        return Measurement(**{f.name: getattr(self, f.name) for f in fields(Measurement)})


Whole = Annotated[int, BeforeValidator(_digits), Field(ge=0, le=2**31 - 1)]
Position = Annotated[int, BeforeValidator(_digits), Field(ge=0, le=2**63 - 1)]
PageSize = Annotated[int, BeforeValidator(_digits), Field(ge=1, le=200)]
LogSize = Annotated[int, BeforeValidator(_digits), Field(ge=1, le=2000)]
