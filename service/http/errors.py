"""Which error becomes which answer: every error leaves as `application/problem+json` (RFC 9457).

Problem (HTTPException) is what the service raises itself, with a code of `service.http.problems.PROBLEMS`.
Domain errors are translated by `problem_of`, by the same table. A problem never holds what the caller sent,
and is under 4 KiB whatever happened.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from latency_tables.errors import BespokeError, InvalidTable
from service.db.documents import Document, Fields
from service.db.faults import AWAY, Conflict
from service.http import problems
from service.http.problems import PROBLEMS, urn
from supernets.errors import InfeasibleBudget

MEDIA_TYPE: Final = "application/problem+json"
MOST_BYTES: Final = 4000
MOST_DETAIL: Final = 1200  # five operators in full
MOST_ERRORS: Final = 20
_STATUS_CODES: Final = {
    404: "not_found",
    405: "method_not_allowed",
    400: "malformed_body",
    413: "payload_too_large",
}


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
        members: Fields | None = None,
        **extra: object,
    ) -> None:
        status, self.title = PROBLEMS[code]
        super().__init__(status, detail, headers)
        self.code = code
        self.errors = [dict(e) for e in errors]
        self.extra = {**(members or {}), **extra}

    def document(self, request_id: str | None = None) -> Document:
        """The problem as plain values, under 4 KiB as JSON."""
        found: Document = {
            "type": urn(self.code),
            "code": self.code,
            "title": self.title,
            "status": self.status_code,
            "detail": self.detail[:MOST_DETAIL],
        }
        errors: list[dict[str, str]] = []
        if self.errors or self.status_code == 422:
            told = self.errors or [error("", self.code, self.detail or self.title)]
            errors = [{k: v[:200] for k, v in e.items()} for e in told[:MOST_ERRORS]]
            found["errors"] = errors
        found.update(self.extra)
        if request_id is not None:
            found["request_id"] = request_id
        # Shortened from the end: the first errors are those to mend first.
        while len(json.dumps(found)) > MOST_BYTES and errors:
            errors.pop()
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


def _table(e: InvalidTable) -> Problem:
    rows = [error(f"/rows/{number - 1}", "row", f"row {number}: {reason}") for number, reason in e.rows]
    return Problem("invalid_table", str(e), errors=rows, members=problems.members_of(e))


def infeasible(e: InfeasibleBudget, target: int = 0) -> Problem:
    """An unreachable budget of a target: which constraint, and the range that it can reach."""
    detail, pointer = str(e), f"/targets/{target}/budget/{e.constraint}"
    errors = [error(pointer, "infeasible_budget", detail)]
    return Problem("infeasible_budget", detail, errors=errors, members=problems.members_of(e))


def _of_ours(e: BespokeError) -> Problem:
    """Any other error of ours: what `service.http.problems` says of it; what it does not know is not for the
    caller."""
    kind = problems.kind_of(type(e))
    if kind.answered_as == "internal":
        return Problem("internal", _INTERNAL)
    return Problem(kind.answered_as or kind.code, kind.detail or str(e), members=problems.members_of(e))


_INTERNAL: Final = "the operator finds the reason in the log, under the request id"
_RETRY: Final = {"Retry-After": "2"}


def problem_of(exception: BaseException) -> Problem:
    """The problem an exception leaves as; what nobody foresaw is `internal` and tells nothing."""
    if isinstance(exception, Problem):
        return exception
    for kind, translate in _TRANSLATIONS:
        if isinstance(exception, kind):
            return translate(exception)
    return Problem("internal", _INTERNAL)


def _http(e: HTTPException) -> Problem:
    """What Starlette and FastAPI raise themselves: unknown path, wrong method, unreadable body."""
    code = _STATUS_CODES.get(e.status_code, "malformed_body" if e.status_code < 500 else "internal")
    return Problem(code, headers=e.headers)


def _os(e: OSError) -> Problem:
    if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Problem("storage_full", "free some space; nothing was stored", headers=_RETRY)
    return Problem("internal", _INTERNAL)


def _database(e: Exception) -> Problem:
    # SQLite has one class of error for a full disk and for a lock; only the words tell them apart.
    text = str(getattr(e, "orig", e)).lower()
    if "disk is full" in text or "no space" in text:
        return Problem("storage_full", "free some space; nothing was stored", headers=_RETRY)
    return Problem("db_busy", "try again in a moment", headers=_RETRY)


def _conflict(e: Conflict) -> Problem:
    return Problem(
        "conflict", "something else was written at the same moment; read the present state and try again"
    )


_TRANSLATIONS: Final[tuple[tuple[type[Exception], Callable[[Any], Problem]], ...]] = (
    (InvalidTable, _table),
    (InfeasibleBudget, infeasible),
    (BespokeError, _of_ours),
    (RequestValidationError, lambda e: validation_problem(e.errors())),
    (HTTPException, _http),
    (Conflict, _conflict),
    *((kind, _database) for kind in AWAY),
    (OSError, _os),
)
_KNOWN_NAMES: set[str] = set()


def register_names(names: Sequence[str]) -> None:
    """Names of our own fields: only these may stand in a pointer, since other keys are the caller's input."""
    _KNOWN_NAMES.update(names)


def validation_problem(found: Sequence[Any]) -> Problem:
    """A 422 from pydantic's errors, without inputs and without keys that are the caller's."""
    errors = [error(_pointer(e["loc"]), _code(e["type"]), _message(e)) for e in found[:MOST_ERRORS]]
    detail = (
        f"{len(found)} thing(s) are wrong; first, {errors[0]['pointer'] or 'the body'}: {errors[0]['detail']}"
    )
    return Problem("validation", detail, errors=errors)


def _pointer(location: Sequence[int | str]) -> str:
    place, rest = (location[0], location[1:]) if location else ("body", ())
    parts: list[str] = []
    # A pointer may hold our own names only: any other key is the caller's text, and is never echoed.
    for part in rest:
        if isinstance(part, int) or part in _KNOWN_NAMES:
            parts.append(str(part))
        elif "[" not in part and not part.startswith(
            "function-"
        ):  # pydantic's own words for a branch of a union
            break
    path = "".join(f"/{p}" for p in parts)
    return path if place == "body" else f"{place}{path}"


def _code(kind: str) -> str:
    # "literal_error": what v1 has always said where a value must be one of a list.
    return {"missing": "required", "extra_forbidden": "unknown_field", "enum": "literal_error"}.get(
        kind, kind
    )


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
