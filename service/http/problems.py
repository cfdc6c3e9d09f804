"""The one table of what can go wrong: code -> HTTP status and title, for the API's answers and for `error` of
a job.

A problem document (RFC 9457) has `type`, the code's URN; `code`; `title`, `status`, `detail`, and further
members. ERRORS says which error of ours has which code and which members. No web framework here: the worker
loads this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from latency_tables.errors import (
    BespokeError,
    ContextMismatch,
    InvalidForm,
    InvalidJson,
    InvalidMeasurement,
    InvalidOperator,
    InvalidTable,
    InvalidTextNetwork,
    MissingLatency,
    PoorCalibration,
    TooFewNetworks,
)
from service.db.documents import Document
from service.errors import ArtifactCorrupt, ArtifactMissing, ImplausibleNetworks, JobConflict, JobEnded
from supernets.errors import (
    ExportFailed,
    InfeasibleBudget,
    InvalidArchitecture,
    InvalidCheckpoint,
    InvalidCompression,
    InvalidDataset,
    InvalidPrecision,
    InvalidPredictor,
    InvalidPreprocessing,
    InvalidPruning,
    InvalidSearch,
    InvalidTraining,
    MemoryLimitTooLow,
    NoTable,
    RankLost,
    SearchUnfinished,
    TrainingDiverged,
    UnknownDataset,
    UnknownRecipe,
    UnknownSpace,
    UnknownStrategy,
    UnservableContext,
    reachable,
)

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
    "nothing_measured": (422, "The device cannot run what it was given to measure"),
    "needs_review": (422, "The latency table needs a review before it is used"),
    "poor_calibration": (422, "The latency table does not explain the device"),
    "unservable_context": (422, "Nothing can be measured or delivered in this context"),
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
    "unknown_strategy": (422, "There is no such search strategy"),
    "unknown_recipe": (422, "There is no such training recipe"),
    "invalid_operator": (422, "That is not an operator"),
    "invalid_measurement": (422, "That cannot be a latency"),
    "invalid_architecture": (422, "The architecture is not in its search space"),
    "invalid_search": (422, "The search cannot be run as it was asked for"),
    "search_unfinished": (422, "The time was too short to find a network"),
    "invalid_dataset": (422, "The files are not the data set they should be"),
    "invalid_preprocessing": (422, "The preprocessing does not lead to a network's input"),
    "invalid_training": (422, "The training cannot be run as it was asked for"),
    "invalid_predictor": (422, "The data do not make an accuracy predictor"),
    "invalid_checkpoint": (422, "The checkpoint is damaged or of another search space"),
    "memory_limit": (422, "No way to train keeps the limit on memory"),
    "invalid_text_network": (422, "The files are no transformer that generates, or the text is none"),
    "training_diverged": (422, "The loss of the training is not a number any more"),
    "invalid_compression": (422, "The network cannot be compressed as it was asked for"),
    "invalid_precision": (422, "These blocks cannot be computed in int8 as it was asked for"),
    "invalid_pruning": (422, "Channels cannot be cut out of these networks as it was asked for"),
    "export_failed": (422, "The network does not become a file that can be delivered"),
    "refused": (422, "This cannot be done as it was asked for"),
    "training_lost": (500, "The shared training ended without a result"),
    "training_failed": (500, "The shared training failed"),
    "quarantined": (500, "Quarantined after three crashes"),
    "timeout": (500, "A step took longer than it may"),
    "out_of_memory": (500, "A step needs more memory than there is"),
    "internal": (500, "Something went wrong here"),
    "db_busy": (503, "The database is busy or away"),
    "storage_full": (503, "The storage is full"),
    "artifact_corrupt": (503, "The file is damaged and is not served"),
    "artifact_missing": (503, "The file is not in the store"),
    "overloaded": (503, "The service is overloaded"),
}
_URN: Final = "urn:bespoke:problem:"
_OLD_URN: Final = "urn:bespoke:"  # of jobs that failed before 0.2: words joined by hyphens


@dataclass(frozen=True)
class Kind:
    """What a problem document says of an error.

    members: further members of the document. detail: instead of the error's own message. answered_as: the
    code in the API's answers, where the contract v1 has a wider one.
    """

    code: str
    members: Callable[[Any], Document] = lambda _error: {}
    detail: str | None = None
    answered_as: str | None = None


def _missing(e: MissingLatency | NoTable) -> Document:
    return {"missing": list(e.operators[:10]), "missing_count": len(e.operators)} if e.operators else {}


ERRORS: Final[dict[type[BespokeError], Kind]] = {
    BespokeError: Kind("refused", answered_as="internal"),
    InvalidTable: Kind("invalid_table", lambda e: {"rows": [number for number, _ in e.rows]}),
    InfeasibleBudget: Kind("infeasible_budget", reachable),
    MissingLatency: Kind("missing_latency", _missing),
    TooFewNetworks: Kind("too_few_networks", lambda e: {"missing_networks": e.missing}),
    NoTable: Kind("no_table", _missing),
    ContextMismatch: Kind("context_mismatch"),
    InvalidForm: Kind("validation"),
    InvalidJson: Kind("malformed_body"),
    PoorCalibration: Kind("poor_calibration"),
    UnknownSpace: Kind("unknown_space"),
    UnknownDataset: Kind("unknown_dataset"),
    UnknownStrategy: Kind("unknown_strategy", answered_as="validation"),
    UnknownRecipe: Kind("unknown_recipe", answered_as="validation"),
    InvalidDataset: Kind("invalid_dataset", answered_as="unknown_dataset"),
    InvalidPreprocessing: Kind("invalid_preprocessing"),
    InvalidOperator: Kind("invalid_operator", answered_as="validation"),
    InvalidMeasurement: Kind("invalid_measurement", answered_as="validation"),
    InvalidArchitecture: Kind("invalid_architecture", answered_as="validation"),
    InvalidSearch: Kind("invalid_search"),
    SearchUnfinished: Kind("search_unfinished"),
    InvalidTraining: Kind("invalid_training"),
    MemoryLimitTooLow: Kind("memory_limit", lambda e: {"least_mb": e.least_mb}),
    InvalidPredictor: Kind("invalid_predictor"),
    InvalidCheckpoint: Kind("invalid_checkpoint"),
    InvalidTextNetwork: Kind("invalid_text_network"),
    RankLost: Kind("training_lost"),
    TrainingDiverged: Kind(
        "training_diverged", lambda e: {"phase": e.phase, "epoch": e.epoch, "step": e.step}
    ),
    InvalidCompression: Kind("invalid_compression"),
    InvalidPrecision: Kind("invalid_precision"),
    InvalidPruning: Kind("invalid_pruning"),
    ExportFailed: Kind("export_failed"),
    UnservableContext: Kind("unservable_context"),
    JobEnded: Kind("job_ended", lambda e: {"state": e.state}),
    JobConflict: Kind("conflict", detail="the job changed at the same moment; read it again"),
    ImplausibleNetworks: Kind("implausible"),
    ArtifactCorrupt: Kind("artifact_corrupt", detail="its bytes are not those of its SHA-256"),
    ArtifactMissing: Kind("artifact_missing", detail="ask the operator to run `bespoke doctor`"),
}


def kind_of(error: type[BespokeError]) -> Kind:
    """What the table says of an error, or of the nearest one that it is a case of."""
    return next(ERRORS[parent] for parent in error.__mro__ if parent in ERRORS)


def members_of(error: BespokeError) -> Document:
    return kind_of(type(error)).members(error)


def urn(code: str) -> str:
    return f"{_URN}{code}"


def document(code: str, detail: str, **members: Any) -> Document:
    """A problem document as plain values."""
    status, title = PROBLEMS[code]
    return {"type": urn(code), "code": code, "title": title, "status": status, "detail": detail, **members}


def with_code(problem: Mapping[str, object]) -> Document:
    """A stored problem with its `code`: jobs that failed before 0.2 have it only in the `type`, which stays
    as it was."""
    named = str(problem.get("type", ""))
    code = (
        named.removeprefix(_URN) if named.startswith(_URN) else named.removeprefix(_OLD_URN).replace("-", "_")
    )
    return {"code": code if code in PROBLEMS else "internal", **problem}
