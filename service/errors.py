"""Which error becomes which answer: every error leaves as `application/problem+json` (RFC 9457).

Problem (HTTPException) is what the service raises itself, with a code from PROBLEMS. Domain errors
(latency_tables/errors.py) are translated by `problem_of`. A problem never holds what the caller sent, and is
under 4 KiB whatever happened.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import IntegrityError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from latency_tables import errors as domain

MEDIA_TYPE: Final = "application/problem+json"
MOST_BYTES: Final = 4000
MOST_DETAIL: Final = 1200  # five operators in full
MOST_ERRORS: Final = 20
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "validation": (422, "The request is not valid"),
    "malformed_body": (400, "The body cannot be read"),
    "bad_header": (400, "A header cannot be read"),
    "bad_host": (400, "The service does not answer to this host name"),
    "unauthenticated": (401, "A key is needed"),
    "insufficient_scope": (403, "The key may not do this"),
    "not_found": (404, "There is no such thing"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "read_timeout": (408, "The request came too slowly"),
    "conflict": (409, "This cannot be done now"),
    "already_exists": (409, "There is one of that name already"),
    "in_use": (409, "It is in use"),
    "job_ended": (409, "The job has already ended"),
    "session_closed": (409, "The agent's session is over"),
    "device_changed": (409, "The device is not as it was when the session began"),
    "sequence_reused": (409, "This sequence number was used for another post"),
    "token_used": (409, "The token has been used"),
    "precondition_failed": (412, "It has changed since it was read"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The media type is not taken here"),
    "range_not_satisfiable": (416, "No such part of the file"),
    "key_reused": (422, "The Idempotency-Key was used for another request"),
    "unknown_device": (422, "There is no such device"),
    "unknown_dataset": (422, "There is no such data set"),
    "unknown_space": (422, "There is no such search space"),
    "unknown_supernet": (422, "There is no such supernet"),
    "infeasible_budget": (422, "No network of the search space meets the budget"),
    "too_few_networks": (422, "More whole networks must be measured"),
    "missing_latency": (422, "The latency table lacks operators"),
    "no_table": (422, "The device has no latency table for this"),
    "needs_review": (422, "The latency table needs a review before it is used"),
    "poor_calibration": (422, "The latency table does not explain the device"),
    "context_mismatch": (422, "The measuring contexts differ"),
    "invalid_table": (422, "The latency table is not valid"),
    "implausible": (422, "The measurement cannot be true"),
    "nonce": (422, "The nonce is not the task's"),
    "wrong_task": (422, "The task is not this agent's"),
    "not_ready": (422, "The supernet is not trained yet"),
    "precondition_required": (428, "If-Match is needed"),
    "rate_limited": (429, "Too many requests"),
    "quota": (429, "The tenant has too many active jobs"),
    "queue_full": (429, "The queue is full"),
    "internal": (500, "Something went wrong here"),
    "db_busy": (503, "The database is busy or away"),
    "storage_full": (503, "The storage is full"),
    "artifact_corrupt": (503, "The file is damaged and is not served"),
    "artifact_missing": (503, "The file is not in the store"),
    "overloaded": (503, "The service is overloaded"),
}
_STATUS_CODES: Final = {404: "not_found", 405: "method_not_allowed", 400: "malformed_body", 413: "payload_too_large"}


class Problem(HTTPException):
    """An error with a code of PROBLEMS. `extra` are further members of the document; `errors` are for 422.

    The detail is shown to the caller: it must hold nothing that the caller sent and nothing internal.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        status, self.title = PROBLEMS[code]
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = [dict(e) for e in errors]
        self.extra = extra

    def document(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem as plain values, under 4 KiB as JSON."""
        found: dict[str, Any] = {
            "type": f"urn:bespoke:problem:{self.code}",
            "title": self.title,
            "status": self.status_code,
            "detail": self.detail[:MOST_DETAIL],
        }
        if self.errors or self.status_code == 422:
            errors = self.errors or [error("", self.code, self.detail or self.title)]
            found["errors"] = [{k: v[:200] for k, v in e.items()} for e in errors[:MOST_ERRORS]]
        found.update(self.extra)
        if request_id is not None:
            found["request_id"] = request_id
        while len(json.dumps(found)) > MOST_BYTES and found.get("errors"):
            found["errors"].pop()
        return found


def error(pointer: str, code: str, detail: str) -> dict[str, str]:
    """One entry of `errors[]`; `pointer` is a JSON pointer into the request's body, or `query/name`."""
    return {"pointer": pointer, "code": code, "detail": detail}


def not_found(what: str) -> Problem:
    """The same answer for what is not there and for what is another tenant's."""
    return Problem("not_found", f"no such {what}; list what there is with a GET on its collection")


def invalid(pointer: str, code: str, detail: str) -> Problem:
    """A 422 about one place of the request."""
    return Problem("validation", detail, errors=[error(pointer, code, detail)])


def _table(e: Any) -> Problem:
    rows = [error(f"/rows/{number - 1}", "row", f"row {number}: {reason}") for number, reason in e.rows]
    return Problem("invalid_table", str(e), errors=rows, rows=[number for number, _ in e.rows])


def infeasible(e: domain.InfeasibleBudget, target: int = 0) -> Problem:
    """An unreachable budget of a target: which constraint, and the range that it can reach."""
    detail, pointer = str(e), f"/targets/{target}/budget/{e.constraint}"
    errors = [error(pointer, "infeasible_budget", detail)]
    return Problem("infeasible_budget", detail, errors=errors, **domain.reachable(e))


def _missing(e: Any) -> Problem:
    return Problem("missing_latency", str(e), missing=list(e.operators[:10]), missing_count=len(e.operators))


def _no_table(e: Any) -> Problem:
    extra: dict[str, Any] = {"missing": list(e.operators[:10]), "missing_count": len(e.operators)} if e.operators else {}
    return Problem("no_table", str(e), **extra)


_DOMAIN: Final[tuple[tuple[type[Exception], Callable[[Any], Problem]], ...]] = (
    (domain.InvalidTable, _table),
    (domain.InfeasibleBudget, infeasible),
    (domain.MissingLatency, _missing),
    (domain.TooFewNetworks, lambda e: Problem("too_few_networks", str(e), missing_networks=e.missing)),
    (domain.NoTable, _no_table),
    (domain.ContextMismatch, lambda e: Problem("context_mismatch", str(e))),
    (domain.PoorCalibration, lambda e: Problem("poor_calibration", str(e))),
    (domain.UnknownSpace, lambda e: Problem("unknown_space", str(e))),
    (domain.UnknownDataset, lambda e: Problem("unknown_dataset", str(e))),
    (domain.InvalidDataset, lambda e: Problem("unknown_dataset", str(e))),
    (domain.UnknownRecipe, lambda e: Problem("validation", str(e))),
    (domain.InvalidArchitecture, lambda e: Problem("validation", str(e))),
    (domain.InvalidMeasurement, lambda e: Problem("validation", str(e))),
    (domain.InvalidOperator, lambda e: Problem("validation", str(e))),
    (domain.JobEnded, lambda e: Problem("job_ended", str(e), state=e.state)),
    (domain.JobConflict, lambda e: Problem("conflict", "the job changed at the same moment; read it again")),
    (domain.ArtifactCorrupt, lambda e: Problem("artifact_corrupt", "its bytes are not those of its SHA-256")),
    (domain.ArtifactMissing, lambda e: Problem("artifact_missing", "ask the operator to run `bespoke doctor`")),
)
_RETRY: Final = {"Retry-After": "2"}


def problem_of(exception: BaseException) -> Problem:
    """The problem an exception leaves as; what nobody foresaw is `internal` and tells nothing."""
    if isinstance(exception, Problem):
        return exception
    for kind, translate in _TRANSLATIONS:
        if isinstance(exception, kind):
            return translate(exception)
    return Problem("internal", "the operator finds the reason in the log, under the request id")


def _http(e: HTTPException) -> Problem:
    """What Starlette and FastAPI raise themselves: unknown path, wrong method, unreadable body."""
    code = _STATUS_CODES.get(e.status_code, "malformed_body" if e.status_code < 500 else "internal")
    return Problem(code, headers=e.headers)


def _os(e: OSError) -> Problem:
    if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Problem("storage_full", "free some space; nothing was stored", headers=_RETRY)
    return Problem("internal", "the operator finds the reason in the log, under the request id")


def _database(e: Exception) -> Problem:
    text = str(getattr(e, "orig", e)).lower()
    if "disk is full" in text or "no space" in text:
        return Problem("storage_full", "free some space; nothing was stored", headers=_RETRY)
    return Problem("db_busy", "try again in a moment", headers=_RETRY)


def _conflict(e: IntegrityError) -> Problem:
    return Problem("conflict", "something else was written at the same moment; read the present state and try again")


_TRANSLATIONS: Final[tuple[tuple[type[Exception], Callable[[Any], Problem]], ...]] = (
    *_DOMAIN,
    (RequestValidationError, lambda e: validation_problem(e.errors())),
    (HTTPException, _http),
    (IntegrityError, _conflict),
    (OperationalError, _database),
    (InterfaceError, _database),
    (InternalError, _database),
    (PoolTimeout, _database),
    (OSError, _os),
)
_KNOWN_NAMES: set[str] = set()


def register_names(names: Sequence[str]) -> None:
    """Names of our own fields: only these may stand in a pointer, since other keys are the caller's input."""
    _KNOWN_NAMES.update(names)


def validation_problem(found: Sequence[Any]) -> Problem:
    """A 422 from pydantic's errors, without inputs and without keys that are the caller's."""
    errors = [error(_pointer(e["loc"]), _code(e["type"]), _message(e)) for e in found[:MOST_ERRORS]]
    detail = f"{len(found)} thing(s) are wrong; first, {errors[0]['pointer'] or 'the body'}: {errors[0]['detail']}"
    return Problem("validation", detail, errors=errors)


def _pointer(location: Sequence[int | str]) -> str:
    place, rest = (location[0], location[1:]) if location else ("body", ())
    parts: list[str] = []
    for part in rest:
        if isinstance(part, int) or part in _KNOWN_NAMES:
            parts.append(str(part))
        elif "[" not in part and not part.startswith("function-"):  # pydantic's own words for a branch of a union
            break
    path = "".join(f"/{p}" for p in parts)
    return path if place == "body" else f"{place}{path}"


def _code(kind: str) -> str:
    return {"missing": "required", "extra_forbidden": "unknown_field"}.get(kind, kind)


def _message(e: Mapping[str, Any]) -> str:
    if e["type"] == "extra_forbidden":
        return "a field that is not known here; the contract lists what may be sent"
    if e["type"] == "value_error":
        return str(e["ctx"]["error"])
    if e["type"] in ("json_invalid", "json_type"):
        return "the body is not JSON"
    return str(e["msg"])


def problem_response(problem: Problem, request_id: str | None) -> Response:
    """The answer for a problem. A body that was not read to its end closes the connection."""
    headers = dict(problem.headers or {})
    if problem.code in ("payload_too_large", "read_timeout"):
        headers["Connection"] = "close"
    content = json.dumps(problem.document(request_id), ensure_ascii=True, allow_nan=False)
    return Response(content, problem.status_code, headers, MEDIA_TYPE)


async def on_error(request: Request, exception: Exception) -> Response:
    """FastAPI's handler for every exception it knows about."""
    return problem_response(problem_of(exception), getattr(request.state, "request_id", None))
