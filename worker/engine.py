"""The worker process: takes jobs from the queue, one thread each, and hands them back when it is told to end.

A workflow of the engine (DBOS) is one job, or the training of one supernet that many jobs wait for. What
survives a crash is in our own tables: results of steps, keyed by their inputs. So a job that moved to another
worker runs its pipeline again from the top and finds all that is done.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import types
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Final

from dbos import DBOS, DBOSClient, DBOSConfig

from latency_tables.errors import BespokeError
from service.artifacts import ArtifactStore
from service.db import jobs as job_rows
from service.db.documents import Fields
from service.db.migrate import upgrade
from service.db.session import Session, create_db_engine, session_factory
from service.db.states import ACTIVE, ENDED, JobState
from service.db.transitions import add_event, crashes, move
from service.errors import JobConflict
from service.failpoints import failpoint
from service.jobs.queue import APPLICATION, JOBS, SERIALIZER, TRAINING, WORKFLOWS, JobQueue
from service.settings import Settings
from worker.context import JobRun, WorkerContext, hand_back, quarantine_problem
from worker.errors import JobCancelled, JobLost, JobQuarantined, WorkerStopping
from worker.liveness import Liveness, new_worker_id
from worker.pipelines.catalog import PIPELINES
from worker.pipelines.ready_supernet import TRAIN_WORKFLOW
from worker.pipelines.train_supernet import train_shared
from worker.probation import Probation
from worker.problems import problem_of
from worker.steps import MAX_CRASHES, TRANSIENT

APPLICATION_VERSION: Final = (
    "workflows-1"  # raise it only when running workflows cannot go on with the new code
)
DRAIN_S: Final = 8.0
log = logging.getLogger("bespoke.worker")


class Engine:
    """One worker process. `run` returns only by `stop` (or SIGTERM), which ends the process."""

    def __init__(self, settings: Settings) -> None:
        url = settings.resolved_database_url
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = create_db_engine(url)
        # Every worker tries; the migrations hold a lock, so the first one does it and the others wait.
        upgrade(database)
        JobQueue(url).close()  # the engine's tables and queues exist before anything listens to them
        client = DBOSClient(
            system_database_url=url,
            serializer=SERIALIZER,
            application_name=APPLICATION,
            system_database_pool_size=5,
        )
        sessions = session_factory(database)
        store = ArtifactStore(settings.data_dir / "artifacts")
        self.context = WorkerContext(settings, new_worker_id(), sessions, store, client)
        self._liveness = Liveness(settings, self.context.worker_id, sessions, client)
        self._probation = Probation(self.context.stopping)
        self._active: set[int] = set()
        self._lock = threading.Lock()
        self._told = threading.Event()
        self._boot(url)

    def _boot(self, url: str) -> None:
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": url,
            # Unique per life of a process: the engine then never takes up work by itself after a restart,
            # and the reaper alone decides whose jobs move.
            "executor_id": self.context.worker_id,
            "application_version": APPLICATION_VERSION,
            "serializer": SERIALIZER,
            "log_level": "WARNING",
            "run_migrations": False,
        }
        DBOS(config=config)
        # Without a limit: how often a job may be lost is counted in its own row (`claim`), not by the
        # engine.
        for name in WORKFLOWS.values():
            DBOS.workflow(name=name, max_recovery_attempts=None)(self._parked(_named(self._job, name)))
        DBOS.workflow(name=TRAIN_WORKFLOW, max_recovery_attempts=20)(
            self._parked(_named(self._train, TRAIN_WORKFLOW))
        )
        DBOS.listen_queues([JOBS, TRAINING])

    def run(self) -> None:
        """Work until told to stop. Ends the process: the engine's threads would keep it alive."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._liveness.start()
        DBOS.launch()
        log.info("worker is ready", extra={"worker": self.context.worker_id})
        self._told.wait()
        self.stop()

    def stop(self) -> None:
        """Hand every job back and end the process with code 0."""
        log.info("worker stops")
        self.context.stopping.set()
        end = time.monotonic() + DRAIN_S
        while self._active and time.monotonic() < end:
            time.sleep(0.05)
        with suppress(*TRANSIENT):  # the database is away: the others will notice that this worker is gone
            self._liveness.retire()
        # Not sys.exit: threads of the engine and parked workflows would keep the process alive.
        os._exit(0)

    def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
        self._told.set()

    def _parked(self, work: Callable[[str], Fields]) -> Callable[[str], Fields]:
        """A workflow that returns only when its job has ended: returning, or raising, would mark it as done
        for all workers."""

        def workflow(argument: str) -> Fields:
            key = threading.get_ident()
            with self._lock:
                self._active.add(key)
            try:
                return work(argument)
            except (WorkerStopping, JobLost):
                pass
            except Exception:
                log.exception("a workflow failed outside its job", extra={"workflow": argument})
            finally:
                with self._lock:
                    self._active.discard(key)
            # Parked: this thread has nothing to do any more, and returning would tell the engine that it is
            # done.
            while True:
                time.sleep(3600)

        workflow.__qualname__ = workflow.__name__ = work.__name__
        return workflow

    def _train(self, digest: str) -> Fields:
        return train_shared(self.context, digest)

    def _job(self, job_id: str) -> Fields:
        """One attempt at a job; alone at first, where the worker that had it was lost. What it returns only
        the engine sees."""
        if self.context.stopping.is_set():
            raise WorkerStopping
        state, lost = self.context.transaction(lambda session: _state_and_losses(session, job_id))
        with (
            self._probation.alone(job_id, suspected=lost > 0) if state == JobState.RUNNING else nullcontext()
        ):
            return self._attempt(job_id)

    def _attempt(self, job_id: str) -> Fields:
        """From claim to the last transaction."""
        attempt = self.context.transaction(lambda session: claim(session, job_id, self.context.worker_id))
        if attempt is None:
            return {"skipped": True}
        run = JobRun(self.context, job_id, attempt)
        failpoint("job.claimed")
        try:
            result = PIPELINES[run.kind](run)
            run.check()
            failpoint("job.finishing")
            end_job(run, JobState.SUCCEEDED, result=result)
        except JobCancelled:
            end_job(run, JobState.CANCELLED)
        except WorkerStopping:
            hand_back(run)
            raise
        # Ended meanwhile is over for us too; running elsewhere must not look finished to the engine.
        except JobLost:
            if not self._has_ended(job_id):
                raise
        except JobQuarantined as error:
            end_job(run, JobState.QUARANTINED, error=error.problem)
        except BespokeError as error:
            end_job(run, JobState.FAILED, error=problem_of(error))
        # A bug of ours. Trying again would only repeat it, so the job fails and says whose fault it is.
        except Exception as error:
            log.exception("job failed", extra={"job": job_id})
            end_job(run, JobState.FAILED, error=problem_of(error))
        return {"done": True}

    def _has_ended(self, job_id: str) -> bool:
        state = self.context.transaction(lambda session: job_rows.state_of(session, job_id))
        return state is None or state in ENDED


def _state_and_losses(session: Session, job_id: str) -> tuple[str | None, int]:
    """(state, crashes known so far): the loss that a claim would count is not among them."""
    return job_rows.state_of(session, job_id), crashes(session, job_id)


def claim(session: Session, job_id: str, worker_id: str) -> int | None:
    """Make the job ours; the number of the attempt, or None when there is nothing to do. Counts crashes;
    never reads the request.

    A job found running was lost by its worker without a word: that is a crash. The third one quarantines it.
    """
    row = job_rows.hold(session, job_id)
    if row is None or row.state not in ACTIVE:
        return None
    state = JobState(row.state)
    # Cancelled while nobody had it: nothing was begun, so nothing has to be stopped.
    if row.cancel_asked_at is not None:
        move(session, job_id, JobState.CANCELLED, from_states=(state,), attempt=row.attempts)
        return None
    if state is JobState.RUNNING:
        problem = _lost(session, job_id, row.progress["step"] if row.progress else "start")
        if problem is not None:
            quarantined, own = JobState.QUARANTINED, (state,)
            move(session, job_id, quarantined, from_states=own, attempt=row.attempts, error=problem)
            return None
    attempt = int(row.attempts) + 1
    mine = {"attempts": attempt, "worker_id": worker_id}
    move(
        session,
        job_id,
        JobState.RUNNING,
        from_states=(state,),
        attempt=row.attempts,
        data={"attempt": attempt},
        values=mine,
    )
    return attempt


def _lost(session: Session, job_id: str, step: str) -> Fields | None:
    """Count a loss as a crash; the problem of a job that was lost too often, else None."""
    said = {"step": step, "signal": 0, "message": "the worker process was lost"}
    add_event(session, job_id, "crashed", said)
    return quarantine_problem(step, 0) if crashes(session, job_id) >= MAX_CRASHES else None


def end_job(
    run: JobRun,
    state: JobState,
    *,
    result: Fields | None = None,
    error: Fields | None = None,
) -> None:
    """The last transaction of a job. Does nothing when it is no longer ours."""

    def last(session: Session) -> None:
        move(
            session,
            run.job_id,
            state,
            from_states=(JobState.RUNNING,),
            attempt=run.attempt,
            result=result,
            error=error,
        )
        for write in run.last_writes if state is JobState.SUCCEEDED else ():
            write(session)

    with suppress(JobConflict):
        run.context.transaction(last)


def _named(method: Callable[[str], Fields], name: str) -> Callable[[str], Fields]:
    def work(argument: str) -> Fields:
        return method(argument)

    work.__name__ = work.__qualname__ = name
    return work
