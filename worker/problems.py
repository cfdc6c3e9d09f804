"""Errors of a job as problem objects (RFC 9457), for `error` of a failed job, by the table of
`service.http.problems` and, for what only a worker meets, by the one here."""

from __future__ import annotations

from typing import Any, Final

from latency_tables.errors import BespokeError
from service.http import problems
from service.http.problems import ERRORS, Kind
from worker.errors import (
    NothingMeasured,
    OutOfMemory,
    SharedFailure,
    StepFailed,
    StepTimeout,
    UnknownDevice,
    UnknownSupernet,
)

_INTERNAL: Final = (
    "The job stopped on an error of the service itself. Its log has the details under the "
    "job's id; please report it."
)
WORKER_ERRORS: Final[dict[type[BespokeError], Kind]] = {
    StepFailed: Kind("internal"),
    OutOfMemory: Kind("out_of_memory"),
    StepTimeout: Kind("timeout"),
    # What the shared training ended with is the job's problem too; this code is for one that says nothing.
    SharedFailure: Kind("training_failed", lambda e: dict(e.problem)),
    NothingMeasured: Kind("nothing_measured"),
    UnknownDevice: Kind("unknown_device"),
    UnknownSupernet: Kind("unknown_supernet"),
}


def problem_of(error: Exception) -> dict[str, Any]:
    """The problem object of an error; what is not ours is not shown to the user."""
    if isinstance(error, BespokeError):
        kind = kind_of(type(error))
        # Members last: a shared failure is a whole document, and says more than its code here.
        return {**problems.document(kind.code, kind.detail or str(error)), **kind.members(error)}
    return problems.document("out_of_memory" if isinstance(error, MemoryError) else "internal", _INTERNAL)


def kind_of(error: type[BespokeError]) -> Kind:
    """What the tables say of an error, or of the nearest one that it is a case of."""
    known = ERRORS | WORKER_ERRORS
    return next(known[parent] for parent in error.__mro__ if parent in known)
