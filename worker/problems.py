"""Errors of a job as problem objects (RFC 9457), for `error` of a failed job."""

from __future__ import annotations

import re
from typing import Any, Final

from latency_tables import errors
from latency_tables.errors import BespokeError, InfeasibleBudget, MissingLatency, TooFewNetworks, reachable
from worker.steps import StepFailed

_INTERNAL: Final = (
    "The job stopped on an error of the service itself. Its log has the details under the job's id; please report it."
)


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem object of an error; what is not ours is not shown to the user."""
    if isinstance(error, StepFailed):
        # An error of ours keeps its meaning on its way out of the child; anything else there is the service's own fault.
        ours = issubclass(getattr(errors, error.kind, Exception), BespokeError)
        status = 422 if ours else 500
        return {"type": _urn(error.kind), "title": _title(error.kind), "status": status, "detail": str(error), **error.detail}
    if isinstance(error, BespokeError):
        # Limits that contradict each other are an infeasible budget too: one type for whoever reads it.
        name = InfeasibleBudget.__name__ if isinstance(error, InfeasibleBudget) else type(error).__name__
        return {"type": _urn(name), "title": _title(name), "status": 422, "detail": str(error), **_more(error)}
    if isinstance(error, MemoryError):
        return {"type": "urn:bespoke:out-of-memory", "title": "Out of memory", "status": 500, "detail": _INTERNAL}
    return {"type": "urn:bespoke:internal", "title": "Internal error", "status": 500, "detail": _INTERNAL}


def _more(error: BespokeError) -> dict[str, Any]:
    if isinstance(error, InfeasibleBudget):
        return reachable(error)
    if isinstance(error, MissingLatency):
        return {"missing_operators": list(error.operators[:20])}
    if isinstance(error, TooFewNetworks):
        return {"missing_networks": error.missing}
    return {}


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _urn(name: str) -> str:
    return f"urn:bespoke:{_words(name).lower().replace(' ', '-')}"


def _title(name: str) -> str:
    return _words(name).capitalize()
