"""An installation in a temporary folder: database, store, acknowledged jobs, worker processes that can be
killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select

from service.artifacts import ArtifactStore
from service.db.migrate import upgrade
from service.db.models import Job, JobEvent, Supernet, Tenant, now
from service.db.session import create_db_engine, session_factory
from service.db.states import ENDED
from service.db.transitions import ask_cancel, create_job
from service.failpoints import VARIABLE
from service.jobs.queue import JobQueue
from service.local.doctor import ERROR, doctor
from service.settings import Settings

REPOSITORY = Path(__file__).parents[2]
BEAT_S, DEAD_S = 0.5, 3.0


class Installation:
    """Use as a context manager: it kills its workers and asks the doctor when it ends."""

    def __init__(self, folder: Path, database_url: str = "") -> None:
        self.folder = folder
        self.settings = Settings(
            data_dir=folder / "data",
            database_url=database_url,
            heartbeat_s=BEAT_S,
            dead_after_s=DEAD_S,
            verify_timeout_s=20,
        )
        self.settings.data_dir.mkdir(parents=True)
        self.engine = create_db_engine(self.settings.resolved_database_url)
        upgrade(self.engine)
        self.sessions = session_factory(self.engine)
        self.queue = JobQueue(self.settings.resolved_database_url)
        self.store = ArtifactStore(self.settings.data_dir / "artifacts")
        self.workers: list[subprocess.Popen[bytes]] = []
        with self.sessions.begin() as session:
            session.add(Tenant(id="ten_1", name="one"))

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *reason: object) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                with suppress(ProcessLookupError):
                    worker.send_signal(signal.SIGCONT)
                    worker.kill()
                worker.wait()
        self.queue.close()
        if reason[0] is None:
            assert eventually(lambda: not self.children(), 60), f"orphan processes: {self.children()}"
            assert [f for f in doctor(self.settings) if f.severity == ERROR] == []
        self.engine.dispose()

    def start_worker(self, module: str = "worker", failpoint: str = "") -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "BESPOKE_DATA_DIR": str(self.settings.data_dir),
            "BESPOKE_DATABASE_URL": self.settings.database_url,
            "BESPOKE_HEARTBEAT_S": str(BEAT_S),
            "BESPOKE_DEAD_AFTER_S": str(DEAD_S),
            "BESPOKE_VERIFY_TIMEOUT_S": "20",
            "OMP_NUM_THREADS": "1",
            "BESPOKE_TEST_INSTALLATION": str(self.folder),
        }
        environment.pop(VARIABLE, None)
        if failpoint:
            environment[VARIABLE] = failpoint
        with (self.folder / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", module], cwd=REPOSITORY, env=environment, stderr=log, stdout=log
            )
        self.workers.append(worker)
        return worker

    @property
    def log(self) -> str:
        return (self.folder / "worker.log").read_text(errors="replace")

    def children(self) -> list[int]:
        """Processes of this installation that are still there: their command line names its folder."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words = (place / "cmdline").read_bytes() + b" " + os.readlink(place / "fd" / "2").encode()
                if str(self.folder).encode() in words and int(place.name) != os.getpid():
                    found.append(int(place.name))
        return found

    def supernet(self, recipe: str = "trial", digest: str = "d" * 64, seed: int = 0) -> str:
        with self.sessions.begin() as session:
            row = Supernet(
                id=f"sup_{digest[:8]}", tenant_id="ten_1", digest=digest, space="digits-mbv3", dataset="digits", recipe=recipe,
                seed=seed, classes=10, created_at=now(),
            )  # fmt: skip
            session.add(row)
            return row.id

    def submit(self, kind: str, request: dict[str, Any]) -> str:
        with self.sessions.begin() as session:
            job = create_job(session, tenant_id="ten_1", kind=kind, request=request)
            self.queue.submit(session, job)
            return job.id

    def cancel(self, job_id: str) -> None:
        with self.sessions.begin() as session:
            job = session.get(Job, job_id)
            assert job is not None
            ask_cancel(session, job)
        self.queue.cancel(job_id)

    def job(self, job_id: str) -> Job:
        with self.sessions() as session:
            job = session.get(Job, job_id)
            assert job is not None
            return job

    def events(self, job_id: str, kind: str | None = None) -> list[dict[str, Any]]:
        """Data of a job's events, in order."""
        query = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.sequence)
        with self.sessions() as session:
            return [
                {"kind": e.kind, "at": e.at, **e.data}
                for e in session.scalars(query)
                if kind in (None, e.kind)
            ]

    def wait(self, job_id: str, silence_s: float = 240, states: Iterable[str] = ENDED) -> Job:
        """The job once it is in one of the states; an error when no worker is left or nothing is heard of it
        for so long."""
        wanted, heard, news = set(states), 0, time.monotonic()
        while self.job(job_id).state not in wanted and any(w.poll() is None for w in self.workers):
            count = len(self.events(job_id))
            if count != heard:
                heard, news = count, time.monotonic()
            if time.monotonic() - news > silence_s:
                break
            time.sleep(0.1)
        job = self.job(job_id)
        assert job.state in wanted, (
            f"job is {job.state}; events {self.events(job_id)[-5:]}; log {self.log[-3000:]}"
        )
        return job


def eventually(condition: Callable[[], Any], timeout_s: float, poll_s: float = 0.1) -> bool:
    """Whether the condition comes true in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(poll_s)
    return bool(condition())
