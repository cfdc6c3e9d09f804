"""Errors of a job as problem objects (RFC 9457), for `error` of a failed job, by the table of
`service.http.problems`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from latency_tables.errors import BespokeError
from service.http import problems
from worker.errors import StepFailed

_INTERNAL: Final = (
    "The job stopped on an error of the service itself. Its log has the details under the "
    "job's id; please report it."
)
# What a step says that is no class of ours.
_SAID: Final = {
    "Timeout": "timeout",
    "OutOfMemory": "out_of_memory",
    "TrainingFailed": "training_failed",
    "UnknownDevice": "unknown_device",
    "UnknownSupernet": "unknown_supernet",
}


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem object of an error; what is not ours is not shown to the user."""
    if isinstance(error, StepFailed):
        # An error of ours keeps its meaning on its way out of the child; anything else there is the service's
        # own fault.
        return {**problems.document(_code_said(error.kind), str(error)), **error.detail}
    if isinstance(error, BespokeError):
        kind = problems.kind_of(type(error))
        return problems.document(kind.code, kind.detail or str(error), **kind.members(error))
    if isinstance(error, MemoryError):
        return problems.document("out_of_memory", _INTERNAL)
    return problems.document("internal", _INTERNAL)


def _code_said(name: str) -> str:
    found = next((kind for kind in _below(BespokeError) if kind.__name__ == name), None)
    return _SAID.get(name, "internal") if found is None else problems.kind_of(found).code


def _below(parent: type[BespokeError]) -> Iterator[type[BespokeError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _below(child)
