"""Who lives: the heartbeat of this worker, the reaper of the others, and the hand-over of their jobs.

A worker is dead when its heartbeat has not changed for `dead_after_s` of *this* process's monotonic clock, or
when its process is gone from this host. No wall clock takes part, so a jump of one kills nobody and keeps
nobody alive. Only time in which we could read heartbeats counts: while the database is away, nobody is
silent. A worker that finds itself marked dead ends at once (exit code 75).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSClient

from service.artifacts import ArtifactStore
from service.db import jobs as job_rows
from service.db import workers
from service.db.session import Session, Sessions
from service.db.states import JobState
from service.db.transitions import move
from service.errors import JobConflict
from service.settings import Settings
from worker.steps import TRANSIENT
from worker.upkeep import TIDY_S, forget_happenings, prune, sweep_files, sweep_trainings

FENCED: Final = 75
SWEEP_S: Final = 1.0
CANCEL_GRACE_S: Final = 4.0
_FORGET: Final = timedelta(days=7)
log = logging.getLogger("bespoke.worker")


def host_name() -> str:
    """This host and its process namespace: within one of these, a process id means one process."""
    try:
        # Containers of one host share its name; in another namespace the same process id is another
        # process.
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = "pid"
    return f"{socket.gethostname()}/{namespace}"[:128]


def new_worker_id() -> str:
    """Unique per life of a process."""
    # With the time, since process ids come round again.
    return f"{socket.gethostname()[:60]}-{os.getpid()}-{time.time_ns():x}"


def hand_over(client: DBOSClient, dead: Sequence[str]) -> int:
    """Give the unfinished workflows of dead workers back to their queues; how many. Idempotent.

    The one place that uses a private function of the engine; tests/worker/test_liveness.py holds it in place.
    """
    left = (
        client.list_workflows(status="PENDING", executor_id=list(dead), load_input=False, load_output=False)
        if dead
        else []
    )
    owners = sorted({status.executor_id for status in left if status.executor_id})
    if owners:
        DBOS._recover_pending_workflows(owners)
    return len(left)


class Liveness:
    """Beats, reaps and sweeps in a thread of its own from `start` on."""

    def __init__(self, settings: Settings, worker_id: str, sessions: Sessions, client: DBOSClient) -> None:
        self._settings = settings
        self._id = worker_id
        self._host = host_name()
        self._sessions = sessions
        self._client = client
        self._seen: dict[
            str, tuple[Any, float]
        ] = {}  # worker -> (its last heartbeat, seconds since without another)
        # Its own clock alone: those of other hosts may be minutes off.
        self._looked = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="liveness", daemon=True)

    def start(self) -> None:
        with self._sessions.begin() as session:
            workers.add(session, self._id, self._host, os.getpid())
        self._thread.start()

    def retire(self) -> None:
        """Say that this worker is gone, so that its jobs move at once."""
        self._stop.set()
        with self._sessions.begin() as session:
            workers.bury(session, self._id)

    def _loop(self) -> None:
        beaten = tidied = float("-inf")
        while not self._stop.is_set():
            try:
                if time.monotonic() - beaten >= self._settings.heartbeat_s:
                    self.beat()
                    beaten = time.monotonic()
                self.sweep_cancelled()
                if time.monotonic() - tidied >= TIDY_S:
                    tidied = time.monotonic()
                    self._tidy()
            except TRANSIENT as error:
                log.warning("the database does not answer", extra={"reason": type(error).__name__})
            except Exception:
                # Among them: the engine is not up yet. A worker whose heart stops for good would be worse
                # than any of it.
                log.exception("a heartbeat failed")
            self._stop.wait(min(SWEEP_S, self._settings.heartbeat_s))

    def beat(self) -> None:
        """One heartbeat: say that we live, or end if we were declared dead; bury the dead; take over their
        jobs."""
        with self._sessions.begin() as session:
            fenced = not workers.beat(session, self._id)
        if fenced and not self._stop.is_set():
            log.error("this worker was declared dead; it ends")
            # At once and without cleaning up: another worker has our jobs, whatever we still write is in
            # its way.
            os._exit(FENCED)
        with self._sessions.begin() as session:
            self._bury(session)
            workers.forget(session, _FORGET)
        with self._sessions.begin() as session:
            dead = workers.dead(session)
        moved = hand_over(self._client, dead)
        if moved:
            log.info("took over workflows of dead workers", extra={"workflows": moved})

    def sweep_cancelled(self) -> None:
        """End jobs whose cancellation nobody carried out, e.g. because their worker died."""
        with self._sessions.begin() as session:
            ids = job_rows.cancelled_in_vain(session, timedelta(seconds=CANCEL_GRACE_S))
        for job_id in ids:
            with suppress(JobConflict), self._sessions.begin() as session:
                move(session, job_id, JobState.CANCELLED, from_states=(JobState.RUNNING,))

    def _tidy(self) -> None:
        pruned = prune(self._client)
        forget_happenings(self._sessions)
        removed = sweep_files(self._sessions, ArtifactStore(self._settings.data_dir / "artifacts"))
        trainings = sweep_trainings(self._sessions, self._settings.data_dir / "work")
        if pruned or removed or trainings:
            log.info("tidied", extra={"workflows": pruned, "files": removed, "trainings": trainings})

    def _bury(self, session: Session) -> None:
        # After a stop of its own (a suspended machine) it has not listened: such time proves nobody silent.
        listened_s = min(time.monotonic() - self._looked, 2 * self._settings.heartbeat_s)
        self._looked = time.monotonic()
        for other in workers.living(session, besides=self._id):
            if self._is_dead(other.id, other.host, other.pid, other.seen_at, listened_s):
                log.warning("worker declared dead", extra={"worker": other.id})
                workers.bury(session, other.id)

    def _is_dead(self, worker_id: str, host: str, pid: int, seen_at: Any, listened_s: float) -> bool:
        # On this host it can be seen at once; for the others only their silence tells.
        if host == self._host and not _process_lives(pid):
            return True
        last, silent_s = self._seen.get(worker_id, (None, 0.0))
        silent_s = silent_s + listened_s if last == seen_at else 0.0
        self._seen[worker_id] = (seen_at, silent_s)
        return silent_s > self._settings.dead_after_s


def _process_lives(pid: int) -> bool:
    """Whether a process of that id runs here; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path("/proc/self").exists()
