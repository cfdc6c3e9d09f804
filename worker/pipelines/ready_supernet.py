"""A trained supernet with its predictor: asked for by every job that needs it, trained once for all of them.

A job starts the shared training (`train_supernet`) if nobody has, waits for its end and reads what it left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dbos import EnqueueOptions

from service.db import supernets as supernet_rows
from service.db.documents import Fields, part
from service.db.models import Supernet
from service.db.session import Session
from service.http.problems import document
from service.jobs.queue import TRAINING
from service.jobs.requests import SupernetRequest, read
from supernets.accuracy.likelihood import Scale
from supernets.spaces.architecture import SpaceRef
from supernets.spaces.catalog import space_at
from supernets.spaces.space import Space
from worker.compute.requests import SupernetRef
from worker.context import JobRun, WorkerContext
from worker.errors import JobQuarantined, SharedFailure, UnknownSupernet

TRAIN_WORKFLOW: Final = "train_supernet"
WAIT_S: Final = 0.5


@dataclass(frozen=True)
class ReadySupernet:
    """A trained supernet as the pipelines use it.

    scale: how log-likelihoods are read as accuracies, None where networks are ranked by counted answers.
    class_weights: as it was trained with. steps, epochs: of its training, None where nobody knows.
    """

    id: str
    space: Space
    dataset: str
    recipe: str
    seed: int
    weights_sha256: str
    predictor: Fields
    dataset_fingerprint: str | None = None
    scale: Scale | None = None
    class_weights: str | None = None
    steps: int | None = None
    epochs: int | None = None
    parent: str | None = None

    def generating(self, asked: Mapping[str, int] | None) -> ReadySupernet:
        """The same with its space priced for another sentence, where one was asked for. Raises
        InvalidArchitecture."""
        return self if asked is None else replace(self, space=self.space.generating(asked))

    @property
    def ref(self) -> SupernetRef:
        """The supernet as a child is told of it."""
        return SupernetRef(self.space.ref, self.dataset, self.weights_sha256, self.dataset_fingerprint)


def supernet(run: JobRun) -> Fields:
    """The pipeline of a `supernet` job: train, or find trained."""
    ready = ensure_supernet(run, read(SupernetRequest, run.request).supernet_id)
    return {"supernet_id": ready.id}


def ensure_supernet(run: JobRun, supernet_id: str) -> ReadySupernet:
    """The trained supernet, after waiting for its training where needed. Raises SharedFailure,
    JobQuarantined, UnknownSupernet."""
    training = _Awaited(run)
    while True:
        run.check()
        # Read anew each time: another job, or an import, may have made it ready.
        row = run.context.transaction(lambda session: _load(session, supernet_id))
        ready = _ready(row)
        if ready is not None:
            return ready
        training.look_after(row.digest)
        run.pause(WAIT_S)


def _ready(row: Supernet) -> ReadySupernet | None:
    """The supernet of a row, None where it is not trained yet."""
    if row.ready_at is None or row.weights_sha256 is None or row.predictor is None:
        return None
    scale, summary = part(row.summary, "scale"), row.summary or {}
    return ReadySupernet(
        row.id,
        space_at(SpaceRef(row.space, row.classes)),
        row.dataset,
        row.recipe,
        row.seed,
        row.weights_sha256,
        row.predictor,
        row.dataset_fingerprint,
        scale=Scale(**scale) if scale else None,
        class_weights=supernet_rows.class_weights_of(row),
        steps=_number(summary, "steps"),
        epochs=_number(summary, "epochs"),
        parent=row.parent_id,
    )


def _number(summary: Fields, name: str) -> int | None:
    found = summary.get(name)
    return found if isinstance(found, int) else None


class _Awaited:
    """The training that a job waits for: started where there is none, and again where it stopped early."""

    def __init__(self, run: JobRun) -> None:
        self._run, self._workflow = run, ""

    def look_after(self, digest: str) -> None:
        """Raises what the training failed with."""
        if not self._workflow:
            self._run.progress("train_supernet", 0.0, "waiting for a free training slot", always=True)
            self._workflow = attach(self._run.context, digest, self._run.priority)
        elif _failed(self._run.context, self._workflow):
            self._workflow = ""


def attach(context: WorkerContext, digest: str, priority: int) -> str:
    """The id of the training under way for a digest, started if there is none."""
    prefix = f"supernet-{digest}-"
    known = context.queue.list_workflows(workflow_id_prefix=prefix, load_input=False, load_output=False)
    under_way = [status.workflow_id for status in known if status.status in ("ENQUEUED", "PENDING")]
    if under_way:
        return under_way[-1]
    # Two jobs that see no training choose the same id, and the second one attaches to the first one's.
    number = 1 + max((int(status.workflow_id.removeprefix(prefix)) for status in known), default=0)
    options: EnqueueOptions = {
        "workflow_name": TRAIN_WORKFLOW,
        "queue_name": TRAINING,
        "workflow_id": f"{prefix}{number}",
        "priority": priority,
    }
    context.queue.enqueue(options, digest)
    return options["workflow_id"]


def _load(session: Session, supernet_id: str) -> Supernet:
    row = supernet_rows.by_id(session, supernet_id)
    if row is None:
        raise UnknownSupernet("the supernet of this job is no longer there; train it again")
    return row


def _failed(context: WorkerContext, workflow: str) -> bool:
    """Whether the training has ended without a supernet and may be started again. Raises what it failed
    with."""
    status = context.queue.list_workflows(workflow_ids=[workflow])[0]
    if status.status in ("ENQUEUED", "PENDING", "DELAYED"):
        return False
    outcome = status.output if isinstance(status.output, dict) else {}
    if status.status == "SUCCESS" and "error" not in outcome:
        # Stopped for nobody waited, just as this job began to: then it is started again.
        return bool(outcome.get("stopped"))
    problem = outcome.get("error") or document("training_lost", f"the shared training ended {status.status}")
    # The engine gives up a workflow whose workers die with it; to the jobs that is a quarantine as well.
    if outcome.get("quarantined") or status.status == "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
        raise JobQuarantined(problem)
    raise SharedFailure(problem)
