"""JSON as rows hold it. Who reads a value says what it must be: `object` makes the type checker insist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from latency_tables.measurement import Context

Document = dict[str, object]
Fields = Mapping[str, object]


class ContextDocument(TypedDict):
    """`Context.as_dict`."""

    runtime: str
    runtime_version: str
    provider: str
    threads: int
    precision: str
    batch_size: int


def context_document(context: Context) -> ContextDocument:
    return ContextDocument(
        runtime=context.runtime,
        runtime_version=context.runtime_version,
        provider=context.provider,
        threads=context.threads,
        precision=context.precision,
        batch_size=context.batch_size,
    )


class Progress(TypedDict):
    """Where a job is. fraction: of the step, 0 to 1; eta_s: None where nobody knows."""

    step: str
    fraction: float
    message: str
    eta_s: float | None


class Reason(TypedDict):
    """What was found odd about a table: `trust.Finding.as_dict`."""

    kind: str
    severity: str
    message: str
    operator: str | None


class TaskResult(TypedDict, total=False):
    """What an agent answers to a task: `MeasurementIn` without what names the task."""

    median_ms: float
    lower_quartile_ms: float | None
    mad_ms: float | None
    count: int | None
    undisturbed_ms: float | None
    p90_ms: float | None
    p95_ms: float | None
    uncertainty: float | None
    energy_mj: float | None
    flags: list[str]
    sentinel_ms: float | None
    sentinel_error: float | None
    reference_ms: float | None
    group: int | None
    load: float | None
    transfer_s: float | None
    measuring_s: float | None
    nodes: dict[str, int] | None


def part(document: Fields | None, name: str) -> Mapping[str, Any]:
    """The object under a name; empty where there is none, since an older version may not have written it."""
    found = (document or {}).get(name)
    return found if isinstance(found, dict) else {}


def items(document: Fields | None, name: str) -> Sequence[Any]:
    """The list under a name; empty where there is none."""
    found = (document or {}).get(name)
    return found if isinstance(found, list) else ()
