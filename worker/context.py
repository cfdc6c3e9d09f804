"""What a running job may use: its row, the stores, its steps. One `WorkerContext` per process, one `JobRun`
per attempt.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, TypeVar

from dbos import DBOSClient

from latency_tables.errors import InvalidForm
from service.artifacts import ArtifactStore
from service.db import job_log, steps
from service.db import jobs as job_rows
from service.db.documents import Document, Fields
from service.db.faults import Conflict
from service.db.session import Session, Sessions
from service.db.states import JobState
from service.db.transitions import add_event, move, record_progress
from service.errors import JobConflict
from service.failpoints import failpoint
from service.http.problems import document
from service.settings import Settings
from worker.compute.codec import CODEC
from worker.errors import ChildCrashed, JobCancelled, JobLost, JobQuarantined, WorkerStopping
from worker.steps import MAX_CRASHES, TRANSIENT, persist, step_digest, tries, worth_another

Result = TypeVar("Result")
Answer = TypeVar("Answer")
CHECK_S: Final = 0.5
PROGRESS_S: Final = 1.0
_QUERY: Final = 500
log = logging.getLogger("bespoke.worker")


@dataclass(frozen=True)
class WorkerContext:
    """Shared by all jobs of one worker process.

    stopping: set when the worker was told to end. torch_children: how many children may hold torch at once;
    jobs beyond wait.
    """

    settings: Settings
    worker_id: str
    sessions: Sessions
    store: ArtifactStore
    queue: DBOSClient
    stopping: threading.Event = field(default_factory=threading.Event)
    torch_children: threading.Semaphore = field(
        # Two at least: one job that waits for a child must not keep all others from theirs.
        default_factory=lambda: threading.Semaphore(max(2, os.cpu_count() or 2))
    )

    def work_folder(self, name: str) -> Path:
        """A folder of our own for files that are not results yet."""
        folder = self.settings.data_dir / "work" / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def pause(self, seconds: float) -> None:
        """Sleep, but not past the end of the worker. Raises WorkerStopping."""
        if self.stopping.wait(seconds):
            raise WorkerStopping

    def transaction(self, action: Callable[[Session], Result]) -> Result:
        """`action` in a transaction of its own, again after transient errors of the database."""

        def once() -> Result:
            with self.sessions.begin() as session:
                return action(session)

        return persist(once, self.pause)

    def remembered(self, digests: Sequence[str]) -> Document:
        """Digest -> result, for those of the steps that some job has done."""
        found: Document = {}
        # SQLite takes no more than some thousand values in one statement.
        for start in range(0, len(digests), _QUERY):
            some = partial(steps.remembered, digests=digests[start : start + _QUERY])
            found.update(self.transaction(some))
        return found


@dataclass(frozen=True)
class Standing:
    """Where a job is: fraction of its step, what to say of it, how long it will take, numbers for a curve."""

    step: str
    fraction: float
    message: str
    eta_s: float | None = None
    metrics: Fields | None = None

    def record(self, session: Session, job_id: str, attempt: int | None = None) -> None:
        """As a job's progress. Raises JobConflict where it is not running, or not by this attempt."""
        record_progress(
            session,
            job_id,
            self.step,
            self.fraction,
            self.message,
            self.eta_s,
            attempt=attempt,
            metrics=self.metrics,
        )


class Run(ABC):
    """What a pipeline works through: steps with remembered results, progress, events, and the wish to stop.

    A run belongs to one thread. Every write is guarded, so a worker that lost its job writes nothing.
    """

    def __init__(self, context: WorkerContext) -> None:
        self.context = context
        # A job that was cancelled while it was queued ends at its first check, not half a second later.
        self._checked = float("-inf")
        self._reported = float("-inf")
        self._step = ""

    @abstractmethod
    def look(self) -> None:
        """Ask the database whether to go on; raises what ends the run."""

    @abstractmethod
    def record(self, session: Session, kind: str, data: Fields) -> None:
        """Add an event in the caller's transaction. Raises JobConflict when the job is no longer ours."""

    @abstractmethod
    def record_progress(self, session: Session, standing: Standing) -> None:
        """Set the progress in the caller's transaction. Raises JobConflict when the job is no longer ours."""

    def check(self) -> None:
        """Call often. Raises JobCancelled, WorkerStopping or JobLost when the run must stop here."""
        if self.context.stopping.is_set():
            raise WorkerStopping
        # `check` is called in tight loops; the database is asked twice a second at most.
        if time.monotonic() - self._checked >= CHECK_S:
            self._checked = time.monotonic()
            self.look()

    def pause(self, seconds: float) -> None:
        """Sleep while looking out for a reason to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check()
            self.context.pause(min(left, CHECK_S))
        self.check()

    def write(self, action: Callable[[Session], Result]) -> Result:
        """A transaction of this run. Raises JobLost where the job is no longer ours."""
        try:
            return self.context.transaction(action)
        except JobConflict as error:
            # A guarded write that finds no row: the job has moved, and whatever else we do is for nobody.
            raise JobLost from error

    @abstractmethod
    def jobs(self, session: Session) -> Sequence[str]:
        """Ids of the jobs that get what is said here."""

    def say(self, source: str, lines: Sequence[str]) -> None:
        """Keep lines in the log of the job (`GET /v1/jobs/{id}/log`). source: `worker`, or the child's
        name.
        """
        if lines:
            self.write(lambda session: self._log(session, source, lines))

    def _log(self, session: Session, source: str, lines: Sequence[str]) -> None:
        for job_id in self.jobs(session):
            job_log.append(session, job_id, self._step, source, lines)

    def event(self, kind: str, data: Fields) -> None:
        self.write(lambda session: self.record(session, kind, data))

    def progress(
        self,
        step: str,
        fraction: float,
        message: str,
        eta_s: float | None = None,
        *,
        always: bool = False,
        metrics: Fields | None = None,
    ) -> None:
        """Report progress; reports that follow within a second of another are left out unless `always`."""
        if not always and fraction < 1 and time.monotonic() - self._reported < PROGRESS_S:
            return
        self._reported = time.monotonic()

        def report(session: Session) -> None:
            self.record_progress(session, Standing(step, fraction, message, eta_s, metrics))
            if message:
                self._log(session, "worker", [f"{100 * fraction:3.0f} % {message}"])

        self.write(report)

    def step(self, name: str, inputs: Fields, answer: type[Answer], work: Callable[[], Answer]) -> Answer:
        """The result of a named step: remembered if any job has done it with these inputs, else done now.

        answer: the type of the result, a small one that names artifacts by SHA-256, kept as the JSON of that
        type. The result and the event are one transaction.
        """
        self.check()
        self._step = name
        digest = step_digest(name, inputs)
        known = self._complete(self.context.remembered([digest]), answer)
        if digest in known:
            self.event("step_reused", {"step": name, "digest": digest[:12]})
            return known[digest]
        started = time.monotonic()
        self.event("step_started", {"step": name, "digest": digest[:12]})
        # Crash tests kill the process at these three places: before the work, between work and row, after.
        failpoint("step.started")
        result = self._insist(name, work)
        failpoint("step.computed")
        self._store(name, {digest: CODEC.write(result, answer)}, time.monotonic() - started)
        failpoint("step.stored")
        return result

    def steps(
        self,
        name: str,
        inputs: Sequence[Fields],
        answer: type[Answer],
        work: Callable[[list[int]], Sequence[Answer]],
    ) -> list[Answer]:
        """Results of many like steps, in order. `work` gets the indices of those that no job has done yet."""
        self.check()
        self._step = name
        digests = [step_digest(name, one) for one in inputs]
        known = self._complete(self.context.remembered(digests), answer)
        # The first of equal inputs does the work for all of them: two targets often want the same network.
        first = {digest: index for index, digest in reversed(list(enumerate(digests)))}
        missing = sorted(index for digest, index in first.items() if digest not in known)
        if missing:
            started = time.monotonic()
            self.event(
                "step_started", {"step": name, "count": len(missing), "reused": len(first) - len(missing)}
            )
            failpoint("step.started")
            done = self._insist(name, lambda: work(missing))
            failpoint("step.computed")
            new = {digests[index]: result for index, result in zip(missing, done, strict=True)}
            written = {digest: CODEC.write(result, answer) for digest, result in new.items()}
            # One transaction for all of them: a crash here does them again, and never half of them wrongly.
            self._store(name, written, time.monotonic() - started)
            failpoint("step.stored")
            known |= new
        elif digests:
            self.event("step_reused", {"step": name, "count": len(first)})
        return [known[digest] for digest in digests]

    def _store(self, name: str, results: Fields, elapsed_s: float) -> None:
        def store(session: Session) -> None:
            steps.keep(session, name, results)
            done: Document = {
                "step": name,
                "count": len(results),
                "digest": next(iter(results))[:12],
                "elapsed_s": round(elapsed_s, 3),
            }
            self.record(session, "step_done", done)

        with suppress(Conflict):  # another job stored the same step at the same moment
            self.write(store)

    def _complete(self, remembered: Fields, answer: type[Answer]) -> dict[str, Answer]:
        """The remembered results that can be read and whose files are still there, byte for byte."""
        found: dict[str, Answer] = {}
        for digest, result in remembered.items():
            if all(self.context.store.whole(sha256) for sha256 in named_files(result)):
                try:
                    found[digest] = CODEC.read(answer, result)
                except InvalidForm as error:  # another version's: done again, it is then written over
                    log.warning(
                        "a step's result cannot be read", extra={"digest": digest, "reason": str(error)}
                    )
        return found

    def _insist(self, name: str, work: Callable[[], Result]) -> Result:
        """Do the work; again with back-off after transient errors and crashes. Raises JobQuarantined."""
        crashes = 0
        for attempt in tries(self.pause):
            try:
                return work()
            except ChildCrashed as crash:
                crashes += 1
                self.event("crashed", {"step": name, "signal": crash.signal, "message": str(crash)})
                self.say("worker", [f"crash {crashes} of {MAX_CRASHES}: {crash}"])
                log.warning("child crashed", extra={"step": name, "tail": crash.tail})
                if crashes == MAX_CRASHES:
                    # Three times the same step has killed its child: a fourth try would take it along
                    # again.
                    raise JobQuarantined(quarantine_problem(name, crash.signal)) from crash
            except TRANSIENT as error:
                if not worth_another(error, attempt):
                    raise
                self.event("retrying", {"step": name, "reason": type(error).__name__, "attempt": attempt + 1})
                self.say("worker", [f"tried again after {type(error).__name__}"])
        raise AssertionError("unreachable")


class JobRun(Run):
    """One attempt at a job; `attempt` guards its writes."""

    def __init__(self, context: WorkerContext, job_id: str, attempt: int) -> None:
        super().__init__(context)
        self.job_id = job_id
        self.attempt = attempt
        job = context.transaction(lambda session: job_rows.handle(session, job_id))
        self.tenant_id, self.kind, self.priority = job.tenant_id, job.kind, job.priority
        # A model must not be there while its job still runs, nor a job succeed without its models.
        self.last_writes: list[Callable[[Session], None]] = []

    def jobs(self, session: Session) -> Sequence[str]:
        return [self.job_id]

    @cached_property
    def request(self) -> dict[str, Any]:
        """What was asked for; read here and not earlier, so that one that cannot be read fails its job and
        nothing else.
        """
        return self.context.transaction(lambda session: job_rows.request_of(session, self.job_id))

    def at_end(self, write: Callable[[Session], None]) -> None:
        """Do this in the transaction that marks the job as succeeded: all of a result, or nothing."""
        self.last_writes.append(write)

    def look(self) -> None:
        row = self.context.transaction(lambda session: job_rows.look(session, self.job_id))
        if row is None or row.state != JobState.RUNNING or row.attempts != self.attempt:
            raise JobLost
        if row.cancel_asked_at is not None:
            raise JobCancelled

    def record(self, session: Session, kind: str, data: Fields) -> None:
        job_rows.fence(session, self.job_id, self.attempt)
        add_event(session, self.job_id, kind, data, locked=True)

    def record_progress(self, session: Session, standing: Standing) -> None:
        standing.record(session, self.job_id, self.attempt)


def named_files(result: Any) -> list[str]:
    """Every value of a key that ends in `sha256`, at any depth."""
    if isinstance(result, dict):
        own = [v for k, v in result.items() if k.endswith("sha256") and isinstance(v, str)]
        return own + [f for v in result.values() for f in named_files(v)]
    return [f for v in result for f in named_files(v)] if isinstance(result, list) else []


def quarantine_problem(step: str, signal: int) -> Fields:
    """The problem object of a job that crashed three times."""
    how = f"signal {signal}" if signal else "the worker process was lost"
    detail = (
        f"Three attempts ended in a crash, the last one in step {step!r} ({how}). An operator must "
        "look at it."
    )
    return document("quarantined", detail, step=step, signal=signal)


def hand_back(run: JobRun) -> None:
    """Queue the job again, for another worker; not counted as a crash. Where the database is away, the reaper
    moves it later.
    """
    with suppress(JobConflict, *TRANSIENT), run.context.sessions.begin() as session:
        move(
            session,
            run.job_id,
            JobState.QUEUED,
            from_states=(JobState.RUNNING,),
            attempt=run.attempt,
            data={"reason": "the worker was stopped"},
            values={"worker_id": None},
        )
